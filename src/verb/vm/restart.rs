//! `vm restart`

use super::stop::How;
use super::{Wait, machines, name, tell};
use crate::context::Context;
use crate::exit::Outcome;

/// Shut a machine down and start it again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let machines = machines(cx);
    let state = machines.restart(&name(&args.name)?, (&args.how).into(), &mut tell(cx.printer))?;
    args.wait.ready(cx, &machines, &state)
}
