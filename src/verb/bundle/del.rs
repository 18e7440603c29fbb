//! `bundle del`

use std::time::Instant;

use charly_ir::message::{DeploySummary, Hello, Mode, Origin, Problem, Remove, SecretValue, Verdict};
use charly_ir::plan::Gate;
use charly_plans::load::Workspace;
use charly_plans::resolve::LayerRef;
use charly_target_core::target::Run;
use charly_target_core::wire::Answer;

use super::add::broke_off;
use super::fleet::{self, Width};
use crate::context::Context;
use crate::deploy::{Place, Reach, absolute, find, run_id};
use crate::exit::{Exit, Failure, Outcome, Told, of_verdict};
use crate::output::{Line, PlanView, Policy, Progress, Summary, Timings};
use crate::verb;

/// Take a deploy away, or the LAYERs of it that were added by hand
///
/// No recipe is needed: the venue's ledger knows what was done, and what was there before.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that is there or not")]
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The deploy: `local` is this machine, `ssh:user@host` another, `vm:NAME` a declared one; several with
    /// commas between them, or `@group`, are worked on side by side
    name: String,
    /// Layers to take away; without any, everything
    layers: Vec<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave package repositories in place
    #[arg(long)]
    keep_repo_changes: bool,
    /// Leave services enabled and running
    #[arg(long)]
    keep_services: bool,
    /// Remove data made since the add, too
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    width: Width,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let removal = Removal {
        asked: args.layers.iter().map(|layer| absolute(layer, &cx.working)).collect::<Result<Vec<_>, _>>()?,
        workspace: cx.workspace_with_mistakes(),
        sudo_password: args.reach.sudo_password(&args.name, &cx.interrupts)?,
        args,
    };
    match &fleet::names(cx, &args.name)?[..] {
        [_] => one(cx, &removal),
        names => several(cx, &removal, names),
    }
}

/// What is to be taken away, wherever that is.
struct Removal<'a> {
    args: &'a Args,
    asked: Vec<LayerRef>,
    workspace: Workspace,
    sudo_password: Option<SecretValue>,
}

impl Removal<'_> {
    fn from(&self, place: &Place, hello: &Hello, mode: Mode) -> Result<Remove, Failure> {
        Ok(Remove {
            deploy: place.deploy.clone(),
            run: run_id(),
            layers: self.layers(place, hello)?,
            mode,
            keep_repo_changes: self.args.keep_repo_changes,
            keep_services: self.args.keep_services,
            purge: self.args.purge,
            sudo_password: self.sudo_password.clone(),
        })
    }

    /// Finds the layers to take away; none where everything is.
    fn layers(&self, place: &Place, hello: &Hello) -> Result<Vec<String>, Failure> {
        if self.asked.is_empty() {
            // The engine judges whether the deploy is there: a ledger it cannot read is not one that holds nothing.
            return Ok(Vec::new());
        }
        let held = hello.deploys.iter().find(|deploy| deploy.name == place.deploy);
        let find = |layer: &LayerRef| {
            let found = match held {
                Some(held) => held_layer(layer, held, place, &self.workspace),
                None => Err(Failure::invalid(format!("`{}` holds nothing", place.name))
                    .hint("`charly bundle list` shows what is deployed")),
            };
            // What a layer left that is gone is known to the engine alone.
            match (held, found) {
                (held, Err(_)) if self.args.purge && !held.is_some_and(|held| is_known(layer, held)) => {
                    Ok(layer.reference.to_string())
                }
                (_, found) => found,
            }
        };
        self.asked.iter().map(find).collect()
    }

    /// Has a virtual machine's state remember what was taken away.
    fn remember(&self, cx: &Context, place: &Place, hello: &Hello, verdict: &Verdict) -> Result<(), Failure> {
        match &place.machine {
            Some(machine) if *verdict == Verdict::Ok && !self.args.dry_run => {
                let candies = self.layers(place, hello)?;
                verb::vm::deployed::removed(cx, machine, &place.name, &candies, self.args.purge)
            }
            _ => Ok(()),
        }
    }
}

