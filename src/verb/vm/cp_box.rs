//! `vm cp-box`

use std::time::Instant;

use charly_ir::message::{Deliver, Delivered, Problem, Report};
use charly_target_core::target::Run;
use charly_target_oci::serve::reference::full_name;
use charly_target_oci::serve::{BadReference, ImageSupply, Reference, ServeError, Served};

use super::{machines, name, running};
use crate::context::Context;
use crate::deploy::{Reach, declared};
use crate::exit::{Exit, Failure, Outcome, of_verdict};
use crate::output::{Line, Policy, Progress, bytes, clean, counted, seconds};
use crate::verb::boxes;

/// Bring an image from here into a machine's podman
///
/// Only layers that the machine lacks are sent. What it has is judged, and what is damaged replaced. The image takes its name
/// there when it is whole and durable, and whatever had the name before goes, unless a container uses it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine: `vm:NAME` or NAME, or any other as `ssh:user@host`
    vm: String,
    /// The image: a box that was built, a name or id of podman's here, an OCI layout or an archive by its path, or `oci:PATH[:NAME]`,
    /// `docker-archive:PATH[:NAME]`
    #[arg(value_name = "REF")]
    reference: String,
    /// Call it so there; otherwise it keeps its name
    #[arg(long = "as", value_name = "TAG")]
    tag: Option<String>,
    /// Into the storage of the user who logs in, rather than root's
    #[arg(long)]
    rootless: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let began = Instant::now();
    let reference = Reference::parse(&args.reference, &cx.working).map_err(|error| {
        let hint = "write a box, a name of podman's, a path, `oci:PATH` or `docker-archive:PATH`";
        Failure::invalid(error.to_string()).hint(hint)
    })?;
    let kept = match &reference {
        Reference::Named(name) => boxes::kept(cx, name)?,
        _ => None,
    };
    let image = match kept {
        Some(image) => image,
        None => Served::open(&reference)?,
    };
    let Some(name) = args.tag.as_deref().or(image.names.first().map(String::as_str)) else {
        let failure = Failure::invalid(format!("`{}` has no name of its own", args.reference));
        return Err(failure.hint("say what to call it there, with `--as NAME`"));
    };
    let name = full_name(name)?;
    let place = place(cx, args)?;
    let deliver = Deliver {
        image: image.id(),
        name,
        rootless: args.rootless,
        sudo_password: if args.rootless { None } else { args.reach.sudo_password(&place.name, &cx.interrupts)? },
    };
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), Policy::default());
    let run = Run { observer: &mut progress, interrupts: cx.interrupts.clone() };
    let answer = cx.block_on(place.target.deliver(deliver, Box::new(ImageSupply::new(image)), run));
    progress.finish()?;
    let answer = answer?;
    of_verdict(&answer.done.verdict)?;
    let Some(Report::Delivered(delivered)) = answer.report else {
        return Err(Failure::invalid("the engine answered another question"));
    };
    for name in &delivered.damaged {
        let what = "was damaged there, and was taken away";
        cx.printer.say(format_args!("warning: `{}` {what}", clean(name)));
    }
    cx.printer.say(format_args!("{} ({})", summary(&delivered), seconds(began.elapsed())));
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(serde_json::json!({ "delivered": delivered })))?;
        cx.printer.line(&Line::result(Exit::Done, Some(&answer.done)))?;
    }
    Ok(Exit::Done)
}

/// Finds the machine, which is started if it has to be.
fn place(cx: &Context, args: &Args) -> Result<crate::deploy::Place, Failure> {
    let workspace = cx.workspace_with_mistakes();
    let made = name(&args.vm).is_ok_and(|name| machines(cx).get(&name).is_ok());
    let is_vm = !workspace.deploys().contains_key(&args.vm) && (made || workspace.vms().contains_key(&args.vm));
    let called = if is_vm && !args.vm.starts_with("vm:") { format!("vm:{}", args.vm) } else { args.vm.clone() };
    let place = declared(cx, &workspace, &called, &args.reach)?;
    match &place.machine {
        Some(machine) => {
            running(cx, machine)?;
            // Its port may be another since it was started.
            declared(cx, &workspace, &called, &args.reach)
        }
        None => Ok(place),
    }
}

fn summary(delivered: &Delivered) -> String {
    let Delivered { name, layers, sent_layers, sent_bytes, was_there, damaged: _ } = delivered;
    let name = clean(name);
    if *was_there {
        return format!("`{name}` is there already, and whole: nothing was sent");
    }
    let of = counted(usize::try_from(*layers).unwrap_or(usize::MAX), "layer");
    match sent_layers {
        0 => format!("`{name}` is there: the machine had all of its {of}"),
        sent => format!("`{name}` is there: sent {sent} of {of}, {}", bytes(*sent_bytes)),
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match &error {
            ServeError::Unknown { .. } | ServeError::Invalid { .. } => Exit::Invalid,
            ServeError::Store(_) | ServeError::Read { .. } | ServeError::NoPodman | ServeError::Podman { .. } => {
                Exit::Failed
            }
        };
        let problem = Problem::from_error(&error);
        let problem = match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        };
        Self::new(exit, problem)
    }
}

impl From<BadReference> for Failure {
    fn from(error: BadReference) -> Self {
        Self::invalid(error.to_string()).hint(BadReference::HINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_crossed() {
        let delivered = |layers, sent_layers, sent_bytes, was_there| Delivered {
            name: "localhost/web:latest".into(),
            layers,
            sent_layers,
            sent_bytes,
            was_there,
            damaged: vec![],
        };
        assert!(summary(&delivered(4, 0, 0, true)).ends_with("already, and whole: nothing was sent"));
        assert!(summary(&delivered(4, 0, 0, false)).ends_with("the machine had all of its 4 layers"));
        assert!(summary(&delivered(4, 1, 10_240, false)).contains("sent 1 of 4 layers, 10"));
    }
}
