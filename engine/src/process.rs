//! Starts programs and ends them, children included.
//!
//! Every program gets a *keeper*: a process between the engine and the program that adopts whatever descendants lose their
//! parent. All processes of a run are thereby below one process, however they detached themselves, and can be ended
//! together, as root or not, while other runs go on beside it. When the program has ended by itself, the keeper is taken
//! away and what is left (daemons) becomes init's.
//!
//! | module | what it holds |
//! |---|---|
//! | `run` | the run: output as it comes, time limit, cancel, daemons that keep the output open |
//! | `keeper` | the keeper, and the little that happens between fork and exec |
//! | [`tree`] | processes and their parents, from /proc |

mod keeper;
mod run;
pub mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

pub use run::{Capture, Captured, run, run_captured};

/// A program to be run: an argument array, an exact environment, no terminal.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; the program is searched in the environment's PATH.
    pub argv: Vec<OsString>,
    /// The whole environment: nothing is inherited.
    pub env: BTreeMap<OsString, OsString>,
    /// The folder it starts in.
    pub cwd: PathBuf,
    /// The user it runs as; absent for the engine's own.
    pub user: Option<Identity>,
    /// What it reads; empty for /dev/null.
    pub stdin: Vec<u8>,
    /// Bounds its run; absent for no bound.
    pub limit: Option<Duration>,
    /// A file made for the run. Whoever made it removes it; should the engine be killed before, it goes with the program.
    pub script: Option<PathBuf>,
}

/// A user to run as, resolved to numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The main group's number.
    pub gid: u32,
    /// The supplementary groups' numbers.
    pub groups: Vec<u32>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed when its time was up.
    TimedOut,
    /// It was killed because the run was cancelled hard.
    Killed,
}

/// One of a program's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A request to stop, shared between the session's reader and whatever runs.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// Asks once more: the first time for the next step boundary, from the second on for an end at once.
    pub fn escalate(&self) {
        let level = self.0.load(Ordering::SeqCst);
        self.0.store(level.saturating_add(1).min(2), Ordering::SeqCst);
    }

    /// Tells whether to stop at the next step boundary.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 1
    }

    /// Tells whether to kill what runs.
    pub fn is_hard(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 2
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("a kill when its time was up"),
            Self::Killed => f.write_str("a kill when the run was cancelled"),
        }
    }
}

#[cfg(test)]
mod tests;
