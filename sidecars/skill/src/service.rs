//! The service: everything a request needs, loaded and checked once.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::{
    audit::{Audit, Run},
    caller::{Caller, CallerError, Callers},
    folder::{Program, ResolveError, SkillFolder},
    gate::{Gate, Place},
    guard::Guard,
    manifest::{self, Manifest, ManifestError},
    name::SkillName,
    orphans::Orphans,
    pattern::redact,
    refusal::Refusal,
    request::RunRequest,
    run::{Ending, Order, Outcome, execute},
    sandbox::{Sandbox, SandboxError},
    settings::{Limits, Settings},
    tasks::Tasks,
    work::WorkFolder,
};

/// Where programs are looked for by the programs that run.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A credential that is read from a file has at most this many bytes.
const LARGEST_CREDENTIAL: u64 = 64 * 1024;

/// Holds everything a request needs.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) guard: Guard,
    pub(crate) callers: Callers,
    pub(crate) gate: Gate,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) audit: Audit,
    pub(crate) limits: Limits,
    pub(crate) phase: watch::Sender<Phase>,
    folder: SkillFolder,
    manifests: BTreeMap<SkillName, Manifest>,
    default_manifest: Manifest,
    require_manifest: bool,
    sandbox: Sandbox,
    orphans: Arc<Orphans>,
    work: WorkFolder,
    environment: BTreeMap<String, SecretString>,
}

/// Says how far the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Takes requests.
    Serving,
    /// Takes no new runs.
    Draining,
    /// Ends the runs that still go on.
    Ending,
}

/// Says what is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The skills folder cannot be used.
    #[error("cannot open the skills folder `{path}`", path = .0.display())]
    Skills(PathBuf, #[source] io::Error),
    /// A manifest is wrong.
    #[error("the manifests cannot be used")]
    Manifest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The callers are wrong.
    #[error("the callers cannot be used")]
    Callers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sandbox cannot be had.
    #[error("the sandbox cannot be used")]
    Sandbox(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server would be open to everybody.
    #[error(
        "`{0}` can be reached from elsewhere, and no token is set; set one with `--token-file`, SKILL_TOKEN or `--callers`"
    )]
    Open(String),
    /// A credential is not there.
    #[error("the manifest of `{0}` grants `{1}`, which the server's environment does not have")]
    Credential(String, String),
    /// A manifest wants what the server cannot do.
    #[error("the manifest of `{0}` wants {1}")]
    Impossible(String, &'static str),
    /// The folder for working folders cannot be used.
    #[error("cannot make working folders in `{path}`", path = .0.display())]
    Work(PathBuf, #[source] io::Error),
}

impl From<ManifestError> for ConfigError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(Box::new(error))
    }
}

impl From<CallerError> for ConfigError {
    fn from(error: CallerError) -> Self {
        Self::Callers(Box::new(error))
    }
}

impl From<SandboxError> for ConfigError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(Box::new(error))
    }
}

impl Service {
    /// Loads and checks everything the settings name.
    pub(crate) fn load(settings: Settings, audit: Audit) -> Result<Self, ConfigError> {
        let Settings {
            listen,
            socket_mode: _,
            skills,
            manifests,
            callers,
            token,
            hosts,
            origins,
            require_manifest,
            sandbox,
            work,
            supervised,
            limits,
            environment,
        } = settings;
        let folder = SkillFolder::open(&skills).map_err(|error| ConfigError::Skills(skills, error))?;
        let callers = Callers::load(callers.as_deref(), token.as_ref())?;
        if !listen.is_local() && !callers.need_token() {
            return Err(ConfigError::Open(listen.to_string()));
        }
        let orphans = Orphans::open(supervised);
        let sandbox = Sandbox::prepare(sandbox, orphans.are_listed())?;
        let manifests = match manifests {
            Some(folder) => manifest::load(&folder)?,
            None => BTreeMap::new(),
        };
        let root = rustix::process::geteuid().is_root();
        for (name, manifest) in &manifests {
            let impossible = |what| Err(ConfigError::Impossible(name.to_string(), what));
            if let Some(missing) = manifest.grant.iter().find(|variable| !environment.contains_key(*variable)) {
                return Err(ConfigError::Credential(name.to_string(), missing.clone()));
            }
            if !manifest.network && !sandbox.can_cut_network() {
                return impossible("no network, which takes seccomp, and that is off or not in this kernel");
            }
            if manifest.identity.is_some() && !root {
                return impossible("another user, which takes a server that runs as root");
            }
        }
        let concurrent = |(name, manifest): (&SkillName, &Manifest)| Some((name.clone(), manifest.concurrent?));
        let work = WorkFolder::make(&work).map_err(|error| ConfigError::Work(work, error))?;
        Ok(Self {
            guard: Guard { local: listen.is_local(), hosts, origins },
            gate: Gate::new(limits.runs, limits.queue, manifests.iter().filter_map(concurrent)),
            tasks: Arc::new(Tasks::new(limits.results, limits.result_age)),
            phase: watch::channel(Phase::Serving).0,
            callers,
            audit,
            limits,
            folder,
            manifests,
            default_manifest: Manifest::default(),
            require_manifest,
            sandbox,
            orphans: Arc::new(orphans),
            work,
            environment,
        })
    }

