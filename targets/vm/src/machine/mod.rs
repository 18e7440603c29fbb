//! Virtual machines: their disks, their first boot, their life.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | what a machine is to be: sizes read, defaults applied |
//! | [`state`] | what is known of it: one locked file, written whole or not at all |
//! | [`base`], [`bootstrap`] | disks that others lie over: fetched, or made of packages |
//! | [`disk`] | its own disk, made and changed by `qemu-img` |
//! | [`seed`] | what its first boot is told, on a small disk |
//! | [`backend`], [`qemu`] | what runs it |
//! | [`ssh_config`] | what plain `ssh` is told of it |
//! | [`autostart`] | whether it starts with its host |
//! | [`deployed`] | what is remembered of the deploy on it, and whether its time is over |
//! | [`life`] | all of it, from absent to ready and back |
//!
//! Others reach a machine by [`State::load`] and [`State::endpoint`], and give it power by [`Machines::start`].

pub mod autostart;
pub mod backend;
pub mod base;
pub mod bootstrap;
mod cloud_init;
pub mod deployed;
pub mod disk;
mod distro;
mod error;
mod fat;
mod identity;
pub mod life;
mod login;
mod make;
mod name;
mod port;
pub mod qemu;
mod ready;
mod rebuild;
mod resolve;
pub mod seed;
pub mod size;
pub mod spec;
pub mod ssh_config;
pub mod state;
mod tool;

pub use autostart::Autostart;
pub use backend::{BackendKind, VmBackend};
pub use cloud_init::Rendered;
pub use deployed::{Deployed, Disposition};
pub use distro::release;
pub use error::MachineError;
pub use identity::KeyPair;
pub use life::{Machines, Settings, Stage, Step};
pub use name::{BadName, Name};
pub use resolve::Reading;
pub use spec::Spec;
pub use state::{Endpoint, State};
