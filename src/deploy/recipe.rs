//! Compiles a deploy for its venue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use charly_ir::message::{Apply, DeploySummary, Hello, Layer, Mode, RebootPolicy, SecretValue};
use charly_ir::plan::{BuilderKind, InstallPlan};
use charly_plans::compile::{Compiled, Options, compile};
use charly_plans::load::{Blob, DeployEntry, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::{Map, Spanned};
use charly_target_core::fetch::{Content, Fetcher, PlanSupply};
use charly_target_core::target::Compiled as Ready;
use charly_target_core::{BoxError, Interrupts, Recipe};

use super::{Ask, Layers, Secret, env, workshop};
use crate::context::Context;
use crate::exit::{Exit, Failure, Told};
use crate::output::{Printer, transfer_bar};

/// A deploy, ready to be compiled once its venue is known.
#[derive(Debug)]
pub(crate) struct DeployRecipe {
    name: String,
    entry: Option<DeployEntry>,
    added: Vec<LayerRef>,
    project: PathBuf,
    workspace: Mutex<Workspace>,
    wishes: Wishes,
    printer: Printer,
    downloads: Downloads,
    context: Context,
    outcome: Mutex<Option<Outcome>>,
}

/// How a deploy is to be applied.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) mode: Mode,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, SecretValue>,
    pub(crate) rerun: Vec<String>,
    pub(crate) undoable_only: bool,
    pub(crate) skip_incompatible: bool,
    /// The images that builders run in: of one builder, or of all that nothing else is said of.
    pub(crate) builders: Vec<(Option<BuilderKind>, String)>,
    /// What a step does that needs a reboot; nothing said, it is left to the user.
    pub(crate) reboot: Option<RebootPolicy>,
    pub(crate) sudo_password: Option<SecretValue>,
    pub(crate) command_timeout: Duration,
}

/// What a compilation came to, for whoever asked.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) layers: Vec<Layer>,
    pub(crate) plan: InstallPlan,
}

/// How downloads are fetched.
#[derive(Debug, Clone)]
pub(crate) struct Downloads {
    folder: PathBuf,
    interrupts: Interrupts,
    visible: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            mode: Mode::Ask,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            rerun: Vec::new(),
            undoable_only: false,
            skip_incompatible: false,
            builders: Vec::new(),
            reboot: None,
            sudo_password: None,
            command_timeout: Duration::from_secs(1800),
        }
    }
}

impl DeployRecipe {
    /// Takes a deploy's declaration and what is added to it by hand.
    pub(crate) fn new(
        cx: &Context,
        workspace: Workspace,
        name: &str,
        entry: Option<DeployEntry>,
        added: Vec<LayerRef>,
        wishes: Wishes,
    ) -> Self {
        let (downloads, context) = (Downloads::new(cx), cx.with_printer(cx.printer));
        let (workspace, outcome) = (Mutex::new(workspace), Mutex::new(None));
        Self {
            name: name.to_owned(),
            entry,
            added,
            project: cx.project.clone(),
            workspace,
            wishes,
            printer: cx.printer,
            downloads,
            context,
            outcome,
        }
    }

    /// Returns what the last compilation came to.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns what `sudo` is told on the venue, where that was asked for.
    pub(crate) fn sudo_password(&self) -> Option<&SecretValue> {
        self.wishes.sudo_password.as_ref()
    }

    /// Finds the layers and their candies.
    pub(crate) fn layers(&self, deploys: &[DeploySummary]) -> Result<Layers, Failure> {
        let held = deploys.iter().find(|deploy| deploy.name == self.name);
        let ask = Ask::new(self.entry.as_ref(), held, &self.added)?;
        if ask.is_empty() && held.is_none_or(|held| held.candies.is_empty()) {
            return Err(Failure::invalid(format!("nothing is asked for in `{}`", self.name))
                .hint("name a layer, such as `hello`; `charly candy list` shows those there are"));
        }
        ask.resolve(&mut self.workspace())
    }

