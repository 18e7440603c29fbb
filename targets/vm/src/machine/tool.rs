//! Programs of this machine, run to their end.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

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
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MachineError::Missing { program: program.clone() },
        _ => MachineError::Program { program: program.clone(), said: error.to_string() },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let from = said.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
    let said = if said.is_empty() { output.status.to_string() } else { said[from..].to_owned() };
    Err(MachineError::Program { program, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_the_program_said() {
        assert_eq!(run("printf", ["a"]).unwrap(), b"a");
        let error = run("sh", ["-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "`sh` failed: no");
        let error = run("no-such-program", [""; 0]).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` is not there");
    }
}