/// Takes one deploy away, and asks what must be asked.
fn one(cx: &Context, removal: &Removal<'_>) -> Outcome {
    let args = removal.args;
    let place = find(cx, &removal.workspace, &args.name, &args.reach)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Ask };
    let request = |hello: &Hello| Ok(removal.from(&place, hello, mode.clone()).map_err(Told)?);
    let confirm = "It removes data made since the add, and nothing brings that back. Go on?";
    let policy = Policy {
        yes: cx.yes,
        confirm: args.purge.then(|| confirm.to_owned()),
        silent_diff: args.dry_run && !cx.printer.is_json(),
        ..Policy::default()
    };
    let timings = Timings::of(&cx.cache, &args.name);
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), policy).with_timings(timings);
    let began = Instant::now();
    let run = Run { observer: &mut progress, interrupts: cx.interrupts.clone() };
    let answer = cx.block_on(place.target.del(&request, run));
    progress.finish()?;
    let Answer { hello, done, .. } = answer.map_err(|error| broke_off(error, progress.reached()))?;
    removal.remember(cx, &place, &hello, &done.verdict)?;
    if let Some(diff) = progress.diff.as_ref().filter(|_| args.dry_run && !cx.printer.is_json()) {
        cx.printer.data(PlanView { diff, verbose: cx.printer.verbose })?;
    } else if done.verdict == Verdict::Ok {
        cx.printer.say(Summary { done: &done, took: began.elapsed(), undo: None });
    }
    let exit = of_verdict(&done.verdict)?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(exit, Some(&done)))?;
    }
    Ok(exit)
}

/// Takes several deploys away side by side. Nobody is asked.
fn several(cx: &Context, removal: &Removal<'_>, names: &[String]) -> Outcome {
    let args = removal.args;
    if args.dry_run || args.purge && !cx.yes {
        let what = if args.dry_run {
            "a dry run shows one deploy at a time"
        } else {
            "`--purge` of several deploys is not asked about"
        };
        let hint = if args.dry_run { "name one" } else { "confirm it with `-y`" };
        return Err(Failure::new(Exit::Refused, Problem::new(what).hint(hint)));
    }
    let mode = Mode::Go { gates: Gate::ALL.into() };
    fleet::run(cx, names, args.width, |name, line| {
        let place = find(cx, &removal.workspace, name, &args.reach)?;
        let request = |hello: &Hello| Ok(removal.from(&place, hello, mode.clone()).map_err(Told)?);
        let run = Run { observer: &mut *line, interrupts: cx.interrupts.clone() };
        let answer = cx.block_on(place.target.del(&request, run));
        let Answer { hello, done, .. } = answer.map_err(|error| broke_off(error, line.reached))?;
        removal.remember(cx, &place, &hello, &done.verdict)?;
        of_verdict(&done.verdict)?;
        Ok(done)
    })
}

/// Tells whether a deploy has a layer or candy of that name.
fn is_known(asked: &LayerRef, held: &DeploySummary) -> bool {
    let text = asked.reference.to_string();
    held.layers.iter().any(|layer| layer.reference == text || layer.candy == text)
        || held.candies.iter().any(|candy| candy.name == text)
}

/// Finds a layer among those the venue remembers, by its reference or its candy's name. A declared one is refused: the
/// next add would bring it back.
fn held_layer(asked: &LayerRef, held: &DeploySummary, place: &Place, workspace: &Workspace) -> Result<String, Failure> {
    let text = asked.reference.to_string();
    let named = || held.layers.iter().filter(|layer| layer.reference == text || layer.candy == text);
    let declared = place.entry.iter().flat_map(|entry| &entry.candies);
    let mut declared = declared.filter(|(reference, _)| {
        reference.to_string() == text || named().any(|layer| layer.reference == reference.to_string())
    });
    if let Some((_, declared_at)) = declared.next() {
        return Err(Failure::new(
            Exit::Invalid,
            Problem::new(format!("`{text}` is declared, so the next add would bring it back"))
                .because(format!("it is declared at {declared_at}"))
                .hint(format!("take that line out, then run `charly bundle add {}`", place.name)),
        ));
    }
    match named().find(|layer| layer.origin == Origin::ByHand).or_else(|| named().next()) {
        Some(layer) => Ok(layer.candy.clone()),
        None => Err(unknown(&text, held, &place.name, workspace)),
    }
}

fn unknown(text: &str, held: &DeploySummary, name: &str, workspace: &Workspace) -> Failure {
    if held.candies.iter().any(|candy| candy.name == text) {
        let users: Vec<_> = held.candies.iter().filter(|candy| candy.requires.iter().any(|one| one == text)).collect();
        let users: Vec<_> = users.iter().map(|candy| format!("`{}`", candy.name)).collect();
        let failure = Failure::new(Exit::Refused, Problem::new(format!("`{text}` is no layer of `{name}` by itself")));
        return failure.hint(format!("it is there for {}", users.join(", ")));
    }
    let layers: Vec<_> = held.layers.iter().map(|layer| format!("`{}`", layer.candy)).collect();
    let known = workspace.candies().contains_key(text);
    let what = if known { format!("`{name}` does not hold `{text}`") } else { format!("there is no layer `{text}`") };
    Failure::invalid(what).hint(format!("`{name}` holds {}", layers.join(", ")))
}
