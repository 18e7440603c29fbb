//! Short-lived programs of the venue whose output is read: `systemctl`, `loginctl`, `getent` and their like.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use charly_ir::STANDARD_PATH;
use charly_ir::message::Problem;

use crate::process::{self, Cancel, Exit, Program};
use crate::venue::Venue;
use crate::worker::WorkError;

/// The most output that is read, in bytes.
const CAP: usize = 4 << 20;

/// A program to be run to its end.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    limit: Duration,
}

/// What a program wrote and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The program and its arguments, for messages.
    pub command: String,
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Tool {
    /// Names the program.
    pub(crate) fn new(program: &str) -> Self {
        let env = [("PATH", STANDARD_PATH), ("LC_ALL", "C.UTF-8")].map(|(key, value)| (key.into(), value.into()));
        Self { argv: vec![program.into()], env: env.into(), limit: Duration::from_secs(120) }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.argv.extend(args.into_iter().map(OsString::from));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, key: &str, value: String) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Bounds its run.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program on a live venue; on any other root there is nothing to run it with.
    pub(crate) fn run(self, venue: &Venue) -> Result<Output, WorkError> {
        if !venue.root.is_live() {
            let what = format!("`{}` cannot run in a root that is not the machine's own", self.name());
            return Err(WorkError::Program(Box::new(Problem::new(what))));
        }
        self.run_outside()
    }

    /// Runs the program on this machine, whatever the root.
    pub(crate) fn run_outside(self) -> Result<Output, WorkError> {
        let command = self.argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let program = Program {
            argv: self.argv,
            env: self.env,
            cwd: "/".into(),
            user: None,
            stdin: Vec::new(),
            limit: Some(self.limit),
            script: None,
        };
        let captured = process::run_captured(&program, &Cancel::default(), CAP).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "it is not installed on the venue",
                _ => "the venue does not let it run",
            };
            WorkError::Program(Box::new(
                Problem::new(format!("cannot run `{command}`")).because(error.to_string()).hint(hint),
            ))
        })?;
        Ok(Output {
            command,
            exit: captured.exit,
            stdout: captured.stdout.text().into_owned(),
            stderr: captured.stderr.text().into_owned(),
        })
    }

    fn name(&self) -> String {
        self.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl Output {
    /// Tells whether the program ended well.
    pub(crate) fn is_success(&self) -> bool {
        self.exit == Exit::Status(0)
    }

    /// Returns the output of a program that ended well; anything else is an error with its last words.
    pub(crate) fn success(self) -> Result<Self, WorkError> {
        if self.is_success() {
            return Ok(self);
        }
        let how = match self.exit {
            Exit::Status(status) => format!("status {status}"),
            Exit::Signal(signal) => format!("signal {signal}"),
            Exit::TimedOut => "a time-out".to_owned(),
            Exit::Killed => "being killed".to_owned(),
        };
        let mut problem = Problem::new(format!("`{}` ended with {how}", self.command));
        if !self.stderr.trim().is_empty() {
            problem = problem.because(self.stderr.trim().to_owned());
        }
        Err(WorkError::Program(Box::new(problem)))
    }
}
