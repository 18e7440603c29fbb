//! From a box's declaration to its image.

use std::collections::BTreeMap;
use std::num::NonZero;

use charly_ir::facts::User;
use charly_ir::message::SecretValue;
use charly_ir::plan::{CandyPlan, InstallPlan};
use charly_ir::{Digest, STANDARD_PATH};
use charly_plans::compile::{Compiled, Options, Supervisor, compile};
use charly_plans::diagnostic::Diagnostic;
use charly_plans::image::{BoxLayer, ImagePlan, SUPERVISORD, for_image, labels};
use charly_plans::load::{Blob, Workspace};
use charly_plans::resolve::Found;
use charly_target_core::Supply;
use charly_target_core::fetch::{Content, PlanSupply};
use charly_target_oci::build::{self, Blueprint, Built, Settings, Wanted, Wish};
use charly_target_oci::layer::Compression;
use charly_target_oci::store::{Image, Store};

use super::progress::Watcher;
use super::unchanged::Unchanged;
use super::{base, store};
use crate::context::Context;
use crate::deploy::{Downloads, Wishes, builders, workshop};
use crate::exit::Failure;
use crate::verb::bundle::Compile;

/// Where what is known of earlier builds is, below what machines and images are made of.
pub(super) const BUILT: &str = "build";

/// How boxes are made.
#[derive(Debug, Default, clap::Args)]
pub(super) struct How {
    #[command(flatten)]
    compile: Compile,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t)]
    compression: Pack,
    /// Build every layer anew
    #[arg(long)]
    no_cache: bool,
    /// Build the machine's own way: by so many threads; as many as there are processors where nothing is said
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZero<usize>>,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum Pack {
    /// As every program that takes images can read.
    #[default]
    Gzip,
    /// Smaller, and several times as fast.
    Zstd,
    /// Not at all.
    None,
}

/// A box, compiled for its base.
pub(super) struct Ready {
    /// What it is called.
    pub(super) name: String,
    /// What it starts from.
    pub(super) base: Option<Image>,
    /// What is to be in it.
    pub(super) plan: InstallPlan,
    /// The digests of its candies' plans.
    pub(super) digests: Vec<Digest>,
    /// What it says about how it is run.
    pub(super) wanted: Wanted,
    pub(super) in_base: Vec<(String, Digest)>,
    secrets: BTreeMap<String, SecretValue>,
    blobs: BTreeMap<Digest, Content>,
    user: User,
    /// Whether there was nothing to be said of it, which has to be said each time.
    is_silent: bool,
}

/// Builds a box, and before it those it starts from.
pub(super) fn build(cx: &Context, name: &str, how: &How) -> Result<Built, Failure> {
    let store = store(cx)?;
    let mut workspace = cx.workspace()?;
    let chain = workspace.chain(name)?;
    layers(cx, &store, &mut workspace, &chain.boxes, how)
}

/// Builds boxes, each after the one it starts from, and returns the last.
pub(super) fn layers(
    cx: &Context,
    store: &Store,
    workspace: &mut Workspace,
    boxes: &[BoxLayer],
    how: &How,
) -> Result<Built, Failure> {
    let settings = how.settings(cx);
    let mut last = None;
    for layer in boxes {
        for_this_machine(layer)?;
        let base = base::image(cx, store, workspace, &layer.base, &settings)?;
        let (found, wishes) = (workspace.box_candies(layer)?, how.compile.wishes(cx)?);
        let known = Unchanged::new(cx, workspace, (layer, base.as_ref()), (how, &wishes), (&found, &settings));
        if settings.use_cache
            && !cx.refresh
            && let Some((built, said)) = known.image(store)
        {
            for line in said {
                cx.printer.say(format_args!("{line}"));
            }
            last = Some(built);
            continue;
        }
        let ready = compiled(cx, store, workspace, (layer, base), (found, wishes), &settings)?;
        let (built, said) = one(cx, store, &ready, &settings)?;
        if ready.is_silent {
            known.remember(&built, said);
        }
        last = Some(built);
    }
    last.ok_or_else(|| Failure::invalid("a box is made of nothing"))
}

