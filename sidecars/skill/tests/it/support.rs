//! What the tests share: a server of their own, and a client that sends exactly the bytes it is told to.

#![allow(dead_code, unreachable_pub, reason = "each test is a program of its own that uses a part of it")]

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Longer than anything a test waits for takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);

/// Says something to whoever looks at the run: a figure, or why a test could not do all of its work.
pub fn print(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Waits until `condition` holds; fails when it does not within a generous time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0).unwrap()
}

/// Prepares a server.
pub struct Builder {
    root: TempDir,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    token: Option<String>,
    unix: bool,
    wrapper: Vec<String>,
    work: PathBuf,
}

/// Holds a running server; dropping it kills it.
pub struct Server {
    /// The supervisor, or what starts it.
    child: Child,
    /// The child's child: the server itself.
    pid: u32,
    place: Place,
    pub root: TempDir,
    log: Arc<Mutex<String>>,
}

#[derive(Clone, Debug)]
pub enum Place {
    Tcp(String),
    Unix(PathBuf),
}

impl Server {
    /// Prepares a server that has a token and an empty skills folder.
    pub fn builder() -> Builder {
        let root = tempfile::tempdir().unwrap();
        for folder in ["skills", "manifests", "work"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        // Runs of other users pass through.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let work = root.path().join("work");
        Builder {
            work,
            root,
            flags: vec![],
            environment: vec![],
            token: Some(TOKEN.into()),
            unix: false,
            wrapper: vec![],
        }
    }
}

impl Builder {
    /// Adds a skill that is a script for `sh`.
    pub fn script(self, name: &str, body: &str) -> Self {
        self.file(&format!("skills/{name}"), &format!("#!/bin/sh\n{body}\n"), 0o755)
    }

    /// Adds a skill that is a script for `bash`.
    pub fn bash(self, name: &str, body: &str) -> Self {
        self.file(&format!("skills/{name}"), &format!("#!/bin/bash\n{body}\n"), 0o755)
    }

    /// Adds a skill that is a copy of a program.
    pub fn program(self, name: &str, path: &str) -> Self {
        fs::copy(path, self.root.path().join("skills").join(name)).unwrap();
        self
    }

    pub fn manifest(self, name: &str, text: &str) -> Self {
        self.file(&format!("manifests/{name}.yml"), text, 0o644)
    }

    /// Adds a file beneath the server's root.
    pub fn file(self, path: &str, text: &str, mode: u32) -> Self {
        let path = self.root.path().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    pub fn on_unix_socket(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Puts the folders of runs elsewhere.
    pub fn work(mut self, folder: &Path) -> Self {
        self.work = folder.into();
        self
    }

    /// Starts the server through another program.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn command(&self) -> Command {
        let root = self.root.path();
        let listen = if self.unix { format!("unix:{}", root.join("socket").display()) } else { "127.0.0.1:0".into() };
        let program = env!("CARGO_BIN_EXE_charly-skill");
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env_clear().envs(self.environment.iter().cloned());
        if let Some(token) = &self.token {
            command.env("SKILL_TOKEN", token);
        }
        command
            .args(["--listen", &listen])
            .arg("--skills")
            .arg(root.join("skills"))
            .arg("--manifests")
            .arg(root.join("manifests"))
            .arg("--work")
            .arg(&self.work)
            .arg("--audit")
            .arg(root.join("audit"))
            .args(&self.flags);
        command
    }

    /// Runs the program to its end; for configurations that it refuses.
    pub fn output(self) -> (ExitStatus, String) {
        let output = self.command().output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8(text).unwrap().replace(self.root.path().to_str().unwrap(), "ROOT"))
    }

    pub fn start(self) -> Server {
        let mut child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended: {}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(": ").next().unwrap().to_owned();
            }
        };
        let place = match address.strip_prefix("unix:") {
            Some(path) => Place::Unix(path.into()),
            None => Place::Tcp(address),
        };
        let sink = log.clone();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let pid = children_of(child.id()).first().copied().unwrap();
        Server { child, pid, place, root: self.root, log }
    }
}

impl Server {
    pub fn connect(&self) -> Connection {
        Connection::open(&self.place)
    }

