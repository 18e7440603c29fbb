//! `update`

use charly_target_vm::machine::spec::Source;

use super::bundle::add;
use super::vm;
use crate::context::Context;
use crate::deploy::{Downloads, declared};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Line;

/// Make a virtual machine anew, then have it hold what its deploy held
///
/// Its disk is thrown away with all that is on it: where no deploy says that it may be, this is asked about. Its keys and its port
/// stay. It is made as it is declared now, with what was given by hand when it was made; one that is declared nowhere, as it was made.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    add: add::Args,
}

pub(crate) fn run(cx: &Context, args: Args) -> Outcome {
    let workspace = cx.workspace()?;
    let place = declared(cx, &workspace, args.add.name(), args.add.reach())?;
    let Some(name) = place.machine else {
        return Err(Failure::invalid(format!("`{}` is no virtual machine of charly's", place.name))
            .hint("for any other place, `charly bundle add` does all there is to do"));
    };
    let machines = vm::machines(cx);
    let state = machines.get(&name)?;
    let unverified = matches!(state.desired.source, Source::CloudImage { checksum: None, .. });
    let spec = match vm::source::declared(cx, &name, Some(unverified))? {
        Some(mut declared) => {
            declared.give(state.desired.by_hand);
            declared
        }
        None => state.desired,
    };
    let declares = place.entry.is_some_and(|entry| !entry.candies.is_empty());
    let mut held = state.deployed.deploys;
    let own = held.remove(&place.name);
    if args.add.is_dry_run() {
        cx.printer.say(format_args!("`{name}` would be made anew, and its disk thrown away with all that is on it"));
        return done(cx);
    }
    let disposition = vm::disposition::declared(&workspace, &name)?.unwrap_or(state.deployed.disposition);
    if !disposition.may_go() {
        let question =
            format!("This makes `{name}` anew; all that is on its disk is lost, and its snapshots with it. Go on?");
        vm::destroy::confirmed(cx, &question)?;
    }
    machines.rebuild(&name, &spec, &mut Downloads::new(cx).fetcher(), &mut vm::tell(cx.printer))?;
    vm::running(cx, &name)?;
    // What it was asked for now comes last, and tells how all of it ended.
    for (deploy, held) in held {
        add::again(cx, &args.add, &deploy, held.references())?;
    }
    if own.is_none() && !declares && !args.add.names_layers() {
        return done(cx);
    }
    let again = own.map(|own| own.references()).unwrap_or_default();
    add::with(cx, args.add, again)
}

fn done(cx: &Context) -> Outcome {
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    }
    Ok(Exit::Done)
}
