//! Applies an InstallPlan to a root, beside the ledger that remembers it.

pub mod process;
pub mod tree;

mod encoding;
pub mod ledger;
