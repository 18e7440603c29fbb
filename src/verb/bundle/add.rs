//! `bundle add`

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use charly_ir::message::{Mode, Problem, RebootPolicy, Verdict};
use charly_ir::plan::{BuilderKind, Gate};
use charly_target_core::TargetError;
use charly_target_core::target::Run;
use charly_target_core::wire::ClientError;

use super::fleet::{self, Width};
use super::{artifact, plan};
use crate::context::Context;
use crate::deploy::{Compiled, DeployRecipe, Place, Reach, Secret, Wishes, absolute, declared};
use crate::exit::{Exit, Failure, Outcome, of_verdict};
use crate::output::{Line, Policy, Progress, Reached, Summary, Timings};
use crate::verb::{self, check};

/// Make a deploy hold what its entry declares and what was added by hand, LAYERs included
///
/// Shows what is about to change, does it, and says how to undo it. What is there already is verified, not done again.
/// Whatever ends a run early, the same command goes on from there.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    gates: Gates,
    /// Run a step's command again though it is satisfied; STEP is an id, or `candy/id`
    #[arg(long, value_name = "STEP")]
    rerun: Vec<String>,
    /// What a step does that needs a reboot: end the run there, go on without, or reboot and go on. This machine is never
    /// rebooted; others are, where nothing else is said
    #[arg(long, value_enum, value_name = "WHAT")]
    reboot: Option<Reboot>,
    /// End the run where a reboot is needed, as `--reboot stop`
    #[arg(long, conflicts_with = "reboot")]
    no_reboot: bool,
    /// Bound commands that set no limit of their own
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Evaluate the candies' checks afterwards
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    width: Width,
}

/// What a deploy is to hold.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct What {
    /// The deploy: `local` is this machine, `ssh:user@host` another, `vm:NAME` a declared one; several with
    /// commas between them, or `@group`, are worked on side by side
    pub(super) name: String,
    /// Layers to add: a candy's name, a path, or `host/org/repo[/candy/x][@ref]`
    layers: Vec<String>,
    /// A layer to add, as well
    #[arg(long = "add-candy", value_name = "LAYER")]
    add_candy: Vec<String>,
    /// Refuse steps that cannot be undone
    #[arg(long)]
    undoable_only: bool,
    #[command(flatten)]
    compile: Compile,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What a recipe depends on beside its files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Compile {
    /// Set a variable that candies ask for
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Say where a secret is read from: `NAME=env:VARIABLE` or `NAME=file:PATH`
    #[arg(long, value_name = "NAME=SOURCE")]
    secret: Vec<Secret>,
    /// Pass over what this venue cannot hold, instead of refusing
    #[arg(long)]
    skip_incompatible: bool,
    /// Run builders in a box or image of your own: `IMAGE` for all, `npm=IMAGE` for one
    #[arg(long, value_name = "[BUILDER=]IMAGE", value_parser = builder_image)]
    builder_image: Vec<(Option<BuilderKind>, String)>,
}