    fn compiled(&self, hello: &Hello) -> Result<Ready, Failure> {
        let Layers { layers, resolved } = self.layers(&hello.deploys)?;
        let wishes = self.wishes.clone();
        let mut env = env::declared(self.entry.as_ref(), &self.project)?;
        env.extend(wishes.env);
        let declared = Secret::declared(self.entry.as_ref());
        let options = Options {
            skip_incompatible: wishes.skip_incompatible,
            env,
            secrets: wishes.secrets.keys().chain(declared.iter().map(|secret| &secret.name)).cloned().collect(),
            builders: builders(wishes.builders, [self.workspace().defaults().map(|all| &all.builder)])?,
            ..Options::default()
        };
        let Compiled { plan, blobs, warnings } = compile(&resolved, &hello.facts, &options)?;
        let blobs = blobs.into_iter().map(|(digest, blob)| match blob {
            Blob::Bytes(bytes) => (digest, Content::Memory(bytes.into())),
            Blob::File(path, stamp) => (digest, Content::Stamped(path, stamp)),
        });
        known(&wishes.rerun, &plan)?;
        let supply = PlanSupply::new(&plan, blobs.collect(), self.downloads.fetcher());
        let supply = supply.with_builders(workshop(&self.context), &hello.facts.user);
        self.printer.findings(warnings.iter())?;
        let outcome = Outcome { layers: layers.clone(), plan: plan.clone() };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        let wanted = |name: &String| plan.candies.iter().any(|candy| candy.secrets.contains(name));
        let mut secrets = wishes.secrets;
        for secret in declared.iter().filter(|secret| wanted(&secret.name)) {
            if !secrets.contains_key(&secret.name) {
                let value = secret.read(&self.project, &self.context.home);
                secrets.insert(secret.name.clone(), value.map_err(|error| Failure::error(Exit::Invalid, error))?);
            }
        }
        secrets.retain(|name, _| wanted(name));
        let apply = Apply {
            deploy: self.name.clone(),
            run: run_id(),
            layers,
            plan,
            mode: wishes.mode,
            rerun: wishes.rerun,
            undoable_only: wishes.undoable_only,
            skip_incompatible: wishes.skip_incompatible,
            reboot: wishes.reboot.unwrap_or(RebootPolicy::Skip),
            secrets,
            command_timeout_s: u32::try_from(wishes.command_timeout.as_secs()).unwrap_or(u32::MAX),
            follows: Vec::new(),
            sudo_password: wishes.sudo_password,
        };
        Ok(Ready { apply, supply: Box::new(supply) })
    }

    fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipe for DeployRecipe {
    fn compile(&self, hello: &Hello) -> Result<Ready, BoxError> {
        self.compiled(hello).map_err(|failure| Told(failure).into())
    }
}

impl Downloads {
    pub(crate) fn new(cx: &Context) -> Self {
        Self {
            folder: cx.cache.join("downloads"),
            interrupts: cx.interrupts.clone(),
            visible: !cx.printer.quiet && !cx.printer.is_json(),
        }
    }

    pub(crate) fn fetcher(&self) -> Fetcher {
        let bar = transfer_bar(self.visible, "fetching");
        Fetcher::new(self.folder.clone(), Self::agent(), self.interrupts.clone(), bar)
    }

    /// Returns what speaks HTTP, as this machine trusts certificates.
    pub(crate) fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("charly/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build())
            .build();
        config.into()
    }
}

/// Returns the images that builders run in: what is said on the command line before what documents say, nearest first.
pub(crate) fn builders<'a>(
    said: Vec<(Option<BuilderKind>, String)>,
    documents: impl IntoIterator<Item = Option<&'a Map<Spanned<String>>>>,
) -> Result<BTreeMap<BuilderKind, String>, Failure> {
    let mut images = BTreeMap::new();
    let (of_one, of_all): (Vec<_>, Vec<_>) = said.into_iter().partition(|(kind, _)| kind.is_some());
    for (kind, image) in of_one {
        images.extend(kind.map(|kind| (kind, image)));
    }
    for (_, image) in of_all {
        for kind in BuilderKind::ALL {
            images.entry(kind).or_insert_with(|| image.clone());
        }
    }
    for (name, image) in documents.into_iter().flatten().flat_map(Map::iter) {
        let Some(kind) = BuilderKind::ALL.into_iter().find(|kind| kind.to_string() == name.value) else {
            return Err(Failure::invalid(format!("`{}` is no builder", name.value))
                .hint("under `builder`, name images for npm, cargo, pixi, uv or aur"));
        };
        images.entry(kind).or_insert_with(|| image.value.clone());
    }
    Ok(images)
}

/// Refuses steps to be run again that the plan does not have.
fn known(rerun: &[String], plan: &InstallPlan) -> Result<(), Failure> {
    let is_step = |name: &str| {
        plan.steps().any(|(candy, step)| {
            step.id == name
                || name.strip_prefix(&candy.name).is_some_and(|rest| rest.strip_prefix('/') == Some(&step.id))
        })
    };
    match rerun.iter().find(|name| !is_step(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::invalid(format!("no step `{name}` is planned"))
            .hint("`charly bundle plan NAME --format json` has the steps' ids")),
    }
}

/// Names a run: unique on every venue this machine speaks to.
pub(crate) fn run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
