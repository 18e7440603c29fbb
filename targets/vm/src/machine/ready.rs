//! Whether a machine's sshd answers.
//!
//! QEMU itself accepts connections for a guest that does not listen yet, so only the greeting counts.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use charly_target_core::Interrupts;

use super::{MachineError, Name};

/// How long one attempt may take. A packet that was lost while the guest had no network is sent again only after a while;
/// but who hangs up on an sshd that is slow to greet is counted by it, and turned away when that was often enough.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long a verb that only looks waits.
const GLANCE: Duration = Duration::from_millis(1500);

/// The pause between attempts that are turned away at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What every SSH server says first.
const GREETING: &[u8] = b"SSH-2.0-";

/// Tells whether sshd answers now.
pub(super) fn answers(port: u16) -> bool {
    greeted(port, GLANCE).is_ok()
}

/// Waits until sshd answers, for as long as the machine runs.
pub(super) fn wait(
    name: &Name,
    port: u16,
    at_most: Duration,
    interrupts: &Interrupts,
    runs: &dyn Fn() -> Result<bool, MachineError>,
) -> Result<(), MachineError> {
    let deadline = Instant::now() + at_most;
    loop {
        let began = Instant::now();
        let patience = ATTEMPT.min(deadline.saturating_duration_since(began)).max(PAUSE);
        let Err(error) = greeted(port, patience) else { return Ok(()) };
        if interrupts.count() > 0 {
            return Err(MachineError::Interrupted);
        }
        let console = format!("`charly vm console {name} --log` shows what it said");
        if !runs()? {
            return Err(MachineError::failed(format!("`{name}` ended while it booted"), console));
        }
        if Instant::now() >= deadline {
            let what = format!("the sshd of `{name}` did not answer within {} s: {error}", at_most.as_secs());
            return Err(MachineError::failed(what, console));
        }
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
    }
}

fn greeted(port: u16, patience: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "nobody greets"),
        io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::ConnectionReset, "nobody listens in it"),
        _ => error,
    })?;
    if greeting == GREETING { Ok(()) } else { Err(io::Error::other("something answers that is no sshd")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;

    #[test]
    fn only_a_greeting_counts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            for said in [&b""[..], b"220 mail\r\n", b"SSH-2.0-x\r\n"] {
                listener.accept().unwrap().0.write_all(said).unwrap();
            }
        });
        let name = "demo".parse().unwrap();
        let long = Duration::from_secs(60);
        wait(&name, port, long, &Interrupts::default(), &|| Ok(true)).unwrap();
        server.join().unwrap();
        // Nobody listens any more.
        let error = wait(&name, port, long, &Interrupts::default(), &|| Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "`demo` ended while it booted");
        let error = wait(&name, port, Duration::ZERO, &Interrupts::default(), &|| Ok(true)).unwrap_err();
        assert!(error.to_string().starts_with("the sshd of `demo` did not answer within 0 s: "), "{error}");
    }
}
