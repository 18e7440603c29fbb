//! Applies an InstallPlan beside its ledger; the program charly-guest.
