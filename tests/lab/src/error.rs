//! What can go wrong in the lab.

use std::io;

/// Says why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("could not {doing}")]
    Io {
        /// What was being done, as in "write `/x`".
        doing: String,
        /// The refusal.
        source: io::Error,
    },
    /// A program of the host failed.
    #[error("`{program}` failed: {stderr}")]
    Program {
        /// The command line.
        program: String,
        /// What it said, trimmed.
        stderr: String,
    },
    /// The guest cannot be reached over SSH.
    #[error("guest `{guest}` cannot be reached: {stderr}")]
    Unreachable {
        /// The guest's name.
        guest: String,
        /// What ssh said, trimmed.
        stderr: String,
    },
    /// A command in the guest exited with a failure.
    #[error("`{command}` exited with {status}: {stderr}")]
    Command {
        /// The command as it was given.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it said, trimmed.
        stderr: String,
    },
    /// The guest did not get where it should in time, or died on the way.
    #[error("guest `{guest}` did not {what}; its console ends with\n{console}")]
    NotReady {
        /// The guest's name.
        guest: String,
        /// What was waited for, as in "boot".
        what: &'static str,
        /// The last lines of its console.
        console: String,
    },
    /// The name is taken, unknown, or none.
    #[error("{0}")]
    Name(String),
    /// The host cannot carry a lab.
    #[error("{0}")]
    Host(String),
    /// The guest's inventory was not understood.
    #[error("could not read the guest's inventory: {0}")]
    Inventory(String),
}

impl Error {
    /// Gives `map_err` a closure that adds what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
