//! Makes container storage hold an image that the controller has.
//!
//! The machine's own podman takes what it lacks from a registry that stands on loopback for as long as it does so. Layers are
//! served uncompressed, under the digests that storage knows them by however they once arrived; their bytes come from the
//! controller when podman asks for them, and are packed on their way.
//!
//! | module | what it holds |
//! |---|---|
//! | `deliver` | from a request to an image that is there, whole, durable and named |
//! | `name` | what an image is called |
//! | `podman` | what podman knows and does |
//! | `pull` | podman at work, and the bytes on their way to it |
//! | `registry`, `http` | the registry |
//! | `seal` | whether a stored layer is still as it was when it was known to be whole |
//! | `scratch` | where that leaves what it may need again |
//!
//! Invariants: nothing is said to be there before it is durable. No image is taken away that a container uses. The registry
//! answers nobody who does not know its path, says nothing but this one image, and ends before its conversation does.

mod deliver;
mod http;
mod name;
mod podman;
mod pull;
mod registry;
mod scratch;
mod seal;

use std::path::PathBuf;

use charly_ir::facts::User;

use crate::process::Cancel;

pub(crate) use deliver::deliver;
pub use seal::print_fingerprints;

/// Whose storage an image is delivered to.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// Whose it is.
    pub user: User,
    /// That user's folder for what may be thrown away.
    pub cache: PathBuf,
    /// Where that user's storage usually is; only what is done first depends on it.
    pub storage: PathBuf,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

#[cfg(test)]
mod tests;
