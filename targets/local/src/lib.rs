//! The target for this machine, and sudo.
//!
//! The engine runs here as it does anywhere: a program spoken to over pipes. There is no other way for a change to reach
//! this machine, so what is tested here is what runs on a venue.

mod spawn;
mod sudo;

use std::path::PathBuf;

use async_trait::async_trait;
use charly_target_core::wire::Client;
use charly_target_core::{EngineVenue, TargetError, pipe};

/// This machine.
#[derive(Debug)]
pub struct Local {
    name: String,
    settings: Settings,
}

/// What the target depends on beside the machine itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folders in which the engine may be put, best first. The first that programs can be started from is used.
    pub engine_folders: Vec<PathBuf>,
    /// The user's home folder, where it is another than the passwd database has.
    pub home: Option<PathBuf>,
    /// Whether there is a terminal on which `sudo` can ask for a password.
    pub terminal: bool,
}

impl Local {
    /// The name under which this machine is always there.
    pub const NAME: &str = "local";

    /// Takes the name the user calls it by.
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self { name: name.into(), settings }
    }
}

#[async_trait]
impl EngineVenue for Local {
    fn name(&self) -> &str {
        &self.name
    }

    /// Never waits but where it blocks: there is nothing to overlap with a pipe to a program of this machine.
    async fn carry(&self, client: &mut Client<'_>) -> Result<(), TargetError> {
        let engine = spawn::engine(&self.settings).map_err(|error| TargetError::Unreachable {
            venue: self.name.clone(),
            source: error.into(),
            hint: None,
        })?;
        pipe::carry(engine, client, &|| sudo::acquire(self.settings.terminal))
    }
}
