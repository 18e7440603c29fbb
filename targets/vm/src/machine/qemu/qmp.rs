//! The few words spoken with QEMU: one connection to its control socket.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest line that is taken from it.
const LONGEST: u64 = 1 << 20;

/// One connection to a control socket.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to a socket in a machine's folder and agrees on the protocol.
    pub fn connect(folder: &Path, socket: &str) -> io::Result<Self> {
        let stream = connect(folder, socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Self { answers: BufReader::new(stream.try_clone()?), stream };
        qmp.line()?;
        qmp.execute("qmp_capabilities", Json::Null)?;
        Ok(qmp)
    }

    /// Asks for something and returns the answer. What QEMU refuses is an error of kind `Other`.
    pub fn execute(&mut self, command: &str, arguments: Json) -> io::Result<Json> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        writeln!(self.stream, "{request}")?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                let said = error.get("desc").and_then(Json::as_str).unwrap_or("no reason given");
                return Err(io::Error::other(said.to_owned()));
            }
            // Events come between answers.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Returns the run state, such as `running` or `paused`.
    pub fn status(&mut self) -> io::Result<String> {
        let status = self.execute("query-status", Json::Null)?;
        Ok(status.get("status").and_then(Json::as_str).unwrap_or_default().to_owned())
    }

    fn line(&mut self) -> io::Result<Json> {
        let mut line = String::new();
        if (&mut self.answers).take(LONGEST).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

/// Connects to a socket by way of its folder: a path that is longer than a socket's may be still leads there.
pub fn connect(folder: &Path, socket: &str) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd()))
}

/// Listens on a socket in a folder, by the same way.
pub fn listen(folder: &Path, socket: &str) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays QEMU for one connection: greets, then answers each line with the next of `answers`.
    fn play(folder: &Path, answers: &'static [&'static str]) -> std::thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(folder.join("qmp")).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut to = stream.try_clone().unwrap();
            writeln!(to, "{{\"QMP\": {{}}}}").unwrap();
            let mut heard = Vec::new();
            for (line, answer) in BufReader::new(stream).lines().zip(answers) {
                heard.push(line.unwrap());
                writeln!(to, "{answer}").unwrap();
            }
            heard
        })
    }

    #[test]
    fn answers_are_told_from_events_and_refusals() {
        let folder = tempfile::tempdir().unwrap();
        let qemu = play(
            folder.path(),
            &[
                r#"{"return": {}}"#,
                "{\"event\": \"RESUME\"}\n{\"return\": {\"status\": \"running\"}}",
                r#"{"error": {"class": "GenericError", "desc": "no such device"}}"#,
            ],
        );
        let mut qmp = Qmp::connect(folder.path(), "qmp").unwrap();
        assert_eq!(qmp.status().unwrap(), "running");
        let error = qmp.execute("eject", json!({ "id": "x" })).unwrap_err();
        assert_eq!(error.to_string(), "no such device");
        drop(qmp);
        let heard = qemu.join().unwrap();
        assert_eq!(heard[0], r#"{"execute":"qmp_capabilities"}"#);
        assert_eq!(heard[2], r#"{"execute":"eject","arguments":{"id":"x"}}"#);
    }

    #[test]
    fn a_long_path_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let short = folder.path().join("s");
        std::os::unix::fs::symlink(&deep, &short).unwrap();
        let _listener = UnixListener::bind(short.join("qmp")).unwrap();
        connect(&deep, "qmp").unwrap();
        assert!(connect(&deep, "another").is_err());
    }
}