/// Compiles a box for its base, which is there.
pub(super) fn ready(
    cx: &Context,
    store: &Store,
    workspace: &mut Workspace,
    layer: &BoxLayer,
    how: &How,
    settings: &Settings,
) -> Result<Ready, Failure> {
    for_this_machine(layer)?;
    let base = base::image(cx, store, workspace, &layer.base, settings)?;
    let (found, wishes) = (workspace.box_candies(layer)?, how.compile.wishes(cx)?);
    compiled(cx, store, workspace, (layer, base), (found, wishes), settings)
}

/// Compiles the candies of a box, which were found.
fn compiled(
    cx: &Context,
    store: &Store,
    workspace: &Workspace,
    (layer, base): (&BoxLayer, Option<Image>),
    (found, wishes): (Found, Wishes),
    settings: &Settings,
) -> Result<Ready, Failure> {
    let resolved = workspace.digested(found);
    let traits = build::traits(store, base.as_ref(), settings)?;
    let config = base.as_ref().and_then(|base| base.config.config().clone());
    let base_user = config.as_ref().and_then(|config| config.user().clone()).filter(|user| !user.is_empty());
    let (user, made) = traits.accounts.meet(&wish(layer), base_user.as_deref()).map_err(|error| {
        Diagnostic::error(error.to_string()).at(layer.place.clone()).hint("name another user, or say nothing of it")
    })?;
    let known: BTreeMap<String, String> =
        config.as_ref().and_then(|config| config.labels().clone()).unwrap_or_default().into_iter().collect();
    let in_base = labels::candies(&known).into_iter().map(|held| (held.name, held.digest)).collect();
    let init = layer.spec.init.clone().or_else(|| known.get(&labels::name("init")).cloned());
    let supervisor = supervisor(layer, init.as_deref())?;
    let options = Options {
        skip_incompatible: wishes.skip_incompatible,
        env: wishes.env,
        secrets: wishes.secrets.keys().cloned().collect(),
        supervisor,
        builders: builders(wishes.builders, [Some(&layer.spec.builder), workspace.defaults().map(|all| &all.builder)])?,
    };
    let arch = match &base {
        Some(base) => architecture(&base.config.architecture().to_string()),
        None => std::env::consts::ARCH.to_owned(),
    };
    let Compiled { plan, blobs, warnings } = compile(&resolved, &traits.facts(&arch, user.clone()), &options)?;
    cx.printer.findings(warnings.iter())?;
    let ImagePlan { mut plan, env, path, notes } = for_image(plan, &user, supervisor, appended(config.as_ref()))?;
    let is_silent = warnings.iter().next().is_none() && notes.is_empty();
    for note in notes {
        cx.printer.say(format_args!("note: {}", crate::output::clean(&note)));
    }
    plan.candies.splice(0..0, made);
    let mut variables: BTreeMap<String, String> =
        layer.spec.env.iter().map(|(name, value)| (name.to_string(), value.value.clone())).collect();
    variables.extend(env);
    let digests: Vec<_> = plan.candies.iter().map(CandyPlan::digest).collect();
    let added: Vec<_> = plan.candies.iter().zip(digests.iter().copied()).collect();
    let labels = labels::of_box(&known, layer, &added, &user, &variables);
    let wanted = wanted(layer, &user, base_user.as_deref(), supervisor, variables, path, labels);
    let blobs = blobs.into_iter().map(|(digest, blob)| match blob {
        Blob::Bytes(bytes) => (digest, Content::Memory(bytes.into())),
        Blob::File(path, stamp) => (digest, Content::Stamped(path, stamp)),
    });
    let (name, secrets, blobs) = (reference(layer), wishes.secrets, blobs.collect());
    Ok(Ready { name, base, plan, digests, wanted, in_base, secrets, blobs, user, is_silent })
}

