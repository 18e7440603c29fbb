//! Several deploys at once, side by side.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use charly_ir::message::Done;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Cause, Exit, Failure, Outcome};
use crate::output::{Ended, Fleet, FleetLine, Line, Printer, columns};

/// What the name of a group begins with.
const GROUP: char = '@';

/// How many runs go on at a time.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Width {
    /// Work on so many places at a time, where several are named
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
}

/// Returns the names that are meant by `NAME`, `NAME,NAME` or `@group`, each once.
pub(super) fn names(cx: &Context, text: &str) -> Result<Vec<String>, Failure> {
    if !text.contains([',', GROUP]) || !text.contains(',') && !text.starts_with(GROUP) {
        return Ok(vec![text.to_owned()]);
    }
    let workspace = cx.workspace_with_mistakes();
    let mut names: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some(group) = part.strip_prefix(GROUP) else {
            names.push(part.to_owned());
            continue;
        };
        let deploys = workspace.deploys().iter();
        let groups = |name: &String| workspace.deploys()[name].deploy.group.iter().map(|group| group.value.clone());
        let members: Vec<_> =
            deploys.map(|(name, _)| name).filter(|name| groups(name).any(|one| one == group)).collect();
        if members.is_empty() {
            let known: BTreeSet<_> =
                workspace.deploys().keys().flat_map(groups).map(|one| format!("`@{one}`")).collect();
            let known: Vec<_> = known.into_iter().collect();
            let failure = Failure::invalid(format!("no deploy is of the group `{group}`"));
            return Err(failure.hint(if known.is_empty() {
                format!("a deploy says `group: [{group}]` to be of it")
            } else {
                format!("a deploy says `group: [{group}]` to be of it; there is {}", known.join(", "))
            }));
        }
        names.extend(members.into_iter().cloned());
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() { Err(Failure::invalid("no deploy is named")) } else { Ok(names) }
}

/// Works on several places at once, and ends as the worst of them did.
pub(super) fn run(
    cx: &Context,
    names: &[String],
    width: Width,
    work: impl Fn(&str, &mut FleetLine) -> Result<Done, Failure> + Sync,
) -> Outcome {
    let fleet = Fleet::new(cx.printer, names);
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..names.len().min(width.parallel.into()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut line = fleet.line(name);
                    let result = work(name, &mut line);
                    let run = line.end(result);
                    ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    ended.sort_by_key(|run| names.iter().position(|name| *name == run.name));
    tell(cx, &ended)
}

fn tell(cx: &Context, ended: &[Ended]) -> Outcome {
    let worst = ended.iter().map(Ended::exit).max_by_key(|exit| exit.severity()).unwrap_or(Exit::Done);
    if cx.printer.is_json() {
        for run in ended {
            let problem = run.result.as_ref().err().and_then(Failure::problem);
            let mut item = json!({
                "deploy": run.name, "exit": run.exit() as u8, "outcome": run.exit(),
                "run": run.result.as_ref().ok(), "error": problem,
            });
            if let Err(Failure { cause: Cause::Findings(findings), .. }) = &run.result {
                item["findings"] = json!(findings);
            }
            cx.printer.line(&Line::Item(item))?;
        }
        cx.printer.line(&Line::result(worst, None))?;
        return Ok(worst);
    }
    cx.printer.data(columns(&ended.iter().map(Ended::row).collect::<Vec<_>>()))?;
    for run in ended {
        if let Err(failure) = &run.result {
            Printer::complain(format_args!("\n{}:", run.name));
            match &failure.cause {
                Cause::Problem(problem) => crate::complain(problem),
                Cause::Findings(findings) => crate::mistakes(findings),
                Cause::NobodyReads => {}
            }
        }
    }
    Ok(worst)
}
