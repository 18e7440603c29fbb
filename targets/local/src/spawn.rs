//! Starts the engine on this machine.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use charly_target_core::deliver::{DeliverError, deliver};
use charly_target_core::engine;

use crate::Settings;

/// Starts the engine from the first folder that lets it be started.
pub(crate) fn engine(settings: &Settings) -> Result<Child, DeliverError> {
    let mut last = DeliverError::Nowhere;
    for folder in &settings.engine_folders {
        let path = match deliver(folder, &engine::program, engine::digest()) {
            Ok(path) => path,
            Err(error) => {
                last = error;
                continue;
            }
        };
        match start(&path, settings) {
            Ok(child) => return Ok(child),
            // Mounted `noexec`, most likely: the next folder may not be.
            Err(source) => last = DeliverError::Io { path, source },
        }
    }
    Err(last)
}

/// Starts the program in a process group of its own: a Ctrl-C on the terminal reaches the controller alone, which then
/// asks the engine to end at a step boundary.
fn start(path: &Path, settings: &Settings) -> io::Result<Child> {
    let mut command = Command::new(path);
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(home) = &settings.home {
        command.arg("home").arg(home);
    }
    command.spawn()
}