    /// Sends one request with the token, on a connection of its own.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().request(method, path, &[], body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub fn run(&self, skill: &str, body: &str) -> Answer {
        self.connect().run(skill, body)
    }

    /// Starts a task and returns its id.
    pub fn start_task(&self, skill: &str, body: &str) -> String {
        let answer = self.run(skill, body);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let json = answer.json();
        assert_eq!(json["status"], "pending");
        json["task_id"].as_str().unwrap().to_owned()
    }

    /// Polls a task until it has ended.
    pub fn result(&self, id: &str) -> Value {
        let end = Instant::now() + LONG;
        loop {
            let answer = self.get(&format!("/task/{id}"));
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.json()["status"] != "pending" {
                return answer.json();
            }
            assert!(Instant::now() < end, "the task is still pending");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn supervisor(&self) -> u32 {
        self.child.id()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn audit(&self) -> String {
        fs::read_to_string(self.root.path().join("audit")).unwrap()
    }

    /// Signals the process that was started.
    pub fn signal(&self, name: &str) {
        signal(name, self.supervisor());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the resident memory of the server and its supervisor; what they share is counted twice.
    pub fn resident_kib(&self) -> u64 {
        let of = |pid| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        of(self.pid()) + of(self.supervisor())
    }

    /// Returns the processor time of the server and of every run it has reaped.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // The kernel counts in hundredths of a second here, on every architecture.
        Duration::from_millis(fields[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
    }

    /// Counts the server's open descriptors; only root may look at a process that hides its memory.
    pub fn descriptors(&self) -> Option<usize> {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).ok().map(Iterator::count)
    }

    /// Lists the server's children, dead ones included.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Lists what lies in the folder of the runs' own folders.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let own = fs::read_dir(self.root.path().join("work")).unwrap().map(|entry| entry.unwrap().path());
        own.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The supervisor ends what the server leaves behind.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), Pid::from_raw(self.pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub state: char,
}

pub fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Lists a process's children, dead ones included.
pub fn children_of(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|process| process.parent == parent).map(|process| process.pid).collect()
}

/// Lists every process of the machine.
pub fn processes() -> Vec<Process> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(Process {
        pid,
        state: fields[0].chars().next()?,
        parent: fields[1].parse().ok()?,
        group: fields[2].parse().ok()?,
    })
}

/// Tells whether a process goes on; a dead one that nobody reaped does not.
pub fn is_alive(pid: u32) -> bool {
    process(pid).is_some_and(|process| process.state != 'Z' && process.state != 'X')
}

trait Wire: Read + Write + Send {
    fn end_writing(&self);
}

impl Wire for TcpStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Wire for UnixStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Holds one connection.
pub struct Connection {
    wire: BufReader<Box<dyn Wire>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn open(place: &Place) -> Self {
        let wire: Box<dyn Wire> = match place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                stream.set_write_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
        };
        Self { wire: BufReader::new(wire) }
    }

    /// Runs a skill.
    pub fn run(&mut self, skill: &str, body: &str) -> Answer {
        self.request("POST", &format!("/skill/{skill}"), &[], body)
    }

    /// Sends a request with the token and the usual headers, and `more`.
    pub fn request(&mut self, method: &str, path: &str, more: &[&str], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: {TOKEN}\r\n");
        for header in more {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if method == "POST" {
            head.push_str("Content-Type: application/json\r\n");
            head.push_str("Content-Length: ");
            head.push_str(&body.len().to_string());
            head.push_str("\r\n");
        }
        self.write(format!("{head}\r\n{body}").as_bytes());
        self.answer().unwrap()
    }

    /// Sends bytes as they are; that the server may have closed the connection shows when reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.wire.get_mut().write_all(bytes);
    }

    pub fn end_writing(&self) {
        self.wire.get_ref().end_writing();
    }

    /// Reads one answer; none if the server closes the connection instead.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.wire.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.wire.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => break,
            }
        }
        let mut answer = Answer { status, headers, body: vec![] };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body.resize(length, 0);
        self.wire.read_exact(&mut answer.body).ok()?;
        Some(answer)
    }

    /// Reads until the server closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.wire.read_to_end(&mut bytes);
        bytes
    }
}
