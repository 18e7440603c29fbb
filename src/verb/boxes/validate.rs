//! `box validate`

use charly_plans::diagnostic::Diagnostic;

use super::done;
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::counted;

/// Judge boxes: what they start from, and every candy they name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The boxes; all of them where none is named
    names: Vec<String>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let mut workspace = cx.workspace()?;
    let names: Vec<String> =
        if args.names.is_empty() { workspace.boxes().keys().cloned().collect() } else { args.names.clone() };
    let mut found: Vec<Diagnostic> = Vec::new();
    for name in &names {
        match workspace.chain(name) {
            Ok(chain) => {
                for layer in &chain.boxes {
                    if let Err(findings) = workspace.box_candies(layer) {
                        found.extend(findings);
                    }
                }
            }
            Err(findings) => found.extend(findings),
        }
    }
    if !found.is_empty() {
        return Err(found.into());
    }
    cx.printer.say(format_args!("{} without a mistake", counted(names.len(), "declaration")));
    done(cx)
}
