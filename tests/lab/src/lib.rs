//! Boots real Debian 13 guests for end-to-end tests.
//!
//! Two strengths: a container with its own systemd, network and sshd, up within a second, and a virtual machine with
//! its own kernel and cloud-init. A test asks for the lab, boots what it needs, and drops it:
//!
//! ```no_run
//! # fn main() -> Result<(), charly_lab::Error> {
//! let Some(lab) = charly_lab::require() else { return Ok(()) };
//! let guest = lab.nspawn("example")?;
//! let before = guest.snapshot()?;
//! guest.ssh("deploy", "touch marks")?.success()?;
//! let diff = before.diff(&guest.snapshot()?, charly_lab::ALLOWED);
//! assert!(diff.to_string().starts_with("added file /home/deploy/marks: f 0664 1000:1000 e3b0c442"));
//! # Ok(())
//! # }
//! ```
//!
//! Every guest has the users `root`, `deploy` (bash, sudo), `fishy` (fish, sudo), `cshy` (tcsh, sudo) and `plain`
//! (bash, no sudo), all of which trust [`Guest::key`].

mod allowed;
mod cgroup;
mod diff;
mod error;
pub mod fault;
mod guest;
mod host;
mod image;
mod lab;
mod nspawn;
mod proxy;
mod qemu;
mod snapshot;

pub use allowed::{ALLOWED, Allowed};
pub use diff::{Change, Diff};
pub use error::Error;
pub use guest::{Guest, Kind, Output};
pub use lab::{Lab, missing, require};
pub use snapshot::{Item, Snapshot, Subject};
