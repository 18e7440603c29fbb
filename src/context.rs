//! What the verbs depend on: folders, the terminal, the user's wishes. The environment is read here and nowhere else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use charly_ir::Digest;
use charly_plans::diagnostic::Diagnostics;
use charly_plans::load::Workspace;
use charly_plans::schema::{self, Document};
use charly_plans::source::Source;
use charly_target_core::{Interrupts, Registry};
use charly_target_local::Local;
use charly_target_vm::ssh::{Address, Delivery, Machine, Unlocked, way};
use rustix::process::geteuid;
use tokio::runtime::Runtime;

use crate::cli::Globals;
use crate::deploy::Reach;
use crate::digests::{Remembered, now_ns};
use crate::exit::{Exit, Failure};
use crate::output::{Printer, can_ask, clean};

/// The name of a project's and of a candy's file.
pub(crate) const FILE_NAME: &str = "charly.yml";

/// One thread talks while the other encrypts.
const NETWORK_THREADS: usize = 2;

/// The programs that run containers, the fastest to start first.
const RUNTIMES: [&str; 3] = ["crun", "youki", "runc"];

/// What the verbs depend on.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) interrupts: Interrupts,
    /// Whether every question is answered yes.
    pub(crate) yes: bool,
    /// The project's folder; where the command was given, if there is no project.
    pub(crate) project: PathBuf,
    /// The folder that relative paths on the command line start from.
    pub(crate) working: PathBuf,
    /// The user's home folder.
    pub(crate) home: PathBuf,
    /// What may be thrown away.
    pub(crate) cache: PathBuf,
    /// What is known of machines and must not be lost.
    pub(crate) state: PathBuf,
    /// What machines are made of.
    pub(crate) data: PathBuf,
    /// The machine's own file.
    pub(crate) machine_file: PathBuf,
    /// The folder of the user's own units.
    pub(crate) units: PathBuf,
    /// Whether repositories are looked up again.
    pub(crate) refresh: bool,
    /// The moment that nothing in an image is to be later than, in seconds since 1970.
    pub(crate) source_date_epoch: Option<u64>,
    /// The identities whose passphrase was asked for already.
    pub(crate) unlocked: Unlocked,
    /// When nothing had been read yet, in nanoseconds since 1970.
    pub(crate) began_ns: i64,
    runtime: OnceLock<Runtime>,
}

impl Context {
    /// Reads the environment and the user's wishes.
    pub(crate) fn new(globals: &Globals, interrupts: Interrupts) -> Result<Self, Failure> {
        let printer = Printer { format: globals.format, quiet: globals.quiet, verbose: globals.verbose };
        let here = std::env::current_dir().context("the current folder cannot be named");
        let here = here.map_err(|error| Failure::error(Exit::Invalid, error))?;
        let (project, working) = match &globals.directory {
            Some(folder) => {
                let found = here.join(folder).canonicalize();
                let found = found.with_context(|| format!("there is no folder `{}`", folder.display()));
                let found = found.map_err(|error| Failure::error(Exit::Invalid, error));
                let found = found.map_err(|failure| failure.hint("`-C` takes the folder of a project"))?;
                (found.clone(), found)
            }
            None => (project_above(&here).unwrap_or_else(|| here.clone()), here),
        };
        let home = home()?;
        let base = |variable: &str, below_home: &str| {
            let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            set.unwrap_or_else(|| home.join(below_home))
        };
        let own = |variable: &str, below_home: &str| base(variable, below_home).join("charly");
        Ok(Self {
            printer,
            interrupts,
            yes: globals.yes,
            project,
            working,
            cache: own("XDG_CACHE_HOME", ".cache"),
            state: own("XDG_STATE_HOME", ".local/state"),
            data: own("XDG_DATA_HOME", ".local/share"),
            machine_file: own("XDG_CONFIG_HOME", ".config").join(FILE_NAME),
            units: base("XDG_CONFIG_HOME", ".config").join("systemd/user"),
            home,
            refresh: globals.refresh,
            source_date_epoch: source_date_epoch()?,
            unlocked: Unlocked::default(),
            began_ns: now_ns(),
            runtime: OnceLock::new(),
        })
    }

