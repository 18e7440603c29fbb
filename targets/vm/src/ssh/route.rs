//! The way to a machine.

use std::path::PathBuf;

/// One machine on the way, the last one being where we go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The name or address that is connected to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user there.
    pub user: String,
    /// The name under which its key is known.
    pub alias: Option<String>,
    /// The identities, in the order they are tried.
    pub identities: Vec<IdentityFile>,
    /// Whether the agent's other keys are left alone.
    pub identities_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The files of known hosts.
    pub known_hosts: Vec<PathBuf>,
}

/// An identity to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFile {
    /// Its file.
    pub file: PathBuf,
    /// Whether somebody asked for it, so that it must be there.
    pub required: bool,
}

impl Hop {
    /// Returns the machine and its port, for people.
    pub fn at(&self) -> String {
        match self.port {
            22 => self.host.clone(),
            port if self.host.contains(':') => format!("[{}]:{port}", self.host),
            port => format!("{}:{port}", self.host),
        }
    }

    /// Returns what `ssh` is given to log in.
    pub fn login(&self) -> String {
        match self.port {
            22 => format!("{}@{}", self.user, self.host),
            port => format!("-p {port} {}@{}", self.user, self.host),
        }
    }
}
