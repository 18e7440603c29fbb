//! `~/.ssh/config` and `/etc/ssh/ssh_config`, as far as they concern a connection of charly's.
//!
//! The rules are those of `ssh_config(5)`: the first value of a keyword wins, `IdentityFile` and `CertificateFile` add up. Differences, all
//! on purpose: keywords that concern no connection of ours are passed over, known or not; `Match exec` never runs a program, such a block
//! does not apply and a note says so; `CanonicalizeHostname` is not done, so `Match canonical` applies in the last pass alone, which
//! `Match final` asks for.

mod line;
mod matching;
mod reading;
mod value;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Address, Note, Place};

/// Whose configuration a file is, which says where its relative `Include`s are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The user's: relative to `~/.ssh`.
    User,
    /// The system's: relative to `/etc/ssh`.
    System,
}

/// A configuration file's text.
#[derive(Debug, Clone, Copy)]
pub struct ConfigFile<'a> {
    /// Where the text is from.
    pub path: &'a Path,
    /// The text.
    pub text: &'a str,
    /// Whose it is.
    pub scope: Scope,
}

/// What a user asked for: it wins over what files say.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The host as it was given, which `Host` patterns are compared with.
    pub host: &'a str,
    /// Who is to log in.
    pub user: Option<&'a str>,
    /// The port.
    pub port: Option<u16>,
}

/// What a configuration may refer to.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The local user's name.
    pub user: &'a str,
    /// The local user's number.
    pub uid: u32,
    /// The local user's home folder.
    pub home: &'a Path,
    /// Looks up a variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads the files that an `Include`'s absolute pattern names, in the order of their names. That there are none is no error.
    pub read: Reader<'a>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("user", &self.user)
            .field("uid", &self.uid)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// Reads the files of a pattern.
pub type Reader<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<(PathBuf, String)>>;

/// Where the keys of an agent are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// No agent is asked.
    Off,
    /// The agent behind this socket.
    Socket(PathBuf),
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The name or address to connect to, in lower case.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Key files in the order of trying; none if nothing was said, an empty list if there shall be none.
    pub identity_files: Option<Vec<PathBuf>>,
    /// Whether an agent's keys are offered only if an identity file names them.
    pub identities_only: bool,
    /// The agent, if something was said of it; otherwise it is what `SSH_AUTH_SOCK` names.
    pub identity_agent: Option<Agent>,
    /// The certificates that go with the keys.
    pub certificate_files: Vec<PathBuf>,
    /// The hosts to go through, nearest first. Their own configuration has yet to be resolved.
    pub jumps: Vec<Address>,
    /// The program to connect with, and where that is demanded.
    pub proxy_command: Option<(String, Place)>,
    /// The user's files of host keys.
    pub user_known_hosts: Vec<PathBuf>,
    /// The system's files of host keys.
    pub global_known_hosts: Vec<PathBuf>,
    /// The name under which host keys are looked up instead of the host's and its port.
    pub host_key_alias: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// What the user should know about lines that are not taken as written.
    pub notes: Vec<Note>,
}

/// A configuration that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    /// The line.
    pub place: Place,
    /// What is wrong there.
    pub what: String,
    /// What would do instead.
    pub hint: String,
    /// What is below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConfigError {
    fn new(place: &Place, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { place: place.clone(), what: what.into(), hint: hint.into(), source: None }
    }
}

/// Returns what files say of a host; the earlier file's word wins.
pub fn resolve(
    files: &[ConfigFile<'_>],
    asked: Asked<'_>,
    surroundings: Surroundings<'_>,
) -> Result<HostConfig, ConfigError> {
    reading::read(files, asked, surroundings)?.into_host(asked, surroundings)
}
