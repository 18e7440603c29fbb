//! From candy files to an InstallPlan.