    /// Says what is odd without being wrong.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.sandbox.is_complete() {
            warnings.push(format!("runs are not fully sandboxed ({})", self.sandbox.describe()));
        }
        let granted = |(_, manifest): &(_, &Manifest)| !manifest.grant.is_empty() || !manifest.from_file.is_empty();
        if let Some((name, _)) = self.manifests.iter().find(granted)
            && !self.sandbox.separates_runs()
        {
            warnings.push(format!(
                "without Landlock, runs of one user can read each other's credentials; `{name}` is granted some"
            ));
        }
        if !self.callers.need_token() {
            warnings.push("no token is set: every program on this machine may run every skill".into());
        }
        let bare_root = |manifest: &Manifest| manifest.identity.is_none();
        if rustix::process::geteuid().is_root() && (self.manifests.is_empty() || self.manifests.values().any(bare_root))
        {
            warnings.push("the server is root, and so is every run without `run_as`".into());
        }
        for name in self.manifests.keys().chain(self.callers.iter().flat_map(Caller::limited_to)) {
            if let Err(error) = self.folder.resolve(name) {
                warnings.push(error.to_string());
            }
        }
        warnings
    }

    /// Says in a few words what was loaded.
    pub(crate) fn describe(&self) -> String {
        let skills = self.skills().map_or(0, |names| names.len());
        let callers = self.callers.iter().count();
        format!("{skills} skills, {} manifests, {callers} tokens, {}", self.manifests.len(), self.sandbox.describe())
    }

    /// Lists the skills that can be run, by anybody.
    pub(crate) fn skills(&self) -> io::Result<Vec<SkillName>> {
        let mut names = self.folder.names()?;
        names.retain(|name| self.manifest(name).is_some());
        Ok(names)
    }

    /// Returns what a skill may be given, unless it may not be run at all.
    pub(crate) fn manifest(&self, name: &SkillName) -> Option<&Manifest> {
        let fallback = || (!self.require_manifest).then_some(&self.default_manifest);
        self.manifests.get(name).or_else(fallback)
    }

    /// Finds a skill for a caller.
    pub(crate) fn find(&self, name: &SkillName, caller: &Caller) -> Result<(Program, &Manifest), Refusal> {
        if !caller.may_run(name) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, format!("`{name}` is not among this caller's skills"))
                .with_hint("GET /skills lists them"));
        }
        let missing =
            |error: String| Refusal::new(StatusCode::NOT_FOUND, error).with_hint("GET /skills lists what there is");
        let manifest = self.manifest(name).ok_or_else(|| missing(format!("no skill named `{name}`")))?;
        let program = self.folder.resolve(name).map_err(|error| match error {
            ResolveError::Missing(_) | ResolveError::Unfit(..) => missing(error.to_string()),
            ResolveError::Lookup(..) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })?;
        Ok((program, manifest))
    }
}

/// Holds one run that was let in.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) service: Arc<Service>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) skill: SkillName,
    pub(crate) program: Program,
    pub(crate) request: RunRequest,
    pub(crate) time: Duration,
    pub(crate) place: Place,
    /// Resolves when the caller no longer wants the run.
    pub(crate) cancelled: oneshot::Receiver<()>,
}

