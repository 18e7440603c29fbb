//! `candy validate`

use std::path::PathBuf;

use charly_plans::validate_documents;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, counted};

/// Judge documents by themselves, without what they refer to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Documents, or folders that hold a `charly.yml`
    #[arg(value_name = "PATH", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let found = validate_documents(&args.paths, &cx.working);
    if found.has_errors() {
        return Err(Failure::from(found));
    }
    cx.printer.findings(found.iter())?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.say(format_args!("fine: {}", counted(args.paths.len(), "document")));
    }
    Ok(Exit::Done)
}