#[derive(Debug, Clone, clap::Args)]
struct Gates {
    /// Allow adding package repositories and the keys they are trusted by
    #[arg(long)]
    allow_repo_changes: bool,
    /// Allow running candies' own commands as root
    #[arg(long)]
    allow_root_tasks: bool,
    /// Allow enabling and starting services
    #[arg(long)]
    with_services: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Reboot {
    Stop,
    Skip,
    Perform,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    if args.dry_run {
        return plan::show(cx, &args.what, false);
    }
    match &fleet::names(cx, &args.what.name)?[..] {
        [_] => one(cx, args),
        names => several(cx, args, names),
    }
}

/// Adds these layers as well as what was asked for.
pub(crate) fn with(cx: &Context, mut args: Args, layers: Vec<String>) -> Outcome {
    args.what.layers.extend(layers);
    one(cx, &args)
}

/// Adds these layers to another deploy of the same machine, in the same way.
pub(crate) fn again(cx: &Context, args: &Args, deploy: &str, layers: Vec<String>) -> Outcome {
    let what = What { name: deploy.to_owned(), layers, add_candy: Vec::new(), ..args.what.clone() };
    one(cx, &Args { what, rerun: Vec::new(), ..args.clone() })
}

/// Adds to one deploy, and asks what must be asked.
fn one(cx: &Context, args: &Args) -> Outcome {
    let mode = if cx.yes { Mode::Go { gates: Gate::ALL.into() } } else { Mode::Ask };
    let (place, recipe) = prepare(cx, &args.what, args.wishes(cx, mode)?, Power::On)?;
    let policy = Policy { yes: cx.yes, gates: args.gates.open(), ..Policy::default() };
    let timings = Timings::of(&cx.cache, &args.what.name);
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), policy).with_timings(timings);
    let began = Instant::now();
    let run = Run { observer: &mut progress, interrupts: cx.interrupts.clone() };
    let answer = cx.block_on(place.target.add(&recipe, run));
    progress.finish()?;
    let outcome = recipe.outcome();
    remember(cx, &place, answer.as_ref().ok().map(|answer| &answer.done.verdict), outcome.as_ref())?;
    let done = answer.map_err(|error| broke_off(error, progress.reached()))?.done;
    if done.verdict == Verdict::Ok {
        let undo = undo(&args.what);
        cx.printer.say(Summary { done: &done, took: began.elapsed(), undo: Some(&undo) });
    }
    of_verdict(&done.verdict)?;
    if let Some(outcome) = &outcome {
        artifact::bring_back(cx, &place, &outcome.plan, recipe.sudo_password())?;
    }
    let exit = if args.verify { check::evaluate(cx, &*place.target, &recipe)? } else { Exit::Done };
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(exit, Some(&done)))?;
    }
    Ok(exit)
}

/// Has a virtual machine's state remember what an add came to.
fn remember(cx: &Context, place: &Place, verdict: Option<&Verdict>, outcome: Option<&Compiled>) -> Result<(), Failure> {
    let layers = outcome.map(|outcome| outcome.layers.as_slice()).unwrap_or_default();
    let added = |machine| verb::vm::deployed::added(cx, machine, &place.name, verdict, layers);
    place.machine.as_ref().map_or(Ok(()), added)
}

/// Tells of a run that broke off how far it came.
pub(super) fn broke_off(error: TargetError, reached: Reached) -> Failure {
    let is_broken = matches!(&error, TargetError::Conversation(ClientError::BrokeOff { .. } | ClientError::Lost));
    let failure = Failure::from(error);
    match reached.hint().filter(|_| is_broken) {
        Some(reached) => failure.hint(reached),
        None => failure,
    }
}

/// Adds to several deploys side by side. Nobody is asked: what is not allowed beforehand is refused.
fn several(cx: &Context, args: &Args, names: &[String]) -> Outcome {
    let gates = if cx.yes { Gate::ALL.into() } else { args.gates.open() };
    let wishes = args.wishes(cx, Mode::Go { gates })?;
    fleet::run(cx, names, args.width, |name, line| {
        let what = What { name: name.to_owned(), ..args.what.clone() };
        let (place, recipe) = prepare(cx, &what, wishes.clone(), Power::On)?;
        let run = Run { observer: &mut *line, interrupts: cx.interrupts.clone() };
        let answer = cx.block_on(place.target.add(&recipe, run));
        let outcome = recipe.outcome();
        remember(cx, &place, answer.as_ref().ok().map(|answer| &answer.done.verdict), outcome.as_ref())?;
        let done = answer.map_err(|error| broke_off(error, line.reached))?.done;
        of_verdict(&done.verdict)?;
        if let Some(outcome) = outcome {
            artifact::bring_back(cx, &place, &outcome.plan, recipe.sudo_password())?;
        }
        if args.verify {
            let run = Run { observer: &mut *line, interrupts: cx.interrupts.clone() };
            of_verdict(&cx.block_on(place.target.check(&recipe, run))?.done.verdict)?;
            if line.checks.failed > 0 {
                let what = format!("{} of its checks failed", line.checks.failed);
                return Err(Failure::new(Exit::Failed, Problem::new(what)));
            }
        }
        Ok(done)
    })
}

impl Args {
    /// Returns what the user calls the deploy.
    pub(crate) fn name(&self) -> &str {
        &self.what.name
    }

    /// Returns how it is reached.
    pub(crate) fn reach(&self) -> &Reach {
        &self.what.reach
    }

