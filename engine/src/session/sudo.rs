//! Becoming root: an engine that `sudo` starts, from a copy that root alone can write.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use charly_ir::Digest;
use charly_ir::frame::MAGIC;
use charly_ir::message::{Problem, SecretValue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::process::Cancel;
use crate::worker::WorkError;

/// How root's engine is started.
#[derive(Debug)]
pub(super) struct Sudo {
    /// The program that grants root.
    pub program: PathBuf,
    /// What root runs: it puts a copy of the engine where only root can write, and starts it.
    pub script: String,
    /// How long all of it may take. What asks for something else than a password waits for ever.
    pub patience: Duration,
}

/// Root's engine, which has said its first word.
#[derive(Debug)]
pub(super) struct Started {
    pub child: Child,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
}

/// Why nobody became root.
#[derive(Debug)]
enum Denial {
    Cancelled,
    WrongPassword,
    /// It ended, said something else, or nothing for too long.
    Other(Option<io::Error>),
}

/// What `sudo` asks for a password with: nothing else writes it.
const PROMPT: &str = "charly-asks-for-the-password:";

/// The most of what `sudo` says that is kept.
const WORDS: usize = 4096;

impl Default for Sudo {
    fn default() -> Self {
        let script = include_str!("as-root.sh").to_owned();
        Self { program: "sudo".into(), script, patience: Duration::from_secs(60) }
    }
}

impl Sudo {
    /// Starts root's engine. Only if `sudo` asks for it is the password written, so that it never reaches the engine.
    pub(super) fn start(&self, password: Option<&SecretValue>, cancel: &Cancel) -> Result<Started, WorkError> {
        // What the kernel runs, even where its file was replaced since.
        let engine = Path::new("/proc").join(std::process::id().to_string()).join("exe");
        let digest = File::open(&engine).and_then(Digest::of_reader);
        let (digest, _) = digest.map_err(|error| denied(&format!("its engine cannot be read: {error}"), ALLOW))?;
        self.start_program(&engine, digest, password, cancel)
    }

    fn start_program(
        &self,
        engine: &Path,
        digest: Digest,
        password: Option<&SecretValue>,
        cancel: &Cancel,
    ) -> Result<Started, WorkError> {
        let mut command = Command::new(&self.program);
        match password {
            Some(_) => command.args(["-S", "-p", PROMPT]),
            None => command.arg("-n"),
        };
        command.args(["--", "/bin/sh", "-c", &self.script, "sh", &digest.to_string()]).arg(engine);
        // What it says is read for what it means.
        command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                denied("it has no `sudo`", "install sudo and let this user use it, or deploy as root")
            }
            _ => denied(&error.to_string(), ALLOW),
        })?;
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(denied("sudo has no pipes", ALLOW));
        };
        let mut words = Vec::new();
        match self.await_magic(&mut stdin, &mut stdout, &mut stderr, &mut words, password, cancel) {
            Ok(()) => {
                // Kept open: what root's engine says there is nobody's, but must not end it.
                child.stderr = Some(stderr);
                Ok(Started { child, stdin, stdout })
            }
            Err(denial) => {
                drop((stdin, stdout, stderr));
                end(&mut child);
                Err(denial.explain(&String::from_utf8_lossy(&words), password.is_some()))
            }
        }
    }

    fn await_magic(
        &self,
        stdin: &mut ChildStdin,
        stdout: &mut ChildStdout,
        stderr: &mut ChildStderr,
        words: &mut Vec<u8>,
        password: Option<&SecretValue>,
        cancel: &Cancel,
    ) -> Result<(), Denial> {
        let broken = |error: io::Error| Denial::Other(Some(error));
        let started = Instant::now();
        let (mut heard, mut speaks, mut asked) = (Vec::new(), true, 0);
        while heard.len() < MAGIC.len() {
            if cancel.is_requested() {
                return Err(Denial::Cancelled);
            }
            if started.elapsed() > self.patience {
                return Err(broken(io::Error::other("it did not answer")));
            }
            let mut fds = vec![PollFd::new(stdout, PollFlags::IN)];
            if speaks {
                fds.push(PollFd::new(stderr, PollFlags::IN));
            }
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(broken(errno.into())),
            }
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let mut buffer = [0; 1024];
            if ready.get(1) == Some(&true) {
                let n = stderr.read(&mut buffer).map_err(broken)?;
                speaks = n > 0;
                words.extend_from_slice(&buffer[..n.min(WORDS.saturating_sub(words.len()))]);
                let prompts = String::from_utf8_lossy(words).matches(PROMPT).count();
                if prompts > asked {
                    asked = prompts;
                    match password {
                        Some(password) if asked == 1 => {
                            let line = format!("{}\n", password.expose());
                            stdin.write_all(line.as_bytes()).map_err(broken)?;
                        }
                        _ => return Err(Denial::WrongPassword),
                    }
                }
            } else if ready[0] {
                // Not a byte more than the magic: what follows is for another reader.
                let n = stdout.read(&mut buffer[..MAGIC.len() - heard.len()]).map_err(broken)?;
                heard.extend_from_slice(&buffer[..n]);
                if n == 0 || !MAGIC.starts_with(&heard) {
                    // What it has to say about it may still be on its way.
                    let room = WORDS.saturating_sub(words.len()) as u64;
                    let _ = stderr.take(if n == 0 { room } else { 0 }).read_to_end(words);
                    return Err(Denial::Other(None));
                }
            }
        }
        Ok(())
    }
}

impl Denial {
    fn explain(self, words: &str, had_password: bool) -> WorkError {
        let said = words.replace(PROMPT, "");
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| said.contains(phrase));
        match self {
            Self::Cancelled => WorkError::Cancelled,
            Self::WrongPassword => denied(WRONG, AGAIN),
            Self::Other(_) if had_password && says(&["incorrect", "uthentication fail"]) => denied(WRONG, AGAIN),
            Self::Other(_) if says(&["password is required", "terminal is required", "uthentication is required"]) => {
                let hint = "`--ask-sudo` asks you for it; or let sudo trust this user without one, or deploy as root";
                denied("`sudo` wants a password there", hint)
            }
            Self::Other(error) => {
                let words = said.trim();
                let error = error.map(|error| error.to_string());
                let why = if words.is_empty() { error.as_deref().unwrap_or("it ended without a word") } else { words };
                denied(&format!("sudo: {}", why.trim_start_matches("sudo: ")), ALLOW)
            }
        }
    }
}

const WRONG: &str = "`sudo` did not take the password";
const AGAIN: &str = "run the same command again, with the password that this user has on the venue";
const ALLOW: &str = "the plan has steps that only root may carry out; let this user use sudo, or deploy as root";

fn denied(why: &str, hint: &str) -> WorkError {
    let problem = Problem::new("cannot become root on the venue").because(why);
    WorkError::Denied(Box::new(problem.hint(hint)))
}

/// Waits a moment for a program whose pipes are closed. It is root's: it cannot be killed, and need not be waited for.
fn end(child: &mut Child) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
}

#[cfg(test)]
mod tests;
