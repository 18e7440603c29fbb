//! Installs packages through the venue's manager, and takes away exactly what came.
//!
//! | module | what it holds |
//! |---|---|
//! | `manager` | what apt, dnf, pacman and apk can do for the engine, and one module for each |
//! | `set`, `simulation` | what is there, and what a manager says it would do |
//! | `request` | a plan's packages made true: what is missing, what it takes, the installation |
//! | `transaction` | the ledger's resource: what there was before, and what the installation made |
//! | `tree`, `accounts` | the paths, users and groups that packages make beside their own files |
//! | `release` | which of all that goes when a claim ends, and which passes to another claim: a pure function |
//! | `teardown` | the release carried out |
//! | `runner` | how programs are run; tests answer from recordings |
//! | `words` | which of a plan's words may stand on a manager's command line |
//!
//! Invariant: nothing is removed that the transaction did not install; no manager's `autoremove` is ever called.

mod accounts;
mod apk;
mod apt;
mod dnf;
mod error;
mod manager;
mod pacman;
mod release;
mod request;
mod runner;
mod set;
mod simulation;
mod teardown;
mod transaction;
mod tree;
mod words;

use std::path::{Path, PathBuf};

pub use apk::Apk;
pub use apt::Apt;
pub use dnf::Dnf;
pub use error::{Fault, PackageError};
pub use manager::{Account, Manager, open};
pub use pacman::Pacman;
pub use release::{Heirloom, ReleasePlan, Transfer, plan_release};
pub use request::{install, missing, simulate, snapshot, unmarked};
pub use runner::{Processes, Runner, Sink};
pub use set::{Mark, Package, PackageSet, State};
pub use simulation::Simulation;
pub use teardown::{Survey, Teardown, Torn};
pub use transaction::{Before, Installed, Transaction};

use crate::process::Stream;

/// Returns a sink for answers that only the engine reads.
fn quiet() -> impl FnMut(Stream, &[u8]) {
    |_, _| {}
}

/// Reads lists of files, one absolute path a line.
fn listed(answer: &str) -> impl Iterator<Item = PathBuf> {
    answer.lines().filter(|line| line.starts_with('/')).map(|line| relative(Path::new(line)))
}

/// Returns a path relative to the root: paths of a venue are kept so, since its root need not be `/`.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}
