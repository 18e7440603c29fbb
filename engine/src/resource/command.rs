//! Authors' own commands.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use charly_ir::facts::User;
use charly_ir::message::{Apply, Event, Problem, SecretValue};
use charly_ir::plan::{Action, Command, Op, Repo, RepoSource, Scope};

use super::veil::Veil;
use super::{Effect, Source, Want};
use crate::environment::{Script, command_environment};
use crate::identity;
use crate::process::{self, Exit, Identity, Program, Stream};
use crate::tree::TreeError;
use crate::venue::{Side, Venue};
use crate::worker::WorkError;

/// How much of a failed command's last output is told again with the error.
const LAST_LINES: usize = 20;

/// A body and all that it runs with.
struct Body<'a> {
    text: &'a str,
    env: BTreeMap<String, String>,
    limit: Duration,
    index: u32,
    /// Values that must not be seen in what it prints.
    secrets: Vec<&'a str>,
}

/// Runs the command of a step.
pub(super) fn converge(effect: &mut Effect<'_>, want: &Want) -> Result<(), WorkError> {
    let step = &effect.task.step;
    let tokens = effect.venue.tokens();
    let resolve = |env: &BTreeMap<String, charly_ir::Text>| -> BTreeMap<String, String> {
        env.iter().map(|(name, value)| (name.clone(), value.resolve(&tokens))).collect()
    };
    let hidden = || effect.apply.secrets.values().map(SecretValue::expose).collect();
    let text;
    let body = match &step.action {
        Action::Op(Op::Command(command)) => {
            let mut env = resolve(&command.env);
            env.extend(secrets(command, effect.apply)?);
            let limit = command.timeout_s.map_or(effect.limit, |limit| Duration::from_secs(limit.into()));
            Body { text: &command.body, env, limit, index: effect.task.index, secrets: hidden() }
        }
        Action::Op(Op::Download(download)) => {
            let Source::Blob { digest, .. } = want.source else {
                return Err(WorkError::Plan("a script was to be run that was never fetched".to_owned()));
            };
            let mut script = String::new();
            let path = &download.url;
            let mut open = effect.spool.open(&digest).map_err(|source| TreeError::new("open", path, source))?;
            open.read_to_string(&mut script).map_err(|source| TreeError::new("read", path, source))?;
            text = script;
            let env = resolve(&download.env);
            Body { text: &text, env, limit: effect.limit, index: effect.task.index, secrets: hidden() }
        }
        Action::RepoChange(Repo { source: RepoSource::Copr { project, .. }, .. }) => {
            text = format!("exec dnf --assumeyes copr enable '{project}'\n");
            let env = BTreeMap::new();
            Body { text: &text, env, limit: effect.limit, index: effect.task.index, secrets: Vec::new() }
        }
        other => return Err(WorkError::Plan(format!("a `{}` step is no command", other.kind()))),
    };
    let path_append = path_append(effect);
    run(effect.venue, &step.scope, &body, &path_append, effect.sink)
}

/// Runs a hook that a candy left for its removal.
pub(crate) fn run_hook(
    venue: &Venue,
    index: u32,
    command: &Command,
    sink: &mut dyn FnMut(Event),
) -> Result<(), WorkError> {
    let tokens = venue.tokens();
    let env = command.env.iter().map(|(name, value)| (name.clone(), value.resolve(&tokens))).collect();
    let limit = Duration::from_secs(command.timeout_s.unwrap_or(600).into());
    let scope = if venue.side == Side::System { Scope::System } else { Scope::User };
    run(venue, &scope, &Body { text: &command.body, env, limit, index, secrets: Vec::new() }, &[], sink)
}

