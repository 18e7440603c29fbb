//! `check`

use charly_ir::message::Problem;
use charly_target_core::target::Run;
use charly_target_core::{DeployTarget, Recipe};

use crate::context::Context;
use crate::deploy::{DeployRecipe, Reach, declared};
use crate::exit::{Exit, Failure, Outcome, of_verdict};
use crate::output::{Line, Policy, Progress};
use crate::verb::bundle::Compile;

/// Evaluate the checks of a deploy's candies on its venue; the exit code is 1 where one fails
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The deploy
    name: String,
    #[command(flatten)]
    compile: Compile,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let workspace = cx.workspace()?;
    let place = declared(cx, &workspace, &args.name, &args.reach)?;
    let wishes = args.compile.wishes(cx)?;
    let recipe = DeployRecipe::new(cx, workspace, &place.deploy, place.entry.clone(), Vec::new(), wishes);
    let exit = evaluate(cx, &*place.target, &recipe)?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(exit, None))?;
    }
    Ok(exit)
}

/// Evaluates the checks of a recipe and says how many failed.
pub(crate) fn evaluate(cx: &Context, target: &dyn DeployTarget, recipe: &dyn Recipe) -> Outcome {
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), Policy::default());
    let run = Run { observer: &mut progress, interrupts: cx.interrupts.clone() };
    let answer = cx.block_on(target.check(recipe, run));
    progress.finish()?;
    let done = answer?.done;
    let tally = &progress.checks;
    if !cx.printer.is_json() {
        cx.printer
            .data(format_args!("{} passed, {} failed, {} skipped\n", tally.passed, tally.failed, tally.skipped))?;
    }
    if tally.failed > 0 {
        let what = format!("{} of {} checks failed", tally.failed, tally.failed + tally.passed);
        return Err(Failure::new(Exit::Failed, Problem::new(what)));
    }
    of_verdict(&done.verdict)
}
