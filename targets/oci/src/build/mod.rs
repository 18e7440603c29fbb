//! How an image is built: one layer a candy, from the plan.
//!
//! | module | what it holds |
//! |---|---|
//! | `root` | the root of an image as its layers make it |
//! | [`accounts`] | the users of an image, and the one it is for |
//! | [`plain`] | layers of steps that only place files, written with nothing unpacked or run |
//! | `cache` | layers that were built before, by what they were built from |
//! | `bootstrap` | a base made from a distribution's packages |
//! | `containerfile` | the same image in the language of others |
//! | [`config`] | what an image says about how it is run |
//!
//! The steps of a candy that runs something are carried out by the same engine as anywhere, in a [`sandbox`].
//!
//! Invariant: a layer depends on the layers below it and on its candy's plan; not on the user, the clock, the umask or the
//! order of files in a folder.

pub mod accounts;
mod bootstrap;
mod cache;
pub mod config;
mod containerfile;
pub mod plain;
mod root;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::message::{Apply, Layer as Asked, Mode, Origin, Problem, RebootPolicy, SecretValue, Verdict};
use charly_ir::plan::{CandyPlan, Gate, InstallPlan};
use charly_target_core::target::{Compiled, Run};
use charly_target_core::{BoxError, DeployTarget, Interrupts, Observer, Recipe, Supply, TargetError};
use oci_spec::OciSpecError;

use crate::layer::{Compression, Entry, Layer, LayerError, LayerWriter};
use crate::sandbox::venue::Wanted as WantedRun;
use crate::sandbox::{self, Lower, Sandbox};
use crate::store::{self, Contents, Image, Store, StoreError};

pub use accounts::{Accounts, AnotherUser, Wish};
pub use bootstrap::bootstrap;
pub use config::Wanted;
pub use containerfile::generate;
pub use plain::PlaceError;
pub use root::Traits;

use cache::{Cache, Key};
use config::Made;
use plain::Source;
use root::Root;

/// What building depends on beside the recipe.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How steps run that run.
    pub sandbox: sandbox::Settings,
    /// How layers are compressed.
    pub compression: Compression,
    /// By how many threads.
    pub threads: NonZero<usize>,
    /// The time that nothing is later than, in seconds since 1970; nothing where that is each candy's version.
    pub epoch: Option<u64>,
    /// Whether layers that were built before are used again.
    pub use_cache: bool,
    /// Where what is known of earlier builds lies.
    pub folder: PathBuf,
    /// Raised by the user to stop it.
    pub interrupts: Interrupts,
}

/// What an image is built from.
#[expect(missing_debug_implementations, reason = "it gives what is not known before it is asked")]
pub struct Blueprint<'a> {
    /// What the image is called in the store.
    pub name: &'a str,
    /// What it starts from; nothing where that is nothing.
    pub base: Option<&'a Image>,
    /// The candies that the base holds, with the digests of their plans.
    pub in_base: &'a [(String, Digest)],
    /// What is to be in it.
    pub plan: &'a InstallPlan,
    /// The digests of its candies' plans, in the same order.
    pub digests: &'a [Digest],
    /// What it says about how it is run.
    pub wanted: Wanted,
    /// The values of the secrets that commands ask for. They reach these commands alone, and no layer or label.
    pub secrets: &'a BTreeMap<String, SecretValue>,
    /// Gives what a plan of one candy names.
    pub supply: &'a dyn Fn(&InstallPlan) -> Box<dyn Supply>,
}

impl Blueprint<'_> {
    /// Returns the candies, each with the digest of its plan where the base does not hold it so.
    fn candies(&self) -> impl Iterator<Item = (&CandyPlan, Option<Digest>)> {
        let is_in_base = |candy: &CandyPlan, digest| {
            self.in_base.iter().any(|(name, known)| *name == candy.name && *known == digest)
        };
        let both = self.plan.candies.iter().zip(self.digests.iter().copied());
        both.map(move |(candy, digest)| (candy, (!is_in_base(candy, digest)).then_some(digest)))
    }
}

/// Watches a build.
pub trait Watch {
    /// Sees what becomes of a candy, one of so many.
    fn candy(&mut self, at: usize, of: usize, name: &str, state: State);

