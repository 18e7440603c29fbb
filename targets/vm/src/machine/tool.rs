//! Programs of this machine, run to their end.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

use super::MachineError;

/// How much of a program's last words is told.
const TOLD: usize = 2000;

/// Begins a program's command line. What it prints is read, so it prints in no language.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a program and returns what it printed.
pub(super) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Vec<u8>, MachineError> {
    finish(command(program).args(arguments))
}

/// Runs a command and returns what it printed.
pub(super) fn finish(command: &mut Command) -> Result<Vec<u8>, MachineError> {
    finish_with(command, &[])
}

/// Runs a command that is handed open files, and returns what it printed.
pub(super) fn finish_with(command: &mut Command, handed: &[&OwnedFd]) -> Result<Vec<u8>, MachineError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn_with(command, handed)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let output = child.wait_with_output().map_err(|error| failed_to_run(&program, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let from = said.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
    let said = if said.is_empty() { output.status.to_string() } else { said[from..].to_owned() };
    Err(MachineError::Program { program, said })
}

/// Starts a command that is handed open files, under the numbers that they have here.
pub(super) fn spawn_with(command: &mut Command, handed: &[&OwnedFd]) -> Result<Child, MachineError> {
    /// One at a time, so that nobody is handed another machine's.
    static HANDING: Mutex<()> = Mutex::new(());

    let program = command.get_program().to_string_lossy().into_owned();
    let _handing = HANDING.lock().unwrap_or_else(PoisonError::into_inner);
    let inherited = |flags| handed.iter().try_for_each(|file| fcntl_setfd(file, flags));
    let child = inherited(FdFlags::empty()).map_err(io::Error::from).and_then(|()| command.spawn());
    let back = inherited(FdFlags::CLOEXEC);
    let child = child.map_err(|error| failed_to_run(&program, &error))?;
    back.map_err(|error| failed_to_run(&program, &error.into()))?;
    Ok(child)
}

fn failed_to_run(program: &str, error: &io::Error) -> MachineError {
    let program = program.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => MachineError::Missing { program },
        _ => MachineError::Program { program, said: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn failures_say_what_the_program_said() {
        assert_eq!(run("printf", ["a"]).unwrap(), b"a");
        let error = run("sh", ["-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "`sh` failed: no");
        let error = run("no-such-program", [""; 0]).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` is not there");
    }
    #[test]
    fn only_what_is_handed_over_is_there() {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let write = |handed: &[&OwnedFd]| {
            let script = format!("echo here >&{}", theirs.as_raw_fd());
            finish_with(command("sh").args(["-c", &script]), handed)
        };
        assert!(write(&[]).is_err());
        write(&[&theirs]).unwrap();
        assert!(write(&[]).is_err(), "it is nobody else's afterwards");
        drop(theirs);
        assert_eq!(io::read_to_string(std::fs::File::from(ours)).unwrap(), "here\n");
    }
}
