//! Ports of this machine.

use std::net::{Ipv4Addr, TcpListener};

use super::MachineError;

/// How many ports are looked at.
const TRIES: usize = 64;

/// Returns a port that nobody has now, and no machine of these. Whoever takes it first has it: QEMU says when it was not us.
pub(super) fn free(but: &[u16]) -> Result<u16, MachineError> {
    let taken = |source| MachineError::File { path: "127.0.0.1".into(), doing: "listened on", source };
    for _ in 0..TRIES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(taken)?;
        let port = listener.local_addr().map_err(taken)?.port();
        if !but.contains(&port) {
            return Ok(port);
        }
    }
    Err(MachineError::refused("every port is taken", "end something that listens"))
}

/// Tells whether nobody has a port now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_nobodys() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(!is_free(taken));
        assert_ne!(free(&[taken]).unwrap(), taken);
    }
}
