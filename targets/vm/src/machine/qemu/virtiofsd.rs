//! virtiofsd, one for each folder that a machine shares with its host.
//!
//! Who connects to its socket first is charly, before it is started, and QEMU is handed that connection. So the socket has no name by the
//! time that anybody could be ended, and a virtiofsd ends when its QEMU does, or charly before there is one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getegid, geteuid};

use super::qmp;
use crate::machine::spec::{Share, tag};
use crate::machine::{MachineError, tool};

/// Where distributions keep it. What QEMU itself had until version 8 was another program of the same name.
const PROGRAMS: &[&str] = &["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd"];

/// The user whom a first boot makes, and its group.
const FIRST_USER: u32 = 1000;

/// Starts one for each share and returns QEMU's ends of the connections to them.
pub(super) fn start(home: &Path, shares: &[Share], ssh_user: &str) -> Result<Vec<OwnedFd>, MachineError> {
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    let Some(program) = PROGRAMS.iter().find(|program| Path::new(program).exists()) else {
        return Err(MachineError::Missing { program: "virtiofsd".to_owned() });
    };
    let user = if ssh_user == "root" { 0 } else { FIRST_USER };
    let ownership = ownership(program, user)?;
    let start = |(index, share): (usize, &Share)| {
        if !share.source.is_dir() {
            let what = format!("`{}` is no folder that could be shared", share.source.display());
            return Err(MachineError::invalid(what, "make it, or declare another"));
        }
        let (listener, qemus) = connection(home, &tag(index)).map_err(MachineError::file("made", home))?;
        let path = home.join(log(index));
        let said = File::create(&path).map_err(MachineError::file("written", &path))?;
        let mut command = tool::command(program);
        command.args(["--fd", &listener.as_raw_fd().to_string(), "--shared-dir"]).arg(&share.source);
        command.args(share.read_only.then_some("--readonly")).args(&ownership);
        // What is typed at a terminal is not meant for it.
        command.current_dir("/").process_group(0).stdout(Stdio::null()).stderr(said);
        tool::spawn_with(&mut command, &[&listener])?;
        Ok(qemus)
    };
    shares.iter().enumerate().map(start).collect()
}

/// Adds what those of a machine said to an error of QEMU's, to which they are only silent.
pub(super) fn explained(error: MachineError, home: &Path, shares: &[Share]) -> MachineError {
    let logs = shares.iter().enumerate().filter_map(|(index, _)| fs::read_to_string(home.join(log(index))).ok());
    let errors: Vec<_> =
        logs.filter_map(|log| Some(log.lines().rfind(|line| line.contains("ERROR"))?.to_owned())).collect();
    match error {
        MachineError::Program { program, said } if !errors.is_empty() => {
            MachineError::Program { program, said: format!("{said}\nvirtiofsd: {}", errors.join("\nvirtiofsd: ")) }
        }
        error => error,
    }
}

fn log(index: usize) -> String {
    format!("{}.log", tag(index))
}

/// Returns a socket that listens and has no name any more, and the one connection to it.
fn connection(home: &Path, name: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let path = home.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = qmp::listen(home, name)?;
    let connected = qmp::connect(home, name);
    fs::remove_file(&path)?;
    Ok((UnixListener::into(listener), connected?.into()))
}

/// Says whose the files are. Who is not root can make none that belong to others: all that the guest makes is theirs, and what is theirs
/// is the guest's user's.
fn ownership(program: &str, user: u32) -> Result<Vec<String>, MachineError> {
    if geteuid().is_root() {
        return Ok(Vec::new());
    }
    // Those before 1.12 know nothing of it.
    let help = tool::finish(Command::new(program).arg("--help"))?;
    if !String::from_utf8_lossy(&help).contains("--translate-uid") {
        return Ok(Vec::new());
    }
    let both = [("uid", geteuid().as_raw()), ("gid", getegid().as_raw())];
    let translate = |(what, own)| {
        let option = format!("--translate-{what}");
        [option.clone(), format!("squash-guest:0:{own}:{}", u32::MAX), option, format!("host:{own}:{user}:1")]
    };
    Ok(both.into_iter().flat_map(translate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_outlives_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("share0"), "left by somebody who was ended").unwrap();
        let (listener, qemus) = connection(folder.path(), "share0").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut heard = String::new();
        UnixStream::from(qemus).write_all(b"hello").unwrap();
        UnixListener::from(listener).accept().unwrap().0.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }
}
