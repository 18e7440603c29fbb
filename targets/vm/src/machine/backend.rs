//! What runs machines.

use std::fmt::Debug;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::NetworkBackend;
use super::{MachineError, State};

/// The name of what runs a machine, as its state keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// QEMU itself.
    Qemu,
}

/// Whether a machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It was shut down, or never started.
    Off,
    /// What ran it ended without a shutdown.
    Lost,
    /// It runs.
    On,
    /// It is held.
    Paused,
}

/// What a start came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// What runs its instructions.
    pub accelerator: String,
    /// Why that is slower than it could be.
    pub slow: Option<String>,
    /// What carries its network.
    pub network: NetworkBackend,
    /// Why that is not what it could be.
    pub not_passt: Option<String>,
}

/// Why a machine did not start.
#[derive(Debug)]
pub enum NotLaunched {
    /// Somebody else has a port that leads into it.
    PortTaken(String),
    /// Anything else.
    Error(MachineError),
}

impl From<MachineError> for NotLaunched {
    fn from(error: MachineError) -> Self {
        Self::Error(error)
    }
}

/// What runs machines. A machine's `home` is its own folder.
pub trait VmBackend: Send + Sync + Debug {
    /// Returns its name.
    fn kind(&self) -> BackendKind;

    /// Finds out whether a machine has power: what is so, not what was last written down.
    fn power(&self, home: &Path, state: &State) -> Result<Power, MachineError>;

    /// Starts a machine that has no power.
    fn launch(&self, home: &Path, state: &State) -> Result<Launched, NotLaunched>;

    /// Presses its power button. Whether it minds is its own affair.
    fn press(&self, home: &Path, state: &State) -> Result<(), MachineError>;

    /// Cuts its power; fine where it has none.
    fn cut(&self, home: &Path, state: &State) -> Result<(), MachineError>;

    /// Waits until it has no power; `false` where it still has after so long.
    fn await_off(&self, home: &Path, state: &State, at_most: Duration) -> Result<bool, MachineError>;

    /// Opens a running machine's serial console.
    fn console(&self, home: &Path) -> io::Result<UnixStream>;

    /// Takes a snapshot of a running machine's disk; tells whether its file systems were at rest.
    fn snapshot(&self, home: &Path, state: &State, name: &str) -> Result<bool, MachineError>;

    /// Forgets a snapshot of a running machine's disk.
    fn forget(&self, home: &Path, state: &State, name: &str) -> Result<(), MachineError>;
}
