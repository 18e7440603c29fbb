//! `vm clone`

use charly_target_vm::machine::spec::Source;

use super::source::Shape;
use super::{deployed, done, machines, name, tell};
use crate::context::Context;
use crate::deploy::Downloads;
use crate::exit::Outcome;

/// Make a machine from a stopped one, or from a snapshot of it, with an identity of its own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine to copy
    from: String,
    /// The new machine
    name: String,
    /// Copy its disk as it was at a snapshot
    #[arg(long)]
    snapshot: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let (from, name) = (name(&args.from)?, name(&args.name)?);
    let machines = machines(cx);
    let mut spec = machines.get(&from)?.desired;
    spec.source = Source::Clone { from, snapshot: args.snapshot.clone() };
    // What leads into the original stays the original's; and nobody asked for a second machine at every start.
    spec.forwards.clear();
    spec.autostart = false;
    (spec.ssh.port, spec.mac, spec.cloud_init.hostname) = (None, None, None);
    args.shape.apply(&mut spec);
    machines.create(&name, &spec, false, &mut Downloads::new(cx).fetcher(), &mut tell(cx.printer))?;
    deployed::declared_here(cx, &name)?;
    cx.printer.say(format_args!("start it with `charly vm start {name}`"));
    done(cx)
}
