//! Virtual machines: their disks, their first boot, their life.

pub mod base;
pub mod bootstrap;
mod cloud_init;
pub mod disk;
mod distro;
mod error;
mod identity;
mod name;
pub mod qemu;
pub mod seed;
pub mod size;
pub mod spec;
pub mod state;
mod tool;

pub use cloud_init::Rendered;
pub use distro::{release, releases};
pub use error::MachineError;
pub use identity::KeyPair;
pub use name::{BadName, Name};
pub use spec::Spec;
pub use state::{Endpoint, State};

use serde::{Deserialize, Serialize};
/// What runs a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// QEMU itself.
    Qemu,
}
