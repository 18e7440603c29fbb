//! The controller's side: a venue like any other, whose engine happens to be in an image.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use async_trait::async_trait;
use charly_target_core::deliver::deliver;
use charly_target_core::wire::Client;
use charly_target_core::{EngineVenue, TargetError, engine, pipe};

use super::{Lower, Order, Outcome, trees};
use crate::layer::{Compression, Layer};

/// What running in an image depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program that is the sandbox's side, and its arguments before the order's file.
    pub helper: (PathBuf, Vec<String>),
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Where what runs leave for each other lies: unpacked layers, the engine, folders of runs.
    pub folder: PathBuf,
    /// Whether the user is root.
    pub is_root: bool,
}

/// One run in an image.
#[derive(Debug)]
pub struct Sandbox {
    settings: Settings,
    order: Order,
    path: PathBuf,
    // Removed with the run, should it not have come to that itself.
    folder: tempfile::TempDir,
    // Nobody takes the layers away that it runs over.
    _in_use: File,
}

/// What is to come of a run.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The layers of the image so far, the lowest first.
    pub lowers: Vec<Lower>,
    /// The time that nothing in the layer is later than, in seconds since 1970.
    pub epoch: u64,
    /// How the layer is compressed.
    pub compression: Compression,
    /// By how many threads.
    pub threads: usize,
    /// Where the layer goes.
    pub blob: PathBuf,
}

impl Sandbox {
    /// Prepares a run. Nothing is started.
    pub fn new(settings: &Settings, wanted: Wanted) -> Result<Self, TargetError> {
        let unusable = |error: io::Error| unreachable(&settings.folder, &error);
        let (trees, runs, in_use) = trees::enter(&settings.folder).map_err(unusable)?;
        let engine = deliver(&settings.folder.join("engine"), &engine::program, engine::digest())
            .map_err(|error| TargetError::Unreachable { venue: VENUE.into(), source: error.into(), hint: None })?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs).map_err(unusable)?;
        let Wanted { lowers, epoch, compression, threads, blob } = wanted;
        let order = Order {
            lowers,
            trees,
            work: folder.path().join("work"),
            engine,
            runtime: settings.runtime.clone(),
            is_user_namespace: !settings.is_root,
            epoch,
            compression,
            threads,
            blob,
            outcome: folder.path().join("outcome.json"),
            command: None,
        };
        fs::create_dir(&order.work).map_err(unusable)?;
        let path = folder.path().join("order.json");
        fs::write(&path, serde_json::to_vec(&order).unwrap_or_default()).map_err(unusable)?;
        Ok(Self { settings: settings.clone(), order, path, folder, _in_use: in_use })
    }

    /// Returns the layer that the run left, if it changed anything.
    pub fn layer(&self) -> Result<Option<Layer>, TargetError> {
        let text = fs::read(&self.order.outcome).map_err(|error| unreachable(self.folder.path(), &error))?;
        let outcome: Outcome =
            serde_json::from_slice(&text).map_err(|error| unreachable(self.folder.path(), &error.into()))?;
        Ok(outcome.layer)
    }

    /// Starts the sandbox's side in namespaces of its own.
    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !self.settings.is_root {
            command.args(["--user", "--map-root-user", "--map-auto", "--setgroups", "allow"]);
        }
        let (helper, arguments) = &self.settings.helper;
        command.arg("--").arg(helper).args(arguments).arg(&self.path);
        // A Ctrl-C on the terminal reaches the controller alone, which then asks the engine to end at a step boundary.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }
}

/// What the venue is called in messages.
const VENUE: &str = "the image";

#[async_trait]
impl EngineVenue for Sandbox {
    fn name(&self) -> &str {
        VENUE
    }

    async fn carry(&self, client: &mut Client<'_>) -> Result<(), TargetError> {
        let sandbox = self.start().map_err(|error| TargetError::Unreachable {
            venue: VENUE.into(),
            source: error.into(),
            hint: Some("install `unshare` (the package util-linux)".into()),
        })?;
        pipe::carry(sandbox, client, &|| Ok(()))
    }
}

fn unreachable(path: &Path, error: &io::Error) -> TargetError {
    let what = format!("`{}` cannot be used: {error}", path.display());
    TargetError::Unreachable { venue: VENUE.into(), source: what.into(), hint: None }
}