    /// Returns the same with another way of printing, and threads of its own where it needs any.
    pub(crate) fn with_printer(&self, printer: Printer) -> Self {
        Self {
            printer,
            interrupts: self.interrupts.clone(),
            yes: self.yes,
            project: self.project.clone(),
            working: self.working.clone(),
            home: self.home.clone(),
            cache: self.cache.clone(),
            state: self.state.clone(),
            data: self.data.clone(),
            machine_file: self.machine_file.clone(),
            units: self.units.clone(),
            refresh: self.refresh,
            source_date_epoch: self.source_date_epoch,
            unlocked: self.unlocked.clone(),
            began_ns: self.began_ns,
            runtime: OnceLock::new(),
        }
    }

    /// Loads what there is of the project and the machine's file, for verbs that only look or take away: what a venue holds
    /// is in its ledger, and a mistake in somebody's recipe must not stand between them and the way back.
    pub(crate) fn workspace_with_mistakes(&self) -> Workspace {
        let (workspace, found) = self.load();
        if found.has_errors() {
            let what = "the project has mistakes, which do not matter here; `charly validate` shows them";
            self.printer.say(format_args!("warning: {what}"));
        }
        workspace
    }

    /// Loads the project and the machine's file, with what is wrong with them.
    pub(crate) fn load(&self) -> (Workspace, Diagnostics) {
        let project = Digest::of(self.project.as_os_str().as_encoded_bytes());
        Workspace::load(&charly_plans::load::Settings {
            folder: self.project.clone(),
            machine_file: Some(self.machine_file.clone()),
            cache: self.cache.join("git"),
            refresh: self.refresh,
            digests: Some(Arc::new(Remembered::new(self.cache.join("digests").join(project.short())))),
            ..charly_plans::load::Settings::default()
        })
    }

    /// Loads the project and the machine's file. Mistakes end the verb; warnings are shown.
    pub(crate) fn workspace(&self) -> Result<Workspace, Failure> {
        let (workspace, found) = self.load();
        if found.has_errors() {
            return Err(found.into());
        }
        self.printer.findings(found.iter())?;
        Ok(workspace)
    }