    /// Returns who watches the steps of a candy that runs something.
    fn observer(&mut self) -> &mut dyn Observer;
}

/// What becomes of a candy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The base has it already.
    InBase,
    /// It was built before.
    Cached(Option<Layer>),
    /// Its files are being placed.
    Placing,
    /// Its steps are being carried out.
    Running,
    /// It is a layer now, or changes nothing.
    Built(Option<Layer>),
}

/// An image that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What it is called.
    pub name: String,
    /// Whether it is another than the one of its name before.
    pub is_new: bool,
}

/// Why an image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer cannot be read or written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A candy's files cannot be placed.
    #[error("the candy `{candy}` cannot be put into the image")]
    Place {
        /// The candy.
        candy: String,
        /// Why.
        source: PlaceError,
    },
    /// The box's user is another one in its base.
    #[error(transparent)]
    User(#[from] AnotherUser),
    /// A candy's steps cannot be run.
    #[error("the candy `{candy}` cannot be run in the image")]
    Run {
        /// The candy.
        candy: String,
        /// Why.
        source: Box<TargetError>,
    },
    /// A step of a candy failed.
    #[error("the candy `{candy}` failed")]
    Step {
        /// The candy.
        candy: String,
        /// How its run ended.
        verdict: Box<Verdict>,
    },
    /// A program is not there.
    #[error("`{program}` is not there")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// No base can be made from a distribution's packages.
    #[error("`{suite}` cannot be bootstrapped: {said}")]
    Bootstrap {
        /// Its suite.
        suite: &'static str,
        /// What was said.
        said: String,
    },
    /// A file of a context cannot be written.
    #[error("`{path}` cannot be written")]
    Context {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The image's configuration is none.
    #[error("the image's configuration cannot be written")]
    Configuration(#[source] OciSpecError),
    /// The user stopped it.
    #[error("the build was stopped")]
    Stopped,
}

/// Returns what compiling for an image depends on.
pub fn traits(store: &Store, base: Option<&Image>, settings: &Settings) -> Result<Traits, BuildError> {
    let layers = base.map(|base| store.layers(base)).transpose()?.unwrap_or_default();
    let cache = Cache::new(&settings.folder);
    let key = Key::of_traits(&layers);
    if let Some(known) = cache.get(&key) {
        return Ok(known);
    }
    let traits = Root::new(store, layers).traits()?;
    cache.put(&key, &traits);
    Ok(traits)
}

/// Forgets what is known of layers that are not in the store any more. `folder` is that of [`Settings`].
pub fn forget(store: &Store, folder: &Path) {
    Cache::new(folder).forget(store);
}

/// Builds an image, using again what was built before.
pub async fn build(
    store: &Store,
    blueprint: &Blueprint<'_>,
    settings: &Settings,
    watch: &mut (dyn Watch + Send),
) -> Result<Built, BuildError> {
    let base = blueprint.base;
    let mut builder = Builder {
        store,
        settings,
        plan: blueprint.plan,
        root: Root::new(store, base.map(|base| store.layers(base)).transpose()?.unwrap_or_default()),
        cache: Cache::new(&settings.folder),
    };
    let (mut made, mut created) = (Vec::new(), 0);
    let candies = &blueprint.plan.candies;
    for (at, (candy, digest)) in blueprint.candies().enumerate() {
        let mut say = |state| watch.candy(at, candies.len(), &candy.name, state);
        let Some(digest) = digest else {
            say(State::InBase);
            continue;
        };
        let epoch = settings.epoch.or_else(|| epoch_of(&candy.version)).unwrap_or_default();
        created = created.max(epoch);
        let by = || Made { by: candy.name.clone(), at: epoch };
        if candy.steps.is_empty() {
            say(State::Built(None));
            continue;
        }
        let key = Key::of_layer(&builder.root.layers, digest, settings.compression, epoch);
        let known: Option<Option<Layer>> = if settings.use_cache { builder.cache.get(&key) } else { None };
        let known = known.filter(|layer| layer.as_ref().is_none_or(|layer| store.has(&layer.digest, layer.size)));
        if let Some(layer) = known {
            say(State::Cached(layer.clone()));
            if let Some(layer) = layer {
                builder.root.push(layer, None)?;
                made.push(by());
            }
            continue;
        }
        if settings.interrupts.count() > 0 {
            return Err(BuildError::Stopped);
        }
        let layer = builder.candy(candy, epoch, blueprint, at, watch).await?;
        builder.cache.put(&key, &layer);
        watch.candy(at, candies.len(), &candy.name, State::Built(layer.clone()));
        if layer.is_some() {
            made.push(by());
        }
    }
    let architecture = match blueprint.plan.arch.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (layers, wanted) = (&builder.root.layers, &blueprint.wanted);
    let config = config::configuration(base.map(|base| &base.config), architecture, wanted, layers, &made, created)?;
    let before = store.image(blueprint.name)?.map(|image| image.manifest_digest);
    let image = store.tag(blueprint.name, &config, layers)?;
    let is_new = before != Some(image.manifest_digest);
    Ok(Built { image, name: blueprint.name.to_owned(), is_new })
}

struct Builder<'a> {
    store: &'a Store,
    settings: &'a Settings,
    plan: &'a InstallPlan,
    root: Root<'a>,
    cache: Cache,
}

impl Builder<'_> {
    /// Makes a candy's layer, and lays it over those there are.
    async fn candy(
        &mut self,
        candy: &CandyPlan,
        epoch: u64,
        blueprint: &Blueprint<'_>,
        at: usize,
        watch: &mut (dyn Watch + Send),
    ) -> Result<Option<Layer>, BuildError> {
        let InstallPlan { format, os, arch, candies } = self.plan;
        let plan = InstallPlan { format: *format, os: os.clone(), arch: arch.clone(), candies: vec![candy.clone()] };
        let supply = (blueprint.supply)(&plan);
        let accounts = self.root.accounts()?;
        if plain::is_plain(candy, &accounts) {
            watch.candy(at, candies.len(), &candy.name, State::Placing);
            return self.place(candy, &accounts, epoch, supply);
        }
        watch.candy(at, candies.len(), &candy.name, State::Running);
        let wanted = |(name, _): &(&String, &SecretValue)| candy.secrets.contains(*name);
        let secrets = blueprint.secrets.iter().filter(wanted).map(|(name, value)| (name.clone(), value.clone()));
        let recipe = OneCandy::new(plan, secrets.collect(), supply);
        self.run(&candy.name, epoch, &recipe, watch.observer()).await
    }

    fn place(
        &mut self,
        candy: &CandyPlan,
        accounts: &Accounts,
        epoch: u64,
        mut supply: Box<dyn Supply>,
    ) -> Result<Option<Layer>, BuildError> {
        let place = |source| BuildError::Place { candy: candy.name.clone(), source };
        let mut tree = self.root.take_tree()?;
        let entries = plain::place(candy, &mut tree, accounts, &mut *supply, epoch).map_err(place)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let sink = self.store.layer_sink()?;
        let mut writer = LayerWriter::new(sink, self.settings.compression, self.settings.threads);
        for (entry, source) in &entries {
            let bytes = plain::open(source, &mut *supply).map_err(place)?;
            let mut bytes = Stoppable { bytes, interrupts: &self.settings.interrupts };
            let appended = writer.append(entry, &mut bytes);
            if self.settings.interrupts.count() > 0 {
                return Err(BuildError::Stopped);
            }
            appended?;
        }
        let (sink, layer) = writer.finish()?;
        sink.keep(&layer)?;
        self.remember(&layer, entries)?;
        self.root.push(layer.clone(), Some(tree))?;
        Ok(Some(layer))
    }

    /// Remembers what is in a layer that was written from its entries, so that nobody need read it for that.
    fn remember(&self, layer: &Layer, entries: Vec<(Entry, Source)>) -> Result<(), BuildError> {
        let is_kept = |path: &str| store::SMALL.contains(&path);
        // The few files whose contents are kept are read back from the layer.
        if entries.iter().any(|(entry, _)| is_kept(&entry.path)) {
            return Ok(());
        }
        let contents = Contents {
            entries: entries.into_iter().map(|(entry, _)| entry).collect(),
            small: BTreeMap::new(),
            diff_id: layer.diff_id,
            uncompressed: layer.uncompressed,
            compression: layer.compression,
        };
        Ok(self.store.remember(&layer.digest, &contents)?)
    }

    async fn run(
        &mut self,
        candy: &str,
        epoch: u64,
        recipe: &OneCandy,
        observer: &mut dyn Observer,
    ) -> Result<Option<Layer>, BuildError> {
        let candy = candy.to_owned();
        let failed = |source| BuildError::Run { candy: candy.clone(), source: Box::new(source) };
        let lowers = self.root.layers.iter().map(|layer| Lower::of(self.store, layer));
        let sink = self.store.layer_sink()?;
        let wanted = WantedRun {
            lowers: lowers.collect(),
            epoch,
            compression: self.settings.compression,
            threads: self.settings.threads.get(),
            blob: sink.path().to_owned(),
        };
        let sandbox = Sandbox::new(&self.settings.sandbox, wanted).map_err(failed)?;
        let run = Run { observer, interrupts: self.settings.interrupts.clone() };
        let answer = sandbox.add(recipe, run).await.map_err(failed)?;
        match answer.done.verdict {
            Verdict::Ok => {}
            Verdict::Cancelled => return Err(BuildError::Stopped),
            verdict => return Err(BuildError::Step { candy, verdict: Box::new(verdict) }),
        }
        let layer = sandbox.layer().map_err(failed)?;
        if let Some(layer) = &layer {
            sink.keep(layer)?;
            self.root.push(layer.clone(), None)?;
        }
        Ok(layer)
    }
}

