//! Programs and files of the host.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// Runs a program to its end and gives its standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
    run_command(Command::new(program).args(arguments))
}

/// Runs a prepared command to its end and gives its standard output.
pub(crate) fn run_command(command: &mut Command) -> Result<Vec<u8>, Error> {
    let line = line_of(command);
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("run `{line}`")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Program { program: line, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Writes a file, in a folder that exists.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io(format!("write `{}`", path.display())))
}

/// Reads a file of text.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io(format!("read `{}`", path.display())))
}

/// Makes a folder and its parents.
pub(crate) fn mkdir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io(format!("make the folder `{}`", path.display())))
}

/// Removes a folder with all it holds; that it is not there is no failure.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove `{}`", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// The path as an argument; the lab's own paths are text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the lab's state folder has a name in UTF-8")
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