    /// Tells whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Tells whether a layer is named.
    pub(crate) fn names_layers(&self) -> bool {
        !self.what.layers.is_empty() || !self.what.add_candy.is_empty()
    }

    fn wishes(&self, cx: &Context, mode: Mode) -> Result<Wishes, Failure> {
        let reboot = match self.reboot {
            Some(Reboot::Stop) => Some(RebootPolicy::Stop),
            Some(Reboot::Skip) => Some(RebootPolicy::Skip),
            Some(Reboot::Perform) => Some(RebootPolicy::Perform),
            None => self.no_reboot.then_some(RebootPolicy::Stop),
        };
        Ok(Wishes {
            mode,
            reboot,
            rerun: self.rerun.clone(),
            sudo_password: self.what.reach.sudo_password(&self.what.name, &cx.interrupts)?,
            command_timeout: Duration::from_secs(self.timeout.into()),
            ..self.what.wishes(cx)?
        })
    }
}

/// Whether a virtual machine that does not run is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    AsItIs,
}

/// Finds the deploy, its target and what it is to hold.
pub(super) fn prepare(
    cx: &Context,
    what: &What,
    mut wishes: Wishes,
    power: Power,
) -> Result<(Place, DeployRecipe), Failure> {
    let workspace = cx.workspace()?;
    let mut place = declared(cx, &workspace, &what.name, &what.reach)?;
    if let (Power::On, Some(machine)) = (power, &place.machine) {
        verb::vm::running(cx, machine)?;
        verb::vm::deployed::declared(cx, &workspace, machine)?;
        // Its port may be another since it was started.
        place = declared(cx, &workspace, &what.name, &what.reach)?;
    }
    wishes.reboot.get_or_insert(place.reboot);
    let added = what.layers.iter().chain(&what.add_candy).map(|layer| absolute(layer, &cx.working));
    let added = added.collect::<Result<_, _>>()?;
    let recipe = DeployRecipe::new(cx, workspace, &place.deploy, place.entry.clone(), added, wishes);
    Ok((place, recipe))
}

/// Returns the command that undoes this one.
fn undo(what: &What) -> String {
    let mut words = vec!["charly", "bundle", "del", &what.name];
    words.extend(what.layers.iter().chain(&what.add_candy).map(String::as_str));
    words.join(" ")
}

impl What {
    pub(super) fn wishes(&self, cx: &Context) -> Result<Wishes, Failure> {
        Ok(Wishes { undoable_only: self.undoable_only, ..self.compile.wishes(cx)? })
    }
}

impl Compile {
    pub(crate) fn wishes(&self, cx: &Context) -> Result<Wishes, Failure> {
        let here = Path::new("");
        let secrets = self.secret.iter().map(|secret| Ok((secret.name.clone(), secret.read(here, &cx.home)?)));
        Ok(Wishes {
            env: self.env.iter().cloned().collect(),
            secrets: secrets.collect::<anyhow::Result<_>>().map_err(|error| Failure::error(Exit::Invalid, error))?,
            skip_incompatible: self.skip_incompatible,
            builders: self.builder_image.clone(),
            ..Wishes::default()
        })
    }
}

impl Gates {
    fn open(&self) -> BTreeSet<Gate> {
        let Self { allow_repo_changes, allow_root_tasks, with_services } = self;
        let gates = [
            (*allow_repo_changes, Gate::AllowRepoChanges),
            (*allow_root_tasks, Gate::AllowRootTasks),
            (*with_services, Gate::WithServices),
        ];
        gates.into_iter().filter_map(|(open, gate)| open.then_some(gate)).collect()
    }
}

fn builder_image(text: &str) -> Result<(Option<BuilderKind>, String), String> {
    match text.split_once('=') {
        None if !text.is_empty() => Ok((None, text.to_owned())),
        Some((kind, image)) if !image.is_empty() => {
            match BuilderKind::ALL.into_iter().find(|known| known.to_string() == kind) {
                Some(kind) => Ok((Some(kind), image.to_owned())),
                None => Err(format!("`{kind}` is no builder; write one of npm, cargo, pixi, uv, aur")),
            }
        }
        _ => Err("write IMAGE or BUILDER=IMAGE".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
