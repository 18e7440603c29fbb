//! Tells when a machine is ready to be worked on.
//!
//! That it answers, and lets us in, was shown by whoever asks here. What is left is what a first boot, or one after a kernel was
//! replaced, still does in the background.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use charly_target_core::DeployExecutor as _;
use charly_target_core::executor::ShellOptions;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::error::ConnectError;
use super::executor::SshExecutor;
use super::route::Hop;
use super::venue::Machine;

/// How long one attempt of a probe may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that must be so before a machine is worked on. It is asked by a script that prints one line: `ready`, `wait` or
/// `broken`, and after it the evidence.
struct Probe {
    name: &'static str,
    script: &'static str,
    /// How long it may take in all.
    limit: Duration,
}

/// The probes, in the order they are asked. Each goes by files that anybody may read, so that none needs root.
const PROBES: [Probe; 2] = [
    Probe { name: "its start", script: include_str!("ready/started.sh"), limit: Duration::from_secs(600) },
    Probe { name: "cloud-init", script: include_str!("ready/cloud-init.sh"), limit: Duration::from_secs(900) },
];

/// Waits until a machine is ready; the error says which probe failed, and what it saw.
pub(super) async fn await_ready(machine: &Machine, within: Duration) -> Result<(), String> {
    let began = Instant::now();
    let executor = SshExecutor::new(machine.connection().await.map_err(|error| error.to_string())?);
    for Probe { name, script, limit } in PROBES {
        let limit = limit.min(within.saturating_sub(began.elapsed()));
        let asked = Instant::now();
        loop {
            let options = ShellOptions { timeout: Some(ATTEMPT), ..ShellOptions::default() };
            let seen = match executor.run_shell(script, &options).await {
                Ok(output) => Seen::parse(&String::from_utf8_lossy(&output.stdout)),
                Err(error) => Seen::Wait(error.to_string()),
            };
            match seen {
                Seen::Ready => break,
                Seen::Broken(evidence) => return Err(format!("{name} failed ({evidence})")),
                Seen::Wait(evidence) if asked.elapsed() > limit => {
                    return Err(format!("{name} did not end within {} s ({evidence})", limit.as_secs()));
                }
                Seen::Wait(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    Ok(())
}

/// Logs in over a stream that leads to a machine's sshd, and asks whether it lets everybody in by now: while it starts, root alone
/// may come. The error says what kept us out.
pub(crate) async fn lets_in(stream: TcpStream, hop: &Hop, limit: Duration) -> Result<(), String> {
    let told = |error: ConnectError| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let connection = Arc::new(Connection::over(stream, hop, limit).await.map_err(told)?);
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

/// What a probe saw.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Ready,
    Wait(String),
    Broken(String),
}

impl Seen {
    /// Reads a probe's answer. What is no answer is never evidence of anything.
    fn parse(text: &str) -> Self {
        let line = text.lines().last().unwrap_or_default().trim();
        let (word, evidence) = line.split_once(' ').unwrap_or((line, ""));
        let evidence: String = evidence.chars().filter(|c| !c.is_control()).take(300).collect();
        match word {
            "ready" => Self::Ready,
            "broken" => Self::Broken(evidence),
            "wait" => Self::Wait(evidence),
            _ => Self::Wait(format!(
                "it answered `{}`",
                line.chars().filter(|c| !c.is_control()).take(80).collect::<String>()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_is_evidence() {
        for (text, want) in [
            ("ready\n", Seen::Ready),
            ("noise\nready\n", Seen::Ready),
            ("wait stage modules-final\n", Seen::Wait("stage modules-final".into())),
            ("broken a\x1b[31m b", Seen::Broken("a[31m b".into())),
            ("", Seen::Wait("it answered ``".into())),
            ("readyish", Seen::Wait("it answered `readyish`".into())),
        ] {
            assert_eq!(Seen::parse(text), want, "{text:?}");
        }
    }
}
