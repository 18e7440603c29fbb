//! A program run in an image for what it makes in folders given to it; whatever else it changes is gone with it.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use charly_target_core::Interrupts;
use serde::{Deserialize, Serialize};

use super::venue::Settings;
use super::{Lower, Order, Outcome, trees};
use crate::layer::Compression;

/// A program to be run in an image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Its variables. Some may be secrets.
    pub env: BTreeMap<String, String>,
    /// The folder that it starts in.
    pub folder: String,
    /// What of this machine it sees.
    pub binds: Vec<Bind>,
}

/// A file or folder of this machine that a program in an image sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is here.
    pub from: PathBuf,
    /// Where it is there.
    pub to: String,
    /// Whether it may be changed.
    pub is_writable: bool,
}

/// Why a program cannot be run in an image.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no runtime.
    #[error("`{program}` is not there, and no other program that runs containers")]
    NoRuntime {
        /// The one that is asked for first.
        program: PathBuf,
    },
    /// Something about a folder of the run's own fails.
    #[error("`{path}` cannot be used")]
    Folder {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be started.
    #[error("`unshare` cannot be started")]
    Start(#[source] io::Error),
    /// The namespaces, the layers or the runtime fail.
    #[error("nothing can be run in the image")]
    Sandbox {
        /// The last that was said.
        said: Vec<String>,
    },
    /// The program failed.
    #[error("it ended with status {status}")]
    Failed {
        /// Its exit status.
        status: i32,
        /// The last that was said.
        said: Vec<String>,
    },
    /// The user stopped it.
    #[error("it was stopped")]
    Stopped,
}

impl CommandError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRuntime { .. } => Some("install an OCI runtime: `sudo apt-get install crun`"),
            Self::Start(_) => Some("install `unshare` (the package util-linux)"),
            Self::Sandbox { .. } => {
                Some("where user namespaces are forbidden, run it as root, or allow them; `/etc/subuid` must name you")
            }
            Self::Folder { .. } | Self::Failed { .. } | Self::Stopped => None,
        }
    }
}

/// How many of a program's last lines are told when it fails.
const TOLD: usize = 20;

/// How long a line may be, so that a program without line ends fills nothing.
const LINE: u64 = 4096;

/// How long to wait for a line before the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Says what can be said beforehand: whether there is a program that runs containers.
pub fn check(settings: &Settings) -> Result<(), CommandError> {
    let asked = process::Command::new(&settings.runtime).arg("--version").stdin(Stdio::null()).output();
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CommandError::NoRuntime { program: settings.runtime.clone() })
        }
        _ => Ok(()),
    }
}

/// Runs a program over layers, the lowest first, and gives `line` each line that it says.
pub fn run(
    settings: &Settings,
    lowers: Vec<Lower>,
    command: Command,
    interrupts: &Interrupts,
    line: &mut dyn FnMut(&str),
) -> Result<(), CommandError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::Folder { path, source }
    };
    // As long as it is held, nobody takes the layers away.
    let (trees, runs, _in_use) = trees::enter(&settings.folder).map_err(unusable(&settings.folder))?;
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs).map_err(unusable(&runs))?;
    let outcome = folder.path().join("outcome.json");
    let order = Order {
        lowers,
        trees,
        work: folder.path().join("work"),
        engine: PathBuf::new(),
        runtime: settings.runtime.clone(),
        is_user_namespace: !settings.is_root,
        epoch: 0,
        compression: Compression::None,
        threads: 1,
        blob: PathBuf::new(),
        outcome: outcome.clone(),
        command: Some(command),
    };
    fs::create_dir(&order.work).map_err(unusable(&order.work))?;
    let path = folder.path().join("order.json");
    fs::write(&path, serde_json::to_vec(&order).unwrap_or_default()).map_err(unusable(&path))?;
    let said = converse(settings, &path, interrupts, line)?;
    let outcome = fs::read(&outcome).ok().and_then(|text| serde_json::from_slice::<Outcome>(&text).ok());
    match outcome.and_then(|outcome| outcome.status) {
        Some(0) => Ok(()),
        Some(status) => Err(CommandError::Failed { status, said }),
        None => Err(CommandError::Sandbox { said }),
    }
}

/// Starts the sandbox's side and listens to it until it ends. Returns the last that it said.
fn converse(
    settings: &Settings,
    order: &Path,
    interrupts: &Interrupts,
    line: &mut dyn FnMut(&str),
) -> Result<Vec<String>, CommandError> {
    let mut command = process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    // Whatever is started ends with the first process of the namespace, and that one with `unshare`.
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !settings.is_root {
        command.args(["--user", "--map-root-user", "--map-auto", "--setgroups", "allow"]);
    }
    let (helper, arguments) = &settings.helper;
    command.arg("--").arg(helper).args(arguments).arg(order);
    // A Ctrl-C on the terminal reaches the controller alone.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(CommandError::Start)?;
    let (sender, lines) = mpsc::channel();
    let pipes = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || read_lines(pipe, &sender));
    }
    drop(sender);
    let mut said = VecDeque::new();
    let stopped = loop {
        if interrupts.count() > 0 {
            break true;
        }
        match lines.recv_timeout(TICK) {
            Ok(text) => {
                line(&text);
                if said.len() == TOLD {
                    said.pop_front();
                }
                said.push_back(text);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    if stopped {
        child.kill().ok();
    }
    child.wait().map_err(CommandError::Start)?;
    if stopped { Err(CommandError::Stopped) } else { Ok(said.into()) }
}

fn read_lines(pipe: Box<dyn Read + Send>, sender: &mpsc::Sender<String>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!((&mut pipe).take(LINE).read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        // Nobody listens any more: it is read all the same, so that nobody is kept waiting.
        sender.send(text).ok();
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { arguments, env: _, folder, binds } = self;
        f.debug_struct("Command")
            .field("arguments", arguments)
            .field("folder", folder)
            .field("binds", binds)
            .finish_non_exhaustive()
    }
}
