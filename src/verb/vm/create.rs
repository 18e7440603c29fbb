//! `vm create`

use super::source::{Wanted, named};
use super::{Wait, deployed, disposition, done, machines, tell};
use crate::context::Context;
use crate::deploy::Downloads;
use crate::exit::Outcome;

/// Make a machine and start it
///
/// Whatever ends it early, the same command goes on from there. Nothing here ever deletes a disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    #[command(flatten)]
    wanted: Wanted,
    /// Take the disk that an earlier machine of this name left
    #[arg(long)]
    adopt: bool,
    /// Do not start it
    #[arg(long)]
    no_start: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = named(cx, &args.name)?;
    let spec = args.wanted.spec(cx, &name)?;
    let machines = machines(cx);
    let workspace = cx.workspace_with_mistakes();
    // What cannot be taken as it is declared is refused before anything is made.
    disposition::declared(&workspace, &name)?;
    machines.create(&name, &spec, args.adopt, &mut Downloads::new(cx).fetcher(), &mut tell(cx.printer))?;
    deployed::declared(cx, &workspace, &name)?;
    if args.no_start {
        cx.printer.say(format_args!("start it with `charly vm start {name}`"));
        return done(cx);
    }
    let state = machines.start(&name, &mut tell(cx.printer))?;
    args.wait.ready(cx, &machines, &state)
}
