//! passt, which carries a machine's network as whoever starts the machine.
//!
//! It is handed one end of a connection of which QEMU has the other: there is no socket that could be left lying about, and it ends when
//! QEMU does, however that ends.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::ended;
use crate::machine::backend::NotLaunched;
use crate::machine::spec::Forward;
use crate::machine::{MachineError, tool};

const PROGRAM: &str = "passt";

/// Its process, below a machine's folder.
const PID: &str = "passt.pid";

/// How long one may take to end when its QEMU has.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts it, with ports of this machine's loopback that lead into the guest, and returns QEMU's end.
pub(super) fn start(home: &Path, forwards: impl Iterator<Item = Forward>) -> Result<OwnedFd, NotLaunched> {
    let (ours, its) = UnixStream::pair().map_err(MachineError::file("made", home))?;
    let its = OwnedFd::from(its);
    let mut command = tool::command(PROGRAM);
    // What the guest calls its gateway is that, and not this machine's loopback.
    command.current_dir(home).args(["--quiet", "--no-map-gw", "--pid", PID, "--fd", &its.as_raw_fd().to_string()]);
    for Forward { host, guest } in forwards {
        command.args(["--tcp-ports", &format!("127.0.0.1/{host}:{guest}")]);
    }
    // It goes on by itself once it listens.
    match tool::finish_with(&mut command, &[&its]) {
        Ok(_) => Ok(ours.into()),
        Err(MachineError::Program { said, .. }) if said.contains("Failed to bind") => Err(NotLaunched::PortTaken(said)),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the one of a machine without power has ended, and with it what it listens on.
pub(super) fn await_end(home: &Path) -> Result<(), MachineError> {
    let path = home.join(PID);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        && is_passt(pid)
        && !ended(&process, PATIENCE)
    {
        let hint = format!("end the process {pid} by hand");
        return Err(MachineError::failed("passt does not end with the machine that it was for", hint));
    }
    fs::remove_file(&path).map_err(MachineError::file("removed", &path))
}

/// Tells whether a process is a machine's passt: its number alone may be anybody's by now.
fn is_passt(pid: Pid) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).collect();
    words[0].split(|byte| *byte == b'/').next_back().is_some_and(|name| name.starts_with(PROGRAM.as_bytes()))
        && words.contains(&PID.as_bytes())
}
