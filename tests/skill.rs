//! `charly skill serve`: the same server as `charly-skill`, started by the program that people have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const CHARLY: &str = env!("CARGO_BIN_EXE_charly");

/// A running server; dropping it kills it.
struct Server {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Server {
    fn start(skills: &Path) -> Self {
        let mut child = Command::new(CHARLY)
            .args(["skill", "serve", "--listen", "127.0.0.1:0", "--skills"])
            .arg(skills)
            .arg("--work")
            .arg(skills.parent().unwrap())
            .env("HOME", skills)
            .env("SKILL_TOKEN", "0123456789abcdef")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(": ").next().unwrap().to_owned();
            }
        };
        Self { child, log, address }
    }

    /// Sends a request and returns the answer, its head included.
    fn ask(&self, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: 0123456789abcdef\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn skills_are_served() {
    let root = tempfile::tempdir().unwrap();
    let skills = root.path().join("skills");
    fs::create_dir(&skills).unwrap();
    let script = skills.join("greet");
    fs::write(&script, "#!/bin/sh\necho \"hello $1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    if fs::hard_link(CHARLY, skills.join("charly")).is_err() {
        fs::copy(CHARLY, skills.join("charly")).unwrap();
    }
    let mut server = Server::start(&skills);
    assert!(server.ask("GET /healthz", "").ends_with("\r\n\r\nok"));
    let answer = server.ask("POST /skill/greet", r#"{"args":["you"]}"#);
    assert!(answer.ends_with(r#"{"status":"ok","stdout":"hello you\n","stderr":"","exit_code":0}"#), "{answer}");
    let answer = server.ask("POST /skill/charly", r#"{"args":["bundle","list"]}"#);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    let probe = Command::new(CHARLY).args(["skill", "serve", "--probe", "--listen", &server.address]).status().unwrap();
    assert!(probe.success());
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    server.log.read_to_string(&mut log).unwrap();
    assert!(log.contains("stopping"), "{log}");
}
