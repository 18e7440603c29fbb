//! `vm snapshot`

use clap::Subcommand;
use serde_json::json;

use super::{done, machines, name};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::{Line, columns, when};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Take a snapshot of a machine's disk, whether it runs or not
    Create(Which),
    /// List a machine's snapshots
    List(Machine),
    /// Put a stopped machine's disk back to what it was at a snapshot
    Revert(Which),
    /// Delete a snapshot; the disk stays as it is
    Delete(Which),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Machine {
    /// The machine
    name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The machine
    name: String,
    /// The snapshot
    snapshot: String,
}

impl Verb {
    pub(crate) fn run(self, cx: &Context) -> Outcome {
        let machines = machines(cx);
        match self {
            Self::Create(which) => {
                let taken = machines.take_snapshot(&name(&which.name)?, &which.snapshot)?;
                if !taken.at_rest {
                    cx.printer.say("it was taken while the machine wrote, as a power cut would have left its disk");
                }
            }
            Self::Revert(which) => machines.revert(&name(&which.name)?, &which.snapshot)?,
            Self::Delete(which) => machines.forget_snapshot(&name(&which.name)?, &which.snapshot)?,
            Self::List(machine) => {
                let snapshots = machines.snapshots(&name(&machine.name)?)?;
                if cx.printer.is_json() {
                    snapshots.iter().try_for_each(|one| cx.printer.line(&Line::Item(json!(one))))?;
                } else {
                    let at_rest = |at_rest| if at_rest { "at rest" } else { "as after a power cut" }.to_owned();
                    let row = |one: &charly_target_vm::machine::state::Snapshot| {
                        vec![one.name.clone(), when(one.taken), at_rest(one.at_rest)]
                    };
                    cx.printer.data(columns(&snapshots.iter().map(row).collect::<Vec<_>>()))?;
                }
            }
        }
        done(cx)
    }
}
