//! Waiting until one can log in to a machine.

use std::time::{Duration, Instant};

use charly_target_core::Interrupts;

use super::login::{self, NotIn, Patience};
use super::{Endpoint, MachineError, Name};

/// How long one attempt may take. A packet that was lost while the guest had no network is sent again only after a while; but who
/// hangs up on an sshd that is slow to greet is counted by it, and turned away when that was often enough.
const ATTEMPT: Patience = Patience { greeting: Duration::from_secs(5), login: Duration::from_secs(30) };

/// How long a verb that only looks waits.
const GLANCE: Patience = Patience { greeting: Duration::from_millis(1500), login: Duration::from_secs(10) };

/// The pause between attempts that nobody answers.
const PAUSE: Duration = Duration::from_millis(100);

/// The pauses after attempts that were turned away; the last one lasts as long as OpenSSH holds one against us, which shuts the door on
/// whoever has gathered three.
const TURNED_AWAY: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(5)];

/// Tells whether one can log in now.
pub(super) fn answers(endpoint: &Endpoint) -> bool {
    login::attempt(endpoint, GLANCE).is_ok()
}

/// Waits until one can log in, for as long as the machine runs.
pub(super) fn wait(
    name: &Name,
    endpoint: &Endpoint,
    at_most: Duration,
    interrupts: &Interrupts,
    runs: &dyn Fn() -> Result<bool, MachineError>,
) -> Result<(), MachineError> {
    let deadline = Instant::now() + at_most;
    let mut turned_away = 0;
    loop {
        let began = Instant::now();
        let greeting = ATTEMPT.greeting.min(deadline.saturating_duration_since(began)).max(PAUSE);
        let patience = Patience { greeting, ..ATTEMPT };
        let (why, pause) = match login::attempt(endpoint, patience) {
            Ok(()) => return Ok(()),
            Err(NotIn::Silent(error)) => (error.to_string(), PAUSE),
            Err(NotIn::TurnedAway(why)) => {
                turned_away += 1;
                (why, TURNED_AWAY[turned_away.min(TURNED_AWAY.len()) - 1])
            }
        };
        let console = format!("`charly vm console {name} --log` shows what it said");
        if !runs()? {
            return Err(MachineError::failed(format!("`{name}` ended while it booted"), console));
        }
        let again = (began + pause).min(deadline);
        loop {
            if interrupts.count() > 0 {
                return Err(MachineError::Interrupted);
            }
            let left = again.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(PAUSE));
        }
        if Instant::now() >= deadline {
            let what = format!("nobody could log in to `{name}` within {} s: {why}", at_most.as_secs());
            return Err(MachineError::failed(what, console));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::InstallStrategy;
    use super::*;
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn only_a_greeting_counts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            user: "debian".into(),
            identity: None,
            known_hosts: "/nowhere".into(),
            install: InstallStrategy::default(),
        };
        let server = std::thread::spawn(move || {
            for said in [&b""[..], b"220 mail\r\n", b"SSH-2.0-x\r\n"] {
                listener.accept().unwrap().0.write_all(said).unwrap();
            }
        });
        let name = "demo".parse().unwrap();
        let long = Duration::from_secs(60);
        wait(&name, &endpoint, long, &Interrupts::default(), &|| Ok(true)).unwrap();
        server.join().unwrap();
        // Nobody listens any more.
        let error = wait(&name, &endpoint, long, &Interrupts::default(), &|| Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "`demo` ended while it booted");
        let error = wait(&name, &endpoint, Duration::ZERO, &Interrupts::default(), &|| Ok(true)).unwrap_err();
        assert!(error.to_string().starts_with("nobody could log in to `demo` within 0 s: "), "{error}");
    }
}
