//! `bundle list`

use std::collections::BTreeMap;

use charly_ir::message::{DeploySummary, Layer};
use charly_plans::load::DeployEntry;
use serde_json::json;

use crate::context::Context;
use crate::deploy::this_machine;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, columns, state_word};

/// List deploys, those declared and those that are there, one a line with their layers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let workspace = cx.workspace_with_mistakes();
    let here = cx.block_on(this_machine(cx)?.status())?.deploys;
    let mut rows: BTreeMap<&str, (Option<&DeployEntry>, Option<&DeploySummary>)> = BTreeMap::new();
    for (name, entry) in workspace.deploys() {
        rows.entry(name).or_default().0 = Some(entry);
    }
    for deploy in &here {
        rows.entry(&deploy.name).or_default().1 = Some(deploy);
    }
    let mut table = Vec::new();
    for (name, (entry, held)) in &rows {
        let state = held.map_or("not there", |held| state_word(held.state));
        let layers = layers(*entry, *held);
        if cx.printer.is_json() {
            let item = json!({ "name": name, "state": state, "declared": entry.is_some(), "layers": layers });
            cx.printer.line(&Line::Item(item))?;
        } else {
            table.push(vec![(*name).to_owned(), state.to_owned(), layers.join(" ")]);
        }
    }
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.data(columns(&table))?;
        if table.is_empty() {
            cx.printer.say("nothing is deployed; begin with `charly bundle add local hello`");
        }
    }
    Ok(Exit::Done)
}

/// Returns the names of a deploy's layers: what the venue remembers, or what is declared where it holds nothing.
fn layers(entry: Option<&DeployEntry>, held: Option<&DeploySummary>) -> Vec<String> {
    let mut names: Vec<_> = match held {
        Some(held) => held.layers.iter().map(|Layer { candy, .. }| candy.clone()).collect(),
        None => entry.into_iter().flat_map(|entry| &entry.candies).map(|(layer, _)| layer.to_string()).collect(),
    };
    names.dedup();
    names
}
