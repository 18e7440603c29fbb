//! A machine reached over SSH, as a target.

use std::sync::Arc;

use async_trait::async_trait;
use charly_ir::boot::BootMark;
use charly_ir::ready::{Finding, Probe};
use charly_target_core::executor::NestedExecutor;
use charly_target_core::target::Run;
use charly_target_core::wire::{Client, ClientError};
use charly_target_core::{DeployExecutor, EngineVenue, Interrupts, TargetError};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::error::ConnectError;
use super::executor::SshExecutor;
use super::route::Hop;
use super::settings::Settings;
use super::{ready, reboot, session};

/// A machine reached over SSH. Its connection persists across everything a command does.
#[derive(Debug)]
pub struct Machine {
    name: String,
    way: Vec<Hop>,
    settings: Settings,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Machine {
    /// Takes the name the user calls it by, and the way to it.
    pub fn new(name: impl Into<String>, way: Vec<Hop>, settings: Settings) -> Self {
        Self { name: name.into(), way, settings, connection: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns what runs scripts and moves files there beside the engine, over the same connection.
    pub async fn executor(&self) -> Result<Arc<dyn DeployExecutor>, TargetError> {
        let connection = self.connection().await.map_err(|error| error.of(&self.name))?;
        let machine: Arc<dyn DeployExecutor> = Arc::new(SshExecutor::new(connection));
        Ok(match &self.settings.wishes.inside {
            None => machine,
            Some(inside) => Arc::new(NestedExecutor::new(machine, inside.container())),
        })
    }

    /// Returns the connection, a new one where there is none or it has ended.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::open(&self.way, &self.settings).await?);
        *held = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Forgets the connection: it leads to a machine that is about to go.
    pub(super) async fn disconnect(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close().await;
        }
    }
}

#[async_trait]
impl EngineVenue for Machine {
    fn name(&self) -> &str {
        &self.name
    }

    async fn carry(&self, client: &mut Client<'_>) -> Result<(), TargetError> {
        let connection = tokio::select! {
            connection = self.connection() => match connection {
                Ok(connection) => connection,
                Err(error) => {
                    // Somebody may have been asked for a passphrase, and have wanted no more of it.
                    client.attend()?;
                    return Err(error.of(&self.name));
                }
            },
            error = interrupted(client) => return Err(error.into()),
        };
        session::carry(&connection, &self.name, &self.settings, client).await
    }

    async fn back(&self, before: &BootMark, wanted: &[Probe], run: Run<'_>) -> Result<(), TargetError> {
        reboot::wait(self, before, wanted, run).await
    }

    async fn settle(&self, found: Vec<Finding>, wanted: &[Probe], run: Run<'_>) -> Result<(), TargetError> {
        ready::wait(self, found, wanted, run).await
    }
}

/// Ends when the user no longer wants what the client has not begun yet.
pub(super) async fn interrupted(client: &mut Client<'_>) -> ClientError {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        tick.tick().await;
        if let Err(error) = client.attend() {
            return error;
        }
    }
}

/// Ends when the user has asked for it more often than before.
pub(super) async fn raised(interrupts: &Interrupts) {
    let before = interrupts.count();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    while interrupts.count() == before {
        tick.tick().await;
    }
}
