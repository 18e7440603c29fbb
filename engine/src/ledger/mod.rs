//! Remembers what was applied, and what was there before.
//!
//! A ledger is a folder: snapshots in `deploys/` and `layers/`, readable without charly, and while a run is under way a
//! `journal`. Its state is the snapshots with the journal's records applied to them, and a record says what a thing *is*,
//! not how it changed, so applying one twice does no harm: a crash between two snapshot files is a crash like any other.
//!
//! Invariant: before anything on the venue is changed, the intent, with what was there before, is durable in the journal.
//! An intent is already a claim: whoever is killed after it has promised nothing that the next run, or a removal, does not know.

mod book;
mod contents;
mod error;
mod folder;
mod journal;
mod lock;
mod name;
mod record;
mod snapshot;
mod store;

pub use book::Book;
pub use error::LedgerError;
pub use journal::JournalError;
pub use lock::{Holder, Lock, LockError};
pub(crate) use name::is_unit_name;
pub use name::{DeployId, Resource, StepName};
pub use record::{
    Before, BlockState, CandyRecord, DeployRecord, Entry, Owed, Record, State, StepKey, StepRecord, UnitState,
};
pub use snapshot::FORMAT;
pub use store::{Interrupted, Ledger, Probe};
