//! How the managers' programs are run, and what is kept of what they say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use charly_ir::STANDARD_PATH;
use charly_ir::facts::PackageManager;

use super::error::{Fault, PackageError};
use super::manager::Account;
use super::quiet;
use crate::process::{self, Cancel, Exit, Program, Stream};

/// Where a manager's output goes while it works.
pub type Sink<'a> = &'a mut dyn FnMut(Stream, &[u8]);

/// Runs one program to its end. Tests answer from recordings.
pub trait Runner: fmt::Debug {
    /// Runs a program and hands over what it writes as it comes.
    fn run(&mut self, program: &Program, output: Sink<'_>) -> io::Result<Exit>;
}

/// Runs programs for real, to their end: a manager killed halfway leaves a database to be repaired, so neither a time limit nor
/// a cancelled run ends it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processes;

impl Runner for Processes {
    fn run(&mut self, program: &Program, output: Sink<'_>) -> io::Result<Exit> {
        process::run(program, &Cancel::default(), output)
    }
}

/// The lines of output kept as evidence for an error.
const TAIL_LINES: usize = 40;

/// The venue's root and the way programs are run for it.
#[derive(Debug)]
pub(super) struct Tools {
    root: PathBuf,
    runner: Box<dyn Runner>,
    /// Whether the indexes were refreshed in this run.
    pub(super) fresh: bool,
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) exit: Exit,
    pub(super) stdout: String,
    /// The last lines of both streams.
    pub(super) tail: String,
}

impl Tools {
    pub(super) fn new(root: &Path, runner: Box<dyn Runner>) -> Self {
        Self { root: root.to_owned(), runner, fresh: false }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Tells whether the root is another than the running system's.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.root != Path::new("/")
    }

    /// Runs a program of the host and keeps what it says; a failure is the caller's to judge.
    pub(super) fn run(&mut self, argv: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        let program = Program {
            argv: argv.iter().map(OsString::from).collect(),
            env: environment(),
            cwd: PathBuf::from("/"),
            user: None,
            stdin: Vec::new(),
            limit: None,
            script: None,
        };
        let mut stdout = Vec::new();
        let mut tail = Tail::default();
        let exit = self.runner.run(&program, &mut |stream, bytes| {
            if stream == Stream::Stdout {
                stdout.extend_from_slice(bytes);
            }
            tail.push(bytes);
            sink(stream, bytes);
        });
        let exit = exit.map_err(|error| PackageError::new(Fault::Start(argv[0].to_owned(), error)))?;
        Ok(Finished { exit, stdout: String::from_utf8_lossy(&stdout).into_owned(), tail: tail.text() })
    }

    /// Runs a program of the venue's own, inside its root.
    pub(super) fn run_inside(&mut self, argv: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        if !self.is_elsewhere() {
            return self.run(argv, sink);
        }
        let root = self.root.to_string_lossy().into_owned();
        self.run(&[&["chroot", &root], argv].concat(), sink)
    }

    /// Deletes an account with the programs given for users and for groups.
    pub(super) fn delete_account(
        &mut self,
        programs: [&'static str; 2],
        account: Account<'_>,
    ) -> Result<(), PackageError> {
        let (program, name) = match account {
            Account::User(name) => (programs[0], name),
            Account::Group(name) => (programs[1], name),
        };
        let finished = self.run_inside(&[program, name], &mut quiet())?;
        if finished.is_success() {
            return Ok(());
        }
        Err(PackageError { fault: Fault::Failed(program.to_owned()), evidence: finished.tail })
    }

    /// Reads the declarations of users and folders among a package's files, behind its scripts.
    pub(super) fn with_declarations(&self, mut scripts: String, files: &BTreeSet<PathBuf>) -> String {
        let declares = |path: &&PathBuf| {
            path.components().any(|part| part.as_os_str() == "sysusers.d" || part.as_os_str() == "tmpfiles.d")
        };
        for path in files.iter().filter(declares) {
            // A folder of that name, or a file that is gone, declares nothing.
            scripts.push_str(&fs::read_to_string(self.root.join(path)).unwrap_or_default());
        }
        scripts
    }
}

impl Finished {
    /// Takes it for an error where the program says that it failed.
    pub(super) fn judged(self, manager: PackageManager, program: &str) -> Result<Self, PackageError> {
        if self.is_success() { Ok(self) } else { Err(PackageError::judge(manager, program, &self.tail)) }
    }

    pub(super) fn is_success(&self) -> bool {
        self.exit == Exit::Status(0)
    }
}

/// The whole environment of a manager: nobody answers its questions, and its messages are in the language the parsers know.
fn environment() -> BTreeMap<OsString, OsString> {
    [
        ("PATH", STANDARD_PATH),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        // It would restart services of its own accord in the middle of a plan.
        ("NEEDRESTART_SUSPEND", "1"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

/// The last lines of a stream of any length.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.close(),
                // A line without an end must not fill the memory.
                _ if self.open.len() < 1000 => self.open.push(byte),
                _ => {}
            }
        }
    }

    fn close(&mut self) {
        let line = std::mem::take(&mut self.open);
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn text(mut self) -> String {
        self.close();
        let lines = self.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned());
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_in_both_directions() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.push(format!("line {number}\n\n").as_bytes());
        }
        tail.push(&[b'x'; 5000]);
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.starts_with("line 61\n"), "{text}");
        assert_eq!(text.lines().last().unwrap().len(), 1000);
    }
}
