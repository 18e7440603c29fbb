//! One attempt to log in to a machine.
//!
//! That sshd greets is not enough: while a system starts, PAM turns away everybody but root after all was proven. And QEMU itself
//! accepts connections for a guest that does not listen yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Endpoint;
use crate::ssh::{Hop, IdentityFile, lets_in};

/// What every SSH server says first.
const GREETING: &[u8] = b"SSH-2.0-";

/// The pause between looks at a greeting that has come in part.
const REST: Duration = Duration::from_millis(5);

/// Why a login did not come about.
#[derive(Debug)]
pub(super) enum NotIn {
    /// There is no sshd yet. Knocking again harms nothing.
    Silent(io::Error),
    /// An sshd greeted, and then let us not in. It may count such guests, and shut the door on those that come too often.
    TurnedAway(String),
}

/// How long an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the greeting.
    pub(super) greeting: Duration,
    /// And from there. Where its processor is emulated, a key exchange takes a machine seconds.
    pub(super) login: Duration,
}

/// Tries to log in. Where charly holds no key that opens the machine, it is the greeting that counts.
pub(super) fn attempt(endpoint: &Endpoint, patience: Patience) -> Result<(), NotIn> {
    let stream = greeted(endpoint.port, patience.greeting).map_err(NotIn::Silent)?;
    let Some(identity) = endpoint.identity.as_ref().filter(|path| lies_open(path)) else { return Ok(()) };
    let hop = Hop {
        host: endpoint.host.clone(),
        port: endpoint.port,
        user: endpoint.user.clone(),
        alias: None,
        identities: vec![IdentityFile { file: identity.clone(), required: true }],
        identities_only: true,
        agent: None,
        known_hosts: vec![endpoint.known_hosts.clone()],
        known_hosts_required: true,
        connect_timeout: None,
        behind: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NotIn::Silent)?;
    let came_in = runtime.block_on(async {
        stream.set_nonblocking(true).map_err(NotIn::Silent)?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(NotIn::Silent)?;
        let limit = patience.login;
        match tokio::time::timeout(limit, lets_in(stream, &hop, limit)).await {
            Ok(came_in) => came_in.map_err(NotIn::TurnedAway),
            Err(_) => Err(NotIn::TurnedAway(format!("a login was not done within {} s", limit.as_secs()))),
        }
    });
    // What a machine that stopped answering owes us is not waited for.
    runtime.shutdown_background();
    came_in
}

/// Tells whether a key can be used without asking anybody.
fn lies_open(path: &Path) -> bool {
    russh::keys::load_secret_key(path, None).is_ok()
}

/// Connects, and waits for the greeting, which stays unread.
fn greeted(port: u16, patience: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + patience;
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    let mut greeting = [0; GREETING.len()];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody greets"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.peek(&mut greeting) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, "nobody listens in it")),
            Ok(count) if greeting[..count] != GREETING[..count] => {
                return Err(io::Error::other("something answers that is no sshd"));
            }
            Ok(count) if count == GREETING.len() => return Ok(stream),
            Ok(_) => std::thread::sleep(REST),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
