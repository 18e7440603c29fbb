//! `ssh-config`

use charly_target_vm::machine::state::Made;
use serde_json::json;

use super::vm;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::Line;

/// Print what OpenSSH is told of machines, so that plain `ssh charly-NAME` works
///
/// With `--include`, `~/.ssh/config` gets one line that includes all machines, those to come as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machines; all there are where none is named
    #[arg(value_name = "NAME", conflicts_with_all = ["include", "no_include"])]
    names: Vec<String>,
    /// Have `~/.ssh/config` include every machine from now on
    #[arg(long, conflicts_with = "no_include")]
    include: bool,
    /// Take that line away again
    #[arg(long)]
    no_include: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let machines = vm::machines(cx);
    if args.include {
        let is_new = machines.include_in_ssh_config()?;
        cx.printer.say(if is_new { "`~/.ssh/config` includes every machine now" } else { "it does already" });
    } else if args.no_include {
        let was_there = machines.exclude_from_ssh_config()?;
        cx.printer.say(if was_there { "`~/.ssh/config` is as it was before" } else { "it does not include them" });
    } else {
        let names = if args.names.is_empty() {
            let is_whole = |name: &_| machines.get(name).is_ok_and(|state| state.made == Made::Whole);
            machines.names()?.into_iter().filter(is_whole).collect()
        } else {
            args.names.iter().map(|name| vm::name(name)).collect::<Result<Vec<_>, _>>()?
        };
        for (index, name) in names.iter().enumerate() {
            let text = machines.ssh_stanza(name)?;
            if cx.printer.is_json() {
                cx.printer.line(&Line::Item(json!({ "name": name, "host": name.domain(), "config": text })))?;
            } else {
                cx.printer.data(format_args!("{}{text}", if index > 0 { "\n" } else { "" }))?;
            }
        }
    }
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    }
    Ok(Exit::Done)
}
