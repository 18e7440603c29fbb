//! `bundle plan`

use charly_ir::message::Verdict;
use charly_ir::plan::InstallPlan;
use serde::Serialize;

use super::add::{Power, What, prepare};
use crate::context::Context;
use crate::exit::{Exit, Outcome, of_verdict};
use crate::output::{PlanView, Policy, Progress};

/// Show what an add would change, and change nothing
///
/// With `--format json` the plan itself is printed, with the layers and the difference beside it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// Print the dependency graph in the language of Graphviz instead
    #[arg(long)]
    graph: bool,
}

/// The one document of `--format json`: the plan's own fields, and three more.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format: u32,
    os: &'a str,
    arch: &'a str,
    candies: &'a [charly_ir::plan::CandyPlan],
    deploy: &'a str,
    layers: &'a [charly_ir::message::Layer],
    diff: Option<&'a charly_ir::message::Diff>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    show(cx, &args.what, args.graph)
}

/// Shows what an add would change.
pub(super) fn show(cx: &Context, what: &What, graph: bool) -> Outcome {
    let (place, recipe) = prepare(cx, what, what.wishes(cx)?, Power::AsItIs)?;
    if graph {
        let held = cx.block_on(place.target.status())?.deploys;
        cx.printer.data(recipe.layers(&held)?.resolved.dot())?;
        return Ok(Exit::Done);
    }
    let policy = Policy { silent_diff: true, ..Policy::default() };
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), policy);
    let answer = cx.block_on(place.target.plan(&recipe, &mut progress));
    progress.finish()?;
    let done = answer?.done;
    let (diff, outcome) = (progress.diff.as_ref(), recipe.outcome());
    if cx.printer.is_json() {
        if done.verdict == Verdict::Ok
            && let Some(outcome) = &outcome
        {
            let InstallPlan { format, os, arch, candies } = &outcome.plan;
            let (format, deploy, layers) = (*format, what.name.as_str(), outcome.layers.as_slice());
            cx.printer.document(&Document { format, os, arch, candies, deploy, layers, diff })?;
        }
    } else if let Some(diff) = diff {
        cx.printer.data(PlanView { diff, verbose: cx.printer.verbose })?;
    }
    of_verdict(&done.verdict)
}
