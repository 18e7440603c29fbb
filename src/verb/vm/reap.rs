//! `vm reap`

use charly_target_vm::machine::Name;
use charly_target_vm::machine::deployed::Reaped;
use serde_json::json;

use super::{disposition, machines};
use crate::context::Context;
use crate::exit::{Cause, Exit, Failure, Outcome};
use crate::output::{Line, Printer};

/// End the machines that have outlived the `ttl` of their deploy, with their disks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show which ones would end, and end none
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    // A mistaken word must not cost a machine: what is meant by it may be that the machine stays.
    let (machines, workspace) = (machines(cx), cx.workspace()?);
    let mut exit = Exit::Done;
    for name in machines.names()? {
        let reaped = disposition::declared(&workspace, &name)
            .and_then(|declared| Ok(machines.reap(&name, declared.as_ref(), args.dry_run)?));
        match reaped {
            Ok(reaped) => tell(cx, &name, reaped, args.dry_run)?,
            // A machine that somebody works on, or whose state is damaged, keeps no other alive.
            Err(failure) => {
                exit = Exit::Failed;
                complain(cx, &name, &failure)?;
            }
        }
    }
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(exit, None))?;
    }
    Ok(exit)
}

fn tell(cx: &Context, name: &Name, reaped: Reaped, dry_run: bool) -> Result<(), Failure> {
    if cx.printer.is_json() {
        return cx.printer.line(&Line::Item(json!({ "name": name, "is": reaped, "dry_run": dry_run })));
    }
    let what = match reaped {
        Reaped::Alive => return Ok(()),
        Reaped::Kept => "has outlived its deploy, and stays because the last add failed",
        Reaped::Ended if dry_run => "would end",
        Reaped::Ended => "ended",
    };
    cx.printer.data(format_args!("{name} {what}\n"))
}

fn complain(cx: &Context, name: &Name, failure: &Failure) -> Result<(), Failure> {
    if cx.printer.is_json() {
        return cx.printer.line(&Line::Item(json!({ "name": name, "error": failure.problem() })));
    }
    Printer::complain(format_args!("{name}:"));
    match &failure.cause {
        Cause::Problem(problem) => crate::complain(problem),
        Cause::Findings(findings) => crate::mistakes(findings),
        Cause::NobodyReads => {}
    }
    Ok(())
}
