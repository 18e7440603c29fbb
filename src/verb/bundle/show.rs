//! `bundle show`

use charly_ir::message::{Claim, Inspect, Owned, Report};

use crate::context::Context;
use crate::deploy::{Reach, find};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, clean, columns, state_word, when};

/// Show what a deploy owns, and what was there before
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
    let report = cx.block_on(place.target.inspect(Inspect::Show { deploy: place.deploy.clone() }))?;
    let Report::Show { deploy, resources } = &report else {
        return Err(Failure::invalid("the engine answered another question"));
    };
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(serde_json::to_value(&report).unwrap_or_default()))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
        return Ok(Exit::Done);
    }
    cx.printer.data(format_args!("{}  {}, {}\n", args.name, state_word(deploy.state), when(deploy.updated_s)))?;
    for candy in &deploy.candies {
        cx.printer.data(format_args!("\n{} {}\n", clean(&candy.name), clean(&candy.version)))?;
        let mine = |claim: &Claim| claim.deploy == deploy.name && claim.candy == candy.name;
        let owned = resources.iter().filter(|owned| owned.claims.iter().any(mine));
        let row = |Owned { what, subject, before, claims }: &Owned| {
            let others =
                claims.iter().filter(|claim| !mine(claim)).map(|claim| format!("{}/{}", claim.deploy, claim.candy));
            let others: Vec<_> = others.collect();
            let shared = if others.is_empty() { String::new() } else { format!("also of {}", others.join(", ")) };
            vec![format!("  {}", clean(what)), clean(subject), format!("before: {}", clean(before)), clean(&shared)]
        };
        cx.printer.data(columns(&owned.map(row).collect::<Vec<_>>()))?;
    }
    Ok(Exit::Done)
}
