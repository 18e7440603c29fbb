//! `vm start`

use super::source::declared;
use super::{Wait, machines, name, tell};
use crate::context::Context;
use crate::exit::{Failure, Outcome};

/// Start a machine, and wait until one can log in
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Set it up anew from what is declared now, as its first boot did; its disk stays as it is
    #[arg(long)]
    reseed: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = name(&args.name)?;
    let machines = machines(cx);
    if args.reseed {
        let spec = declared(cx, &name, None)?.ok_or_else(|| {
            Failure::invalid(format!("no machine `{name}` is declared")).hint("declare it below `vm:`")
        })?;
        machines.reseed(&name, &spec)?;
    }
    let state = machines.start(&name, &mut tell(cx.printer))?;
    args.wait.ready(cx, &machines, &state)
}
