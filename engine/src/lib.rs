//! Applies an InstallPlan to a root, beside the ledger that remembers it.

pub mod process;
