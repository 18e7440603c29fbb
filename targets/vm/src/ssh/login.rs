//! One login, over a stream that somebody else has opened.

use std::sync::Arc;
use std::time::Duration;

use charly_target_core::DeployExecutor as _;
use charly_target_core::executor::ShellOptions;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::error::chain;
use super::executor::SshExecutor;
use super::route::Hop;

/// Logs in over a stream that leads to a machine's sshd, and asks whether it lets everybody in by now: while it starts, root alone
/// may come. The error says what kept us out.
pub(crate) async fn lets_in(stream: TcpStream, hop: &Hop, limit: Duration) -> Result<(), String> {
    let connection = Arc::new(Connection::over(stream, hop, limit).await.map_err(|error| chain(&error))?);
    let executor = SshExecutor::new(Arc::clone(&connection));
    let options = ShellOptions { timeout: Some(limit), ..ShellOptions::default() };
    let asked = executor.run_shell("test ! -e /run/nologin", &options).await;
    connection.close().await;
    match asked {
        Ok(answer) if answer.status == 0 => Ok(()),
        Ok(_) => Err("it is still starting, and lets in nobody but root".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
