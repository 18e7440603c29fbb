//! `candy list`

use charly_plans::load::Origin;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, columns};

/// List the candies that can be named
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let workspace = cx.workspace()?;
    let mut rows = Vec::new();
    for (name, loaded) in workspace.candies() {
        let summary = loaded.candy.description.value.lines().next().unwrap_or_default();
        let (version, origin) = (loaded.candy.version.value.to_string(), origin(&loaded.origin));
        if cx.printer.is_json() {
            let item = json!({ "name": name, "version": version, "origin": origin, "summary": summary });
            cx.printer.line(&Line::Item(item))?;
        } else {
            rows.push(vec![name, version, origin.to_owned(), summary.to_owned()]);
        }
    }
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.data(columns(&rows))?;
    }
    Ok(Exit::Done)
}

/// Says in a word where a candy comes from.
pub(super) fn origin(origin: &Origin) -> &str {
    match origin {
        Origin::Project => "project",
        Origin::Repository { url, .. } => url,
        Origin::Shipped => "shipped",
    }
}
