//! Why a machine cannot be reached.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use charly_target_core::TargetError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name, or what is configured for it, makes no sense.
    #[error("{what}")]
    Route {
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Nothing answers.
    #[error("nothing answers at `{at}`")]
    Connect {
        /// The machine and its port.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("`{at}` did not {what} within {} s", .limit.as_secs())]
    Slow {
        /// The machine and its port.
        at: String,
        /// What it was to do.
        what: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// Whatever answers there did not come to terms with us.
    #[error("no SSH connection to `{at}` came about")]
    Handshake {
        /// The machine and its port.
        at: String,
        /// Why.
        source: russh::Error,
    },
    /// The machine's key is not one that is known to be its own.
    #[error("{what}")]
    HostKey {
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A file of known hosts that was asked for cannot be read.
    #[error("the known hosts in `{path}` cannot be read")]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine lets nobody in whom we can pretend to be.
    #[error("`{at}` does not let `{user}` in{}", attempts(.tried))]
    Auth {
        /// The machine and its port.
        at: String,
        /// The user.
        user: String,
        /// What was tried, and what came of it.
        tried: Vec<String>,
        /// What to do about it.
        hint: String,
    },
    /// An identity that was asked for cannot be used.
    #[error("the identity `{path}` cannot be used")]
    Identity {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: russh::keys::Error,
    },
    /// The connection is there, but nothing can be started.
    #[error("no session could be opened on `{at}`")]
    Session {
        /// The machine and its port.
        at: String,
        /// Why.
        source: russh::Error,
    },
}

impl ConnectError {
    /// Tells it of a target.
    pub fn of(self, venue: &str) -> TargetError {
        let hint = match &self {
            Self::Route { hint, .. } => hint.clone(),
            Self::HostKey { what, hint } => {
                return TargetError::Refused { what: what.clone(), hint: hint.clone() };
            }
            Self::Auth { hint, .. } => Some(hint.clone()),
            Self::Connect { .. } | Self::Slow { .. } => {
                Some("nothing was forgotten; the same command goes on once it answers".to_owned())
            }
            // As OpenSSH does since 9.8, unless it is told not to.
            Self::Handshake { source: russh::Error::Disconnect | russh::Error::HUP, .. } => {
                let who = "a server turns away for a while whoever failed to log in just now, and all who are too many at once";
                Some(format!("{who}; the same command goes on when it lets you in"))
            }
            Self::Handshake { .. } | Self::Identity { .. } | Self::KnownHosts { .. } | Self::Session { .. } => None,
        };
        TargetError::Unreachable { venue: venue.to_owned(), source: self.into(), hint }
    }
}

fn attempts(tried: &[String]) -> String {
    if tried.is_empty() { String::new() } else { format!(" ({})", tried.join("; ")) }
}

/// Writes an error and all that caused it on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let parts: Vec<_> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    parts.join(": ")
}
