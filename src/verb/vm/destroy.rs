//! `vm destroy`

use charly_ir::message::Problem;

use super::{done, machines, name};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Question, ask};

/// Take a machine away, cutting its power where it has any; its disk stays unless `--disk` is given
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Delete its disk, too
    #[arg(long)]
    disk: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = name(&args.name)?;
    let machines = machines(cx);
    machines.is_there(&name, args.disk)?;
    // One whose deploy says that it may go is gone without a question.
    if !machines.get(&name).is_ok_and(|state| state.deployed.disposition.may_go()) {
        let question = if args.disk {
            format!("This deletes `{name}` with its disk, and nothing brings that back. Go on?")
        } else {
            format!("This deletes `{name}` and keeps its disk. Go on?")
        };
        confirmed(cx, &question)?;
    }
    if let Some(kept) = machines.destroy(&name, args.disk)?.kept {
        cx.printer.say(format_args!("kept its disk, `{}`", kept.display()));
    }
    done(cx)
}

/// Asks whether something may be deleted that nothing brings back.
pub(crate) fn confirmed(cx: &Context, question: &str) -> Result<(), Failure> {
    match cx.yes.then_some(true).or_else(|| ask(&Question(question), &cx.interrupts)) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(Exit::Refused, Problem::new("nothing was deleted"))),
        None => {
            let problem = Problem::new("nobody can be asked whether the machine is to be deleted").hint("add `--yes`");
            Err(Failure::new(Exit::Refused, problem))
        }
    }
}
