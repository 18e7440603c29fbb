//! `validate`

use charly_plans::diagnostic::{Diagnostic, Severity};
use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::Reference;
use charly_plans::source::Place;
use charly_target_vm::ssh::Address;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, counted};

/// Judge the whole project, with every reference in it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let mut workspace = cx.workspace()?;
    let mut found = references(&mut workspace);
    found.extend(hosts(&workspace));
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Failure::from(found));
    }
    cx.printer.findings(&found)?;
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
        let error = entry.deploy.host.as_ref()?.value.parse::<Address>().err()?;
        Some(Diagnostic::error(error.to_string()).at(entry.place.clone()).hint(error.hint()))
    };
    workspace.deploys().values().filter_map(mistake).collect()
}

/// Follows every reference of every candy and deploy. Each is followed by itself: two deploys may well want different
/// candies of one name. What is wrong with a shared candy is told once.
fn references(workspace: &mut Workspace) -> Vec<Diagnostic> {
    let candies = workspace.candies().into_keys().filter_map(|name| LayerRef::parse(&name).ok());
    let mut wanted: Vec<_> = candies.map(|layer| vec![layer]).collect();
    for entry in workspace.deploys().values() {
        let layer = |(reference, place): &(_, Place)| LayerRef {
            reference: Reference::clone(reference),
            place: Some(place.clone()),
        };
        wanted.push(entry.candies.iter().map(layer).collect());
    }
    let mut found = Vec::new();
    for layers in wanted {
        for finding in workspace.resolve(&layers).err().into_iter().flatten() {
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    found
}