/// Builds one box whose base is there, and returns what the next build will say of its candies if nothing changes.
pub(super) fn one(
    cx: &Context,
    store: &Store,
    ready: &Ready,
    settings: &Settings,
) -> Result<(Built, Vec<String>), Failure> {
    let supply = |plan: &InstallPlan| -> Box<dyn Supply> { ready.supply(cx, plan) };
    let blueprint = ready.blueprint(&supply);
    let mut watcher = Watcher::new(cx.printer, cx.interrupts.clone());
    let built = cx.block_on(build::build(store, &blueprint, settings, &mut watcher));
    watcher.finish()?;
    Ok((built?, watcher.next))
}

impl Ready {
    /// Returns what its image is built from; `supply` gives what a plan of one candy names.
    pub(super) fn blueprint<'a>(&'a self, supply: &'a dyn Fn(&InstallPlan) -> Box<dyn Supply>) -> Blueprint<'a> {
        Blueprint {
            name: &self.name,
            base: self.base.as_ref(),
            in_base: &self.in_base,
            plan: &self.plan,
            digests: &self.digests,
            wanted: self.wanted.clone(),
            secrets: &self.secrets,
            supply,
        }
    }

    /// Returns what gives the bytes that a plan of some of its candies names.
    pub(super) fn supply(&self, cx: &Context, plan: &InstallPlan) -> Box<dyn Supply> {
        let supply = PlanSupply::new(plan, self.blobs.clone(), Downloads::new(cx).fetcher());
        Box::new(supply.with_builders(workshop(cx), &self.user))
    }
}

impl How {
    /// Makes layers as quickly as can be, for images that nobody sends anywhere.
    pub(super) fn uncompressed() -> Self {
        Self { compression: Pack::None, ..Self::default() }
    }

    pub(super) fn compression(&self) -> &'static str {
        match self.compression {
            Pack::Gzip => "gzip",
            Pack::Zstd => "zstd",
            Pack::None => "none",
        }
    }

    pub(super) fn settings(&self, cx: &Context) -> Settings {
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok());
        Settings {
            sandbox: cx.sandbox(),
            compression: match self.compression {
                Pack::Gzip => Compression::Gzip,
                Pack::Zstd => Compression::Zstd,
                Pack::None => Compression::None,
            },
            threads: threads.unwrap_or(NonZero::<usize>::MIN),
            epoch: cx.source_date_epoch,
            use_cache: !self.no_cache,
            folder: cx.data.join(BUILT),
            interrupts: cx.interrupts.clone(),
        }
    }
}

/// Returns what a box's image is called.
pub(super) fn reference(layer: &BoxLayer) -> String {
    let image = layer.spec.image.clone().unwrap_or_else(|| format!("localhost/{}", layer.name));
    format!("{image}:{}", layer.spec.tag.as_deref().unwrap_or("latest"))
}

fn wish(layer: &BoxLayer) -> Wish {
    let text = |field: &Option<charly_plans::schema::Spanned<String>>| field.as_ref().map(|field| field.value.clone());
    let spec = &layer.spec;
    Wish { name: text(&spec.user), uid: spec.uid, gid: spec.gid, home: text(&spec.home) }
}

/// Refuses a box that is for other machines alone: nothing emulates them.
fn for_this_machine(layer: &BoxLayer) -> Result<(), Failure> {
    let (here, wanted) = (format!("linux/{}", to_oci(std::env::consts::ARCH)), &layer.spec.platform);
    if wanted.is_empty() || wanted.contains(&here) {
        return Ok(());
    }
    let finding = Diagnostic::error(format!("the box is for {}, and this machine is `{here}`", wanted.join(", ")));
    Err(finding.at(layer.place.clone()).hint("build it on such a machine, or leave out `platform`").into())
}

fn supervisor(layer: &BoxLayer, init: Option<&str>) -> Result<Supervisor, Failure> {
    match init {
        None => Ok(Supervisor::Nobody),
        Some("systemd") => Ok(Supervisor::Systemd),
        Some("supervisord") => Ok(Supervisor::Supervisord),
        Some(other) => {
            let finding = Diagnostic::error(format!("`{other}` is no init that charly knows"));
            Err(finding.at(layer.place.clone()).hint("write `init: systemd` or `init: supervisord`").into())
        }
    }
}