/// Bytes that end where the user wants no more.
struct Stoppable<'a, R> {
    bytes: R,
    interrupts: &'a Interrupts,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupts.count() > 0 {
            return Err(io::Error::other("it was stopped"));
        }
        self.bytes.read(buffer)
    }
}

/// One candy's plan, for an engine in an image.
#[derive(Debug)]
struct OneCandy(std::sync::Mutex<Option<Compiled>>);

impl OneCandy {
    fn new(plan: InstallPlan, secrets: BTreeMap<String, SecretValue>, supply: Box<dyn Supply>) -> Self {
        let candy = &plan.candies[0].name;
        let layer = Asked { reference: candy.clone(), candy: candy.clone(), origin: Origin::ByHand };
        let apply = Apply {
            deploy: "image".into(),
            run: "build".into(),
            layers: vec![layer],
            plan,
            mode: Mode::Go { gates: Gate::ALL.into() },
            rerun: Vec::new(),
            undoable_only: false,
            skip_incompatible: false,
            reboot: RebootPolicy::Skip,
            secrets,
            command_timeout_s: 3600,
            follows: Vec::new(),
            sudo_password: None,
        };
        Self(std::sync::Mutex::new(Some(Compiled { apply, supply })))
    }
}

impl Recipe for OneCandy {
    fn compile(&self, _: &charly_ir::message::Hello) -> Result<Compiled, BoxError> {
        let compiled = self.0.lock().ok().and_then(|mut compiled| compiled.take());
        compiled.ok_or_else(|| Problem::new("a build asks its engine once").what.into())
    }
}

/// Returns the moment that a version `YYYY.DDD.HHMM` names, in seconds since 1970.
fn epoch_of(version: &str) -> Option<u64> {
    let mut parts = version.split('.');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (year, day, clock) = (next()?, next()?, next()?);
    let past = year.checked_sub(1)?;
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (past * 365 + leap_days(past)).checked_sub(1969 * 365 + leap_days(1969))? + day.checked_sub(1)?;
    Some(days * 86_400 + clock / 100 * 3600 + clock % 100 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_moment() {
        for (version, want) in [
            ("1970.001.0000", Some(0)),
            ("2026.165.0930", Some(1_781_429_400)),
            ("2000.060.0000", Some(951_782_400)),
            ("1969.001.0000", None),
            ("x", None),
        ] {
            assert_eq!(epoch_of(version), want, "{version}");
        }
    }
}