fn run(
    venue: &Venue,
    scope: &Scope,
    body: &Body<'_>,
    path_append: &[String],
    sink: &mut dyn FnMut(Event),
) -> Result<(), WorkError> {
    if !venue.root.is_live() {
        let what = "commands cannot run in a root that is not the machine's own";
        return Err(WorkError::Program(Box::new(Problem::new(what))));
    }
    let (user, identity) = whom(venue, scope)?;
    // Passed through by every user, and gone from the name space as soon as the command ends.
    let folder = PathBuf::from("/tmp");
    let error = |source| TreeError::new("write a command's body below", "/tmp", source);
    let script = Script::write(body.text, &folder, identity.as_ref()).map_err(error)?;
    let cwd = if std::path::Path::new(&user.home).is_dir() { PathBuf::from(&user.home) } else { PathBuf::from("/") };
    let program = Program {
        argv: script.argv(),
        env: command_environment(&user, path_append, &body.env),
        cwd,
        user: identity,
        stdin: Vec::new(),
        limit: Some(body.limit),
        script: Some(script.path().to_owned()),
    };
    let mut last = Tail::default();
    let mut show = |stream, bytes: &[u8]| {
        last.take(bytes);
        if !bytes.is_empty() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            sink(Event::Output { index: body.index, text, stderr: stream == Stream::Stderr });
        }
    };
    let veil = || Veil::new(body.secrets.iter().copied());
    let (mut stdout, mut stderr) = (veil(), veil());
    let result = process::run(&program, &venue.cancel, &mut |stream, bytes| match stream {
        Stream::Stdout => show(stream, &stdout.pass(bytes)),
        Stream::Stderr => show(stream, &stderr.pass(bytes)),
    });
    show(Stream::Stdout, &stdout.rest());
    show(Stream::Stderr, &stderr.rest());
    let exit = result.map_err(|source| TreeError::new("run a command as", &user.name, source))?;
    match exit {
        Exit::Status(0) => Ok(()),
        Exit::Killed => Err(WorkError::Cancelled),
        exit => Err(WorkError::Program(Box::new(failed(exit, body.limit, &last)))),
    }
}

fn failed(exit: Exit, limit: Duration, last: &Tail) -> Problem {
    let what = match exit {
        Exit::Status(status) => format!("the command ended with status {status}"),
        Exit::Signal(signal) => format!("the command was ended by signal {signal}"),
        Exit::TimedOut | Exit::Killed => {
            format!("the command was still running after {} s and was killed with all it had started", limit.as_secs())
        }
    };
    let mut problem = Problem::new(what);
    let text = last.text();
    if !text.is_empty() {
        problem = problem.because(format!("its last words:\n{text}"));
    }
    if exit == Exit::TimedOut {
        problem = problem.hint("a step that needs longer may say so with `timeout:`");
    }
    problem
}

/// Returns who runs a step of this scope; no identity where that is this process's own user.
fn whom(venue: &Venue, scope: &Scope) -> Result<(User, Option<Identity>), WorkError> {
    match scope {
        Scope::User | Scope::UserProfile => Ok((venue.facts.user.clone(), None)),
        Scope::System => {
            let root = User { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: "/bin/sh".into() };
            Ok((root, None))
        }
        Scope::Other(user) => {
            let who = identity::run_as(venue, user)?;
            Ok((who.user, Some(who.identity)))
        }
    }
}

fn secrets(command: &Command, apply: &Apply) -> Result<BTreeMap<String, String>, WorkError> {
    let mut found = BTreeMap::new();
    for (variable, name) in &command.secrets {
        let value = apply.secrets.get(name);
        let value = value.ok_or_else(|| WorkError::Plan(format!("the secret `{name}` was not given")))?;
        found.insert(variable.clone(), value.expose().to_owned());
    }
    Ok(found)
}

/// The folders that candies before this step append to PATH.
fn path_append(effect: &Effect<'_>) -> Vec<String> {
    let mut folders = Vec::new();
    for (index, (_, step)) in (0_u32..).zip(effect.apply.plan.steps()) {
        if index >= effect.task.index {
            break;
        }
        if let Action::ShellHook(hook) = &step.action {
            folders.extend(hook.path_append.iter().map(|folder| effect.venue.resolve(folder)));
        }
    }
    folders
}

/// The last lines of an output, whatever its length.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    const CAP: usize = 8 << 10;

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend(&bytes[bytes.len().saturating_sub(Self::CAP)..]);
        let excess = self.bytes.len().saturating_sub(Self::CAP);
        self.bytes.drain(..excess);
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.trim_end().lines().collect();
        let mut out = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
            let _ = writeln!(out, "{line}");
        }
        out.trim_end().to_owned()
    }
}
