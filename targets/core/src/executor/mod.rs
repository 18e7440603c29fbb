//! How the controller reaches a machine outside the engine's protocol.
//!
//! The engine does the work on a venue. An executor is for what comes before there is one, and for what is none of its
//! business: running a container builder, moving a file, opening a tunnel.

mod nested;
mod recording;
mod shell;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

pub use nested::NestedExecutor;
pub use recording::{Call, RecordingExecutor};
pub use shell::ShellExecutor;

/// The most that is kept of either stream of a script.
pub const MAX_OUTPUT: usize = 1 << 20;

/// Runs scripts on a machine and moves files to and from it.
#[async_trait]
pub trait DeployExecutor: Send + Sync + Debug {
    /// Runs a script with `sh`. A script that fails is no error: its status is in the output.
    async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError>;

    /// Writes a file, atomically, with these permission bits.
    async fn put(&self, content: &mut (dyn Read + Send), path: &str, mode: u32) -> Result<(), ExecutorError>;

    /// Reads a file and returns its size.
    async fn get(&self, path: &str, into: &mut (dyn Write + Send)) -> Result<u64, ExecutorError>;

    /// Makes an address of the machine reachable and returns where, until the executor is closed.
    async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError>;

    /// Ends tunnels and connections. An executor that was closed answers nothing more.
    async fn close(&self) -> Result<(), ExecutorError>;
}

/// How a script is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShellOptions {
    /// Variables set for it.
    pub env: BTreeMap<String, String>,
    /// What it reads from its standard input.
    pub stdin: Vec<u8>,
    /// Bounds its run; it is killed then.
    pub timeout: Option<Duration>,
}

/// What a script did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShellOutput {
    /// Its exit status; 128 and the signal's number where one killed it.
    pub status: i32,
    /// What it wrote, capped at [`MAX_OUTPUT`].
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, capped likewise.
    pub stderr: Vec<u8>,
}

/// Why an executor has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// No shell could be started.
    #[error("no shell could be started")]
    Start(#[source] io::Error),
    /// The script took too long.
    #[error("the script did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A file could not be read or written.
    #[error("`{path}` could not be moved")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The executor was closed, or the machine went away.
    #[error("there is no connection")]
    Closed,
}
