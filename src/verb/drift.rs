//! `drift`

use charly_ir::message::{Drifted, Inspect, Report};
use serde_json::json;

use crate::context::Context;
use crate::deploy::{Reach, find};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, clean, columns};

/// Show where the venue differs from what a deploy placed; the exit code is 1 where it does
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The deploy
    name: String,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let workspace = cx.workspace_with_mistakes();
    let place = find(cx, &workspace, &args.name, &args.reach)?;
    let report = cx.block_on(place.target.inspect(Inspect::Drift { deploy: place.deploy.clone() }))?;
    let Report::Drift { drifted, compared, hidden } = report else {
        return Err(Failure::invalid("the engine answered another question"));
    };
    let exit = if drifted.is_empty() { Exit::Done } else { Exit::Failed };
    if cx.printer.is_json() {
        for drifted in &drifted {
            cx.printer.line(&Line::Item(json!({ "drifted": drifted })))?;
        }
        if hidden > 0 {
            cx.printer.line(&Line::Item(json!({ "hidden": hidden })))?;
        }
        cx.printer.line(&Line::result(exit, None))?;
        return Ok(exit);
    }
    let row = |Drifted { what, subject, how, claims }: &Drifted| {
        let claims: Vec<_> = claims.iter().map(|claim| clean(&claim.candy)).collect();
        vec![clean(what), clean(subject), clean(how), claims.join(", ")]
    };
    cx.printer.data(columns(&drifted.iter().map(row).collect::<Vec<_>>()))?;
    if drifted.is_empty() {
        cx.printer.say(format_args!("all {compared} things are as they were placed"));
    } else {
        cx.printer.say(format_args!("`charly bundle add {}` puts them back", args.name));
    }
    if hidden > 0 {
        cx.printer.say(format_args!("{hidden} more that only root may look at are not among them"));
    }
    Ok(exit)
}