/// Returns the folders that a base appended to PATH.
fn appended(config: Option<&charly_target_oci::Config>) -> Vec<String> {
    let env = config.and_then(|config| config.env().clone()).unwrap_or_default();
    let path = env.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders.filter(|folder| !STANDARD_PATH.split(':').any(|known| known == *folder)).map(str::to_owned).collect()
}

/// Returns an architecture as images write it.
pub(super) fn to_oci(uname: &str) -> &str {
    match uname {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns an architecture as `uname -m` writes it.
fn architecture(oci: &str) -> String {
    match oci {
        "amd64" => "x86_64".to_owned(),
        "arm64" => "aarch64".to_owned(),
        other => other.to_owned(),
    }
}

fn wanted(
    layer: &BoxLayer,
    user: &User,
    base_user: Option<&str>,
    supervisor: Supervisor,
    env: BTreeMap<String, String>,
    path: Vec<String>,
    labels: BTreeMap<String, String>,
) -> Wanted {
    let spec = &layer.spec;
    let is_said = spec.user.is_some() || spec.uid.is_some();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (entrypoint, stop_signal) = match supervisor {
        _ if !spec.entrypoint.is_empty() => (spec.entrypoint.clone(), None),
        // What systemd ends all for, and itself last.
        Supervisor::Systemd => (words(&["/sbin/init"]), Some("SIGRTMIN+3".to_owned())),
        Supervisor::Supervisord => (words(&["supervisord", "-n", "-c", SUPERVISORD]), None),
        Supervisor::Nobody => (Vec::new(), None),
    };
    // systemd gives up its rights itself, where it should.
    let is_root = user.uid == 0 || supervisor == Supervisor::Systemd;
    let list = |key: &str| -> Vec<serde_json::Value> {
        labels.get(&labels::name(key)).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let ports: std::collections::BTreeSet<_> = list("port").iter().filter_map(exposed).collect();
    let home = user.home.trim_end_matches('/');
    let volumes = list("volume")
        .iter()
        .filter_map(|volume| volume["path"].as_str())
        .map(|path| path.strip_prefix('~').map_or_else(|| path.to_owned(), |rest| format!("{home}{rest}")))
        .collect();
    Wanted {
        env,
        path,
        user: match (is_said, is_root) {
            (_, true) => base_user.map(|_| "0:0".to_owned()),
            (true, false) => Some(format!("{}:{}", user.uid, user.gid)),
            (false, false) => None,
        },
        folder: (is_said && !is_root).then(|| user.home.clone()),
        entrypoint,
        command: spec.command.clone(),
        ports: ports.into_iter().collect(),
        volumes,
        stop_signal,
        labels,
    }
}

/// Reads a port of a candy (`80`, `udp:53`) or of a box (`8080:80`, `53/udp`) as images write them.
fn exposed(port: &serde_json::Value) -> Option<String> {
    let text = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
    let (text, protocol) = match text.split_once('/') {
        Some((port, protocol)) => (port.to_owned(), Some(protocol.to_owned())),
        None => (text, None),
    };
    let mut parts: Vec<_> = text.split(':').collect();
    let number: u16 = parts.pop()?.parse().ok()?;
    let named = parts.into_iter().find(|part| matches!(*part, "tcp" | "udp" | "sctp")).map(str::to_owned);
    Some(format!("{number}/{}", protocol.or(named).unwrap_or_else(|| "tcp".to_owned())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_those_of_the_container() {
        for (port, want) in [
            (json!(80), Some("80/tcp")),
            (json!("udp:53"), Some("53/udp")),
            (json!("8080:80"), Some("80/tcp")),
            (json!("127.0.0.1:53:53/udp"), Some("53/udp")),
            (json!("x"), None),
        ] {
            assert_eq!(exposed(&port).as_deref(), want, "{port}");
        }
    }
}
