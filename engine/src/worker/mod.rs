//! Carries out the steps of one side of a venue, and undoes them.
//!
//! Work on a step goes through three stations. [`lower`] says which things the step wants; [`mod@assess`] compares them with
//! the venue and the ledger, touching nothing; [`mod@converge`] writes the intents down and makes the things so.
//! [`mod@release`] is the way back, and needs no plan: the ledger knows what each step claims and what was there before.

mod assess;
mod converge;
mod lower;
mod release;
mod spool;

use charly_ir::message::{Event, Kept, Problem};

pub(crate) use assess::{Assessment, DueReboot, Task, assess, deploy_name, detail, locate};
pub(crate) use converge::{converge, owe};
pub(crate) use release::{Release, ReleaseOptions, pending_problem, preview, release, release_folders};
pub(crate) use spool::{Arrival, Spool};

use crate::ledger::LedgerError;
use crate::tree::TreeError;

/// Why work stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// A path operation failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The ledger could not be written. What was promised is not known to be kept, so nothing more is done.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The plan asks for something that makes no sense here.
    #[error("{0}")]
    Plan(String),
    /// Another deploy wants the same thing to be something else.
    #[error("{what} `{subject}` is claimed by `{owner}`, which wants it otherwise")]
    Conflict {
        /// What sort of thing.
        what: String,
        /// The thing.
        subject: String,
        /// Whose it is: deploy and candy.
        owner: String,
    },
    /// The venue cannot take what the plan asks for, and nothing was touched to find out.
    #[error("{}", .0.what)]
    Unfit(Box<Problem>),
    /// The venue does not let this user act as root, or another run is at it; nothing was touched.
    #[error("{}", .0.what)]
    Denied(Box<Problem>),
    /// A step's own program failed.
    #[error("{}", .0.what)]
    Program(Box<Problem>),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl WorkError {
    /// Returns the error as its reader gets it.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Program(problem) | Self::Unfit(problem) | Self::Denied(problem) => (**problem).clone(),
            Self::Conflict { owner, .. } => {
                let hint = format!("take that one away first, or make both ask for the same; `{owner}` came first");
                Problem::from_error(self).hint(hint)
            }
            error => Problem::from_error(error),
        }
    }
}

/// Where work reports to.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Event);

/// What a stretch of work came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Steps that changed the venue.
    pub changed: u32,
    /// Steps that were undone.
    pub removed: u32,
    /// What was left behind on purpose.
    pub kept: Vec<Kept>,
    /// What could not be undone.
    pub pending: Vec<Problem>,
}