impl Job {
    /// Waits for a turn, runs the skill, and records both ends of it.
    pub(crate) async fn perform(self) -> Outcome {
        let Self { service, caller, skill, program, request, time, place: _place, mut cancelled } = self;
        let mut phase = service.phase.subscribe();
        let mut stop = std::pin::pin!(async move {
            tokio::select! {
                _ = &mut cancelled => {}
                _ = phase.wait_for(|phase| *phase == Phase::Ending) => {}
            }
        });
        let turn = tokio::select! {
            biased;
            turn = service.gate.turn(&skill) => Ok(turn),
            () = tokio::time::sleep(time) => Err(Ending::NoTurn),
            () = &mut stop => Err(Ending::Cancelled),
        };
        let id = Uuid::new_v4();
        let run = Run { id, caller: &caller.name, skill: skill.as_str() };
        let manifest = service.manifest(&skill).unwrap_or(&service.default_manifest);
        let Credentials { values, missing } = service.credentials(manifest);
        let secrets: Vec<&str> = values.iter().map(|(_, value)| value.expose_secret()).collect();
        service.audit.started(run, &redact(&request.args, &manifest.redact, &secrets)).await;
        let began = Instant::now();
        // Whatever keeps a run from starting is recorded as its end.
        let outcome = match (&turn, missing) {
            (Err(ending), _) => Outcome::without_output(ending.clone()),
            (Ok(_), Some(why)) => Outcome::not_started(why),
            (Ok(_), None) => service.run(id, &skill, program, manifest, request, &values, time, stop).await,
        };
        if let Ending::NotStarted(why) = &outcome.ending {
            tracing::warn!(%skill, why, "a skill could not be started");
        }
        service.audit.finished(run, &outcome, began.elapsed()).await;
        outcome
    }
}

impl Service {
    #[expect(clippy::too_many_arguments, reason = "one call, from the function above")]
    async fn run(
        &self,
        id: Uuid,
        skill: &SkillName,
        program: Program,
        manifest: &Manifest,
        request: RunRequest,
        credentials: &[(&str, SecretString)],
        time: Duration,
        stop: impl Future<Output = ()>,
    ) -> Outcome {
        let folder = match self.work.private(id, manifest.identity.as_ref()) {
            Ok(folder) => folder,
            Err(error) => return Outcome::not_started(format!("cannot make a working folder: {error}")),
        };
        let home = folder.path.to_string_lossy();
        let base = [("PATH", SEARCH_PATH), ("LANG", "C.UTF-8"), ("HOME", &home), ("TMPDIR", &home)];
        let base = base.into_iter().filter(|(name, _)| !manifest.fixes(name));
        let environment = base
            .chain(manifest.set.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .chain(credentials.iter().map(|(name, value)| (*name, value.expose_secret())))
            .chain(request.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .collect();
        let arguments = [skill.as_str()].into_iter().chain(request.args.iter().map(String::as_str));
        let order = || -> io::Result<_> {
            let place = manifest.folder.as_deref().map(crate::folder::open_place).transpose()?;
            let ruleset =
                self.sandbox.ruleset(program.handle(), rustix::fd::AsFd::as_fd(&folder.handle), &manifest.files)?;
            Ok((place, ruleset))
        };
        let outcome = match order() {
            Err(error) => Outcome::not_started(format!("cannot prepare the sandbox: {error}")),
            Ok((place, ruleset)) => {
                let order = Order {
                    program,
                    arguments: arguments.filter_map(|text| CString::new(text).ok()).collect(),
                    environment,
                    stdin: request.stdin.map(String::into_bytes),
                    folder: rustix::fd::AsFd::as_fd(place.as_ref().unwrap_or(&folder.handle)),
                    identity: manifest.identity.as_ref(),
                    limits: &manifest.limits,
                    ruleset,
                    filter: self.sandbox.filter(manifest.network),
                    orphans: &self.orphans,
                    time,
                    output: manifest.output.unwrap_or(self.limits.output),
                };
                execute(order, stop).await
            }
        };
        folder.remove().await;
        outcome
    }

    /// Collects the credentials a manifest grants. Files are read for each run, so that a rotated secret is taken.
    fn credentials<'a>(&self, manifest: &'a Manifest) -> Credentials<'a> {
        let granted =
            manifest.grant.iter().filter_map(|name| Some((name.as_str(), self.environment.get(name)?.clone())));
        let mut credentials = Credentials { values: granted.collect(), missing: None };
        for (name, path) in &manifest.from_file {
            let read = || -> io::Result<String> {
                if fs::metadata(path)?.len() > LARGEST_CREDENTIAL {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                fs::read_to_string(path)
            };
            match read() {
                Ok(text) => {
                    let value = SecretString::from(text.trim_end_matches(['\r', '\n']));
                    credentials.values.push((name, value));
                }
                Err(error) => credentials.missing = Some(format!("cannot read the credential `{name}`: {error}")),
            }
        }
        credentials
    }
}

/// Holds the credentials of one run.
struct Credentials<'a> {
    values: Vec<(&'a str, SecretString)>,
    /// Why one of them is not among them.
    missing: Option<String>,
}
