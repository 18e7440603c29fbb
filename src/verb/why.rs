//! `why`

use std::path::Component;

use charly_ir::message::{Inspect, Owned, Report};
use charly_target_local::Local;

use crate::context::Context;
use crate::deploy::{Reach, find};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, clean, columns};

/// Say which deploy and candy own a file, package or unit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A path, a package's name, or a unit's
    subject: String,
    /// The deploy whose venue is asked
    #[arg(long, value_name = "NAME", default_value = Local::NAME)]
    on: String,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let workspace = cx.workspace_with_mistakes();
    let target = find(cx, &workspace, &args.on, &args.reach)?.target;
    let report = cx.block_on(target.inspect(Inspect::Why { subject: subject(cx, &args.subject) }))?;
    let Report::Why { owned } = report else {
        return Err(Failure::invalid("the engine answered another question"));
    };
    if owned.is_empty() {
        return Err(Failure::invalid(format!("no deploy owns `{}`", args.subject))
            .hint("`charly bundle show NAME` lists what a deploy owns"));
    }
    let mut rows = Vec::new();
    for Owned { what, subject, before, claims } in &owned {
        for claim in claims {
            rows.push(vec![
                clean(what),
                clean(subject),
                format!("{}/{}", clean(&claim.deploy), clean(&claim.candy)),
                clean(&claim.step),
                format!("before: {}", clean(before)),
            ]);
        }
    }
    if cx.printer.is_json() {
        for owned in &owned {
            cx.printer.line(&Line::Item(serde_json::json!({ "owned": owned })))?;
        }
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.data(columns(&rows))?;
    }
    Ok(Exit::Done)
}

/// A relative path is one from here; what has no slash may be a package or a unit.
fn subject(cx: &Context, text: &str) -> String {
    if !text.contains('/') {
        return text.to_owned();
    }
    let path = match text.strip_prefix("~/") {
        Some(below) => cx.home.join(below),
        None => cx.working.join(text),
    };
    // As a ledger writes it. A link on the way stays: what was placed was placed through it.
    let mut plain = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain.to_string_lossy().into_owned()
}
