//! What the server is told: plain values, resolved by the program that starts it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use secrecy::SecretString;

/// Holds everything the server is told.
#[derive(Debug)]
pub struct Settings {
    /// Where the server listens.
    pub listen: Listen,
    /// The mode of the socket's file, where it listens on one.
    pub socket_mode: u32,
    /// The folder that holds the skills.
    pub skills: PathBuf,
    /// The folder that holds one manifest per skill, `<name>.yml`.
    pub manifests: Option<PathBuf>,
    /// The file that names the callers and their tokens.
    pub callers: Option<PathBuf>,
    /// The token of the caller `default`, who may run every skill.
    pub token: Option<SecretString>,
    /// Host names a request may carry besides the local ones.
    pub hosts: Vec<String>,
    /// Origins whose web pages may send requests.
    pub origins: Vec<String>,
    /// Whether only skills with a manifest can be run.
    pub require_manifest: bool,
    /// What becomes of runs where the kernel offers no sandbox.
    pub sandbox: SandboxMode,
    /// The folder in which each run gets a private one.
    pub work: PathBuf,
    /// Whether the parent process is the supervisor.
    pub supervised: bool,
    /// What bounds the server.
    pub limits: Limits,
    /// The credentials that manifests may grant, by variable name.
    pub environment: BTreeMap<String, SecretString>,
}

/// Names the place the server listens at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket's file.
    Unix(PathBuf),
}

/// Says that a text names no place to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address and port such as `127.0.0.1:8080`, or `unix:` and an absolute path")]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(ListenError),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenError),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Tells whether only this machine, or this pod, can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// Says what becomes of runs where the kernel offers no sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SandboxMode {
    /// Uses what the kernel has and says what is missing.
    #[default]
    Auto,
    /// Refuses to start without both Landlock and seccomp.
    Require,
    /// Uses neither.
    Off,
}

/// Bounds what callers can make the server hold and do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Runs at one time.
    pub runs: usize,
    /// Runs that wait for their turn.
    pub queue: usize,
    /// Connections at one time.
    pub connections: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes kept of each output stream.
    pub output: usize,
    /// Bytes that the results of tasks may take together.
    pub results: usize,
    /// How long a task's result is kept.
    pub result_age: Duration,
    /// The longest time a caller may ask for.
    pub run_time: Duration,
    /// How long the bytes of a request or an answer may keep the server waiting.
    pub patience: Duration,
    /// How long runs may go on after the server was told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            runs: 16,
            queue: 64,
            connections: 256,
            body: 1 << 20,
            output: 1 << 20,
            results: 64 << 20,
            result_age: Duration::from_secs(3600),
            run_time: Duration::from_secs(300),
            patience: Duration::from_secs(10),
            grace: Duration::from_secs(25),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen() {
        for (text, local) in [
            ("127.0.0.1:8080", true),
            ("[::1]:0", true),
            ("0.0.0.0:80", false),
            ("10.1.2.3:8080", false),
            ("unix:/run/skill.sock", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), text);
            assert_eq!(listen.is_local(), local, "{text}");
        }
        for text in ["", "8080", "localhost:8080", "unix:relative", "unix:", "127.0.0.1"] {
            assert_eq!(text.parse::<Listen>(), Err(ListenError), "{text}");
        }
    }
}
