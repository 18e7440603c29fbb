//! Where the steps of an image run that must run: the image's own root, below an OCI runtime.
//!
//! | module | what it holds |
//! |---|---|
//! | [`venue`] | the controller's side: a venue like any other, whose engine happens to be in an image |
//! | [`inside`] | the sandbox's side: layers unpacked and laid over each other, the runtime, and what it left as a layer |
//! | [`command`] | a program run in an image for what it makes in folders given to it |
//! | `bundle` | what the runtime is told |
//! | `trees` | the unpacked layers that runs leave for each other |
//! | `tidy` | what of a run is no part of the image |
//!
//! Both sides are the same program. The second runs in a mount namespace of its own, and where the first has no root in a
//! user namespace too, so that owners and capabilities of files read right while they are unpacked and packed.

mod bundle;
pub mod command;
pub mod inside;
mod tidy;
mod trees;
pub mod venue;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::layer::{Compression, Layer};
use crate::store::Store;

pub use command::{Bind, Command};
pub use trees::{TreesError, prune};
pub use venue::{Sandbox, Settings};

/// What the sandbox's side is asked to do. It goes over in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The layers of the image so far, the lowest first.
    pub lowers: Vec<Lower>,
    /// The folder that the unpacked layers lie in.
    pub trees: PathBuf,
    /// A folder for this run alone, on the same file system as the trees.
    pub work: PathBuf,
    /// The engine's program.
    pub engine: PathBuf,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Whether this is root in a user namespace alone.
    pub is_user_namespace: bool,
    /// The time that nothing in the layer is later than, in seconds since 1970.
    pub epoch: u64,
    /// How the layer is compressed.
    pub compression: Compression,
    /// By how many threads.
    pub threads: usize,
    /// Where the layer goes.
    pub blob: PathBuf,
    /// Where [`Outcome`] goes.
    pub outcome: PathBuf,
    /// What is run instead of the engine. No layer comes of that.
    #[serde(default)]
    pub command: Option<Command>,
}

/// A layer below the one to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// Its archive.
    pub blob: PathBuf,
    /// The name of the folder of [`Order::trees`] that it is unpacked to.
    pub tree: String,
}

impl Lower {
    /// Takes a layer of a store.
    pub fn of(store: &Store, layer: &Layer) -> Self {
        Self { blob: store.blob_path(layer.digest), tree: trees::name(&layer.diff_id) }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The layer; nothing where nothing was changed.
    pub layer: Option<Layer>,
    /// How the program that was run instead of the engine ended.
    #[serde(default)]
    pub status: Option<i32>,
}
