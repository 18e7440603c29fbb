//! `vm build`

use super::source::{Wanted, named};
use super::{done, machines, tell};
use crate::context::Context;
use crate::deploy::Downloads;
use crate::exit::Outcome;

/// Make a machine's disk and no more; `vm create` goes on from there
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = named(cx, &args.name)?;
    let spec = args.wanted.spec(cx, &name)?;
    let state = machines(cx).build(&name, &spec, &mut Downloads::new(cx).fetcher(), &mut tell(cx.printer))?;
    cx.printer.say(format_args!("its disk is `{}`", state.disk_path.display()));
    done(cx)
}
