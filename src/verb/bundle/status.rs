//! `bundle status`

use charly_ir::message::{DeploySummary, Inspect, Report};
use charly_target_core::target::Status;
use charly_target_local::Local;
use serde_json::json;

use crate::context::Context;
use crate::deploy::{Place, Reach, declared, find};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, clean, columns, state_word, when};

/// Show whether a deploy is there as it was placed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The deploy
    #[arg(default_value = Local::NAME)]
    name: String,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let workspace = cx.workspace_with_mistakes();
    let Place { deploy: ours, target, .. } = find(cx, &workspace, &args.name, &args.reach)?;
    let Status { facts, deploys } = cx.block_on(target.status())?;
    let held = deploys.into_iter().find(|deploy| deploy.name == ours);
    let venue = format!("{}, {}@{}", clean(&facts.os.pretty_name), clean(&facts.user.name), clean(&facts.hostname));
    let Some(deploy) = held else {
        declared(cx, &workspace, &args.name, &args.reach)?;
        if cx.printer.is_json() {
            cx.printer.line(&Line::Item(json!({ "name": args.name, "state": "not there", "facts": facts })))?;
            cx.printer.line(&Line::result(Exit::Done, None))?;
        } else {
            cx.printer.data(columns(&[row("deploy", &args.name), row("venue", &venue), row("state", "not there")]))?;
        }
        return Ok(Exit::Done);
    };
    let report = cx.block_on(target.inspect(Inspect::Drift { deploy: ours }))?;
    let Report::Drift { drifted, compared, hidden } = report else {
        return Err(Failure::invalid("the engine answered another question"));
    };
    if cx.printer.is_json() {
        let item = json!({
            "name": args.name, "state": deploy.state, "layers": deploy.layers, "candies": deploy.candies,
            "updated_s": deploy.updated_s, "facts": facts, "drifted": drifted.len(), "compared": compared, "hidden": hidden,
        });
        cx.printer.line(&Line::Item(item))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
        return Ok(Exit::Done);
    }
    let drift = match drifted.len() {
        0 => format!("none in {compared} things"),
        n => format!("{n} of {compared} things; `charly drift {}` shows them", args.name),
    };
    let drift = if hidden > 0 { format!("{drift}; {hidden} more only root may look at") } else { drift };
    let DeploySummary { name: _, layers, candies, state, updated_s, system: _ } = &deploy;
    let layers: Vec<_> = layers.iter().map(|layer| clean(&layer.candy)).collect();
    let candies: Vec<_> =
        candies.iter().map(|candy| format!("{} {}", clean(&candy.name), clean(&candy.version))).collect();
    cx.printer.data(columns(&[
        row("deploy", &args.name),
        row("venue", &venue),
        row("state", state_word(*state)),
        row("updated", &when(*updated_s)),
        row("layers", &layers.join(" ")),
        row("candies", &candies.join(", ")),
        row("drift", &drift),
    ]))?;
    Ok(Exit::Done)
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}
