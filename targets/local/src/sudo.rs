//! Makes sure, before anything is done, that `sudo` will not ask later.

use std::process::{Command, Stdio};

use charly_target_core::TargetError;
use rustix::process::geteuid;

/// Asks for a password on the terminal, unless none is needed.
///
/// The engine starts the root engine by `sudo` itself, and never on a terminal: by then sudo must know the user.
pub(crate) fn acquire(terminal: bool) -> Result<(), TargetError> {
    if geteuid().is_root() {
        return Ok(());
    }
    let refused = |what: &str, hint: &str| TargetError::Refused { what: what.to_owned(), hint: hint.to_owned() };
    let quiet = Command::new("sudo")
        .args(["-n", "-v"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match quiet {
        Ok(status) if status.success() => return Ok(()),
        Err(_) => {
            let hint = "install sudo and allow this user to use it, or run the command as root";
            return Err(refused("system changes need root, and there is no `sudo`", hint));
        }
        _ if !terminal => {
            let hint = "run the command on a terminal or as root, or let sudo trust this user without a password";
            return Err(refused("system changes need root, and `sudo` wants a password", hint));
        }
        _ => {}
    }
    match Command::new("sudo").arg("-v").status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(refused("system changes need root, and `sudo` was not granted", "nothing was touched")),
    }
}
