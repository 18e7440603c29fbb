//! `validate`

use charly_plans::diagnostic::Diagnostic;
use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::source::Place;
use charly_target_vm::machine::Name;
use charly_target_vm::ssh::Address;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, counted};
use crate::verb;

/// Judge the whole project, with every reference in it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    // What cannot be read hides what it refers to, and nothing else: the rest is judged all the same.
    let (mut workspace, mut found) = cx.load();
    found.extend(workspace.validate());
    found.extend(hosts(&workspace));
    found.extend(verb::vm::source::judged(cx, &workspace));
    found.dedup();
    if found.has_errors() {
        return Err(Failure::from(found));
    }
    cx.printer.findings(found.iter())?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        let (candies, deploys) = (workspace.candies().len(), counted(workspace.deploys().len(), "deploy"));
        cx.printer.say(format_args!("fine: {candies} candies, {deploys}"));
    }
    Ok(Exit::Done)
}

/// Reads the name of every machine that a deploy says it is on.
fn hosts(workspace: &Workspace) -> Vec<Diagnostic> {
    let mistake = |entry: &DeployEntry| {
        if let Some(vm) = &entry.deploy.vm
            && let Err(bad) = vm.value.strip_prefix("vm:").unwrap_or(&vm.value).parse::<Name>()
        {
            let place = Place { source: entry.place.source.clone(), span: vm.span };
            return Some(verb::vm::source::misnamed(&bad, place));
        }
        let error = entry.deploy.host.as_ref()?.value.parse::<Address>().err()?;
        Some(Diagnostic::error(error.to_string()).at(entry.place.clone()).hint(error.hint()))
    };
    workspace.deploys().values().filter_map(mistake).collect()
}