    /// Waits for what a target does, in a runtime if one of the targets has asked for one.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let _entered = self.runtime.get().map(Runtime::enter);
        pollster::block_on(work)
    }

    /// Starts what networks are spoken to with. Verbs that speak to none have none.
    pub(crate) fn start_network(&self) -> Result<(), Failure> {
        if self.runtime.get().is_none() {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(NETWORK_THREADS)
                .enable_all()
                .build()
                .context("no threads could be started")
                .map_err(|error| Failure::error(Exit::Failed, error))?;
            self.runtime.set(runtime).ok();
        }
        Ok(())
    }

    /// Returns the file in which `podman login` or `docker login` keeps what registries are shown.
    pub(crate) fn registry_credentials(&self) -> Option<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let places = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            Some(self.home.join(".config/containers/auth.json")),
            Some(self.home.join(".docker/config.json")),
        ];
        places.into_iter().flatten().find(|path| path.is_file())
    }

    /// Returns how steps run in images.
    pub(crate) fn sandbox(&self) -> charly_target_oci::sandbox::Settings {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("charly"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let there = |name: &&str| folders.iter().any(|folder| folder.join(name).is_file());
        charly_target_oci::sandbox::Settings {
            helper: (program, vec!["inside".to_owned()]),
            runtime: RUNTIMES.into_iter().find(there).unwrap_or(RUNTIMES[0]).into(),
            folder: self.data.join("sandbox"),
            is_root: geteuid().is_root(),
        }
    }

    /// Returns the folder of what builders made, and of their caches.
    pub(crate) fn builders(&self) -> PathBuf {
        self.cache.join("builders")
    }

    /// Returns this machine as builders see it: they use its registries.
    pub(crate) fn host(&self) -> charly_target_oci::builder::Host {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        charly_target_oci::builder::Host { home: self.home.clone(), env: env.collect() }
    }

    /// Returns the kinds of targets.
    pub(crate) fn registry(&self, reach: &Reach) -> Registry {
        let settings = charly_target_local::Settings {
            engine_folders: vec![
                self.cache.join("engine"),
                PathBuf::from(format!("/var/tmp/charly-{}", geteuid().as_raw())),
            ],
            home: Some(self.home.clone()),
            terminal: can_ask() && !self.printer.is_json(),
        };
        let mut registry = Registry::default();
        registry.add("local", move |name, _| Ok(Box::new(Local::new(name, settings.clone()))));
        let (settings, printer) = (reach.settings(self), self.printer);
        registry.add("ssh", move |name, declaration| {
            let address = declaration["address"].as_str().unwrap_or_default().parse::<Address>()?;
            let path = |key: &str| declaration[key].as_str().map(PathBuf::from);
            let mut settings = settings.clone();
            settings.wishes.identity = settings.wishes.identity.or_else(|| path("identity"));
            settings.wishes.known_hosts = settings.wishes.known_hosts.or_else(|| path("known_hosts"));
            settings.wishes.delivery = match (settings.wishes.delivery, declaration["engine"].as_str()) {
                (Delivery::Auto, Some("scp")) => Delivery::Always,
                (Delivery::Auto, Some("skip")) => Delivery::Never,
                (said, _) => said,
            };
            let way = way(&address, &settings)?;
            for note in &way.notes {
                printer.say(format_args!("note: {}", clean(note)));
            }
            let name = match &settings.wishes.inside {
                Some(inside) => format!("{name}/{inside}"),
                None => name.to_owned(),
            };
            Ok(Box::new(Machine::new(name, way.hops, settings)))
        });
        registry
    }
}

/// Finds the project that a folder lies in: the nearest folder above with a project's file that the user, or root, owns.
/// Somebody else's file in a shared folder is nobody's project.
fn project_above(here: &Path) -> Option<PathBuf> {
    let trusted =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|file| file.uid() == 0 || file.uid() == geteuid().as_raw());
    let is_project = |folder: &&Path| {
        let path = folder.join(FILE_NAME);
        let Ok(bytes) = fs::read(&path) else { return false };
        // A document with mistakes is somebody's project all the same, and loading it will name them.
        let document = Source::from_bytes(FILE_NAME, bytes).ok().and_then(|source| schema::parse(&source).0);
        trusted(&path) && !matches!(document, Some(Document::Candy(_)))
    };
    here.ancestors().find(is_project).map(Path::to_path_buf)
}

/// Returns the moment that reproducible builds are told to pretend it is; see reproducible-builds.org.
fn source_date_epoch() -> Result<Option<u64>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    text.to_str().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        Failure::invalid(format!("`SOURCE_DATE_EPOCH={}` is no time", text.display()))
            .hint("set it to seconds since 1970, or not at all")
    })
}

/// Returns `$HOME` if it is a folder the user owns. One of somebody else's, as `sudo` may leave it, is not meant; what the passwd
/// database says is. One that is not there is a mistake: whoever set it wants nothing elsewhere touched.
fn home() -> Result<PathBuf, Failure> {
    let uid = geteuid().as_raw();
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) {
        match fs::metadata(&home) {
            Ok(at) if at.is_dir() && at.uid() == uid => return Ok(home),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::invalid(format!("HOME names `{}`, which is not there", home.display()))
                    .hint("make the folder, or set HOME to one you own"));
            }
            _ => {}
        }
    }
    let entry = Command::new("getent").args(["passwd", &uid.to_string()]).output().ok();
    let entry = entry.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    entry.trim().split(':').nth(5).filter(|home| home.starts_with('/')).map(PathBuf::from).ok_or_else(|| {
        Failure::invalid(format!("the user {uid} has no home folder")).hint("set HOME to a folder the user owns")
    })
}
