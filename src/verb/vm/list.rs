//! `vm list`

use charly_target_vm::machine::Stage;
use serde_json::json;

use super::{done, machines};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::{Line, columns};

/// List machines, one a line, with where they stand
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let machines = machines(cx);
    let mut rows = Vec::new();
    for name in machines.names()? {
        // One damaged file hides no other machine.
        let seen = machines.get(&name).and_then(|state| Ok((machines.stage(&state)?, state)));
        let (stage, reached) = match &seen {
            Ok((stage, state)) => (word(*stage).to_owned(), format!("{}@127.0.0.1:{}", state.ssh_user, state.ssh_port)),
            Err(error) => (format!("unknown: {error}"), String::new()),
        };
        if cx.printer.is_json() {
            let port = seen.as_ref().ok().map(|(_, state)| state.ssh_port);
            cx.printer.line(&Line::Item(json!({ "name": name, "stage": stage, "ssh_port": port })))?;
        } else {
            rows.push(vec![name.to_string(), stage, reached]);
        }
    }
    if !cx.printer.is_json() {
        cx.printer.data(columns(&rows))?;
        if rows.is_empty() {
            cx.printer.say("there is no machine; make one with `charly vm create demo --from debian-13`");
        }
    }
    done(cx)
}

/// Names a stage.
pub(super) fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::HalfMade => "half made",
        Stage::Built => "built",
        Stage::Stopped => "stopped",
        Stage::Booting => "booting",
        Stage::Ready => "ready",
        Stage::Paused => "paused",
        Stage::Crashed => "crashed",
    }
}
