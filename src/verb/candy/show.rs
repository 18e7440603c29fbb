//! `candy show`

use charly_plans::resolve::LayerRef;
use serde_json::json;

use super::list::origin;
use crate::context::Context;
use crate::deploy::absolute;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, columns};

/// Show a candy: what it is for, what it needs, and its document
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A candy's name, a path, or `host/org/repo[/candy/x][@ref]`
    name: String,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let mut workspace = cx.workspace()?;
    let layer: LayerRef = absolute(&args.name, &cx.working)?;
    let resolved = workspace.resolve(&[layer])?;
    let root = resolved.roots.first().map(String::as_str).unwrap_or_default();
    let candy = resolved.candies.iter().find(|candy| candy.loaded.name() == root);
    let candy = candy.ok_or_else(|| Failure::invalid(format!("there is no candy `{}`", args.name)))?;
    let loaded = &candy.loaded;
    let all: Vec<_> = resolved.candies.iter().map(|candy| candy.loaded.name()).filter(|name| *name != root).collect();
    let (version, document) = (loaded.candy.version.value.to_string(), loaded.source.text());
    if cx.printer.is_json() {
        let item = json!({
            "name": root, "version": version, "origin": origin(&loaded.origin), "document": document,
            "description": loaded.candy.description.value, "requires": candy.requires,
            "composed_of": candy.composed_of, "before_it": all,
        });
        cx.printer.line(&Line::Item(item))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
        return Ok(Exit::Done);
    }
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let rows = [
        row("candy", &format!("{root} {version}")),
        row("origin", origin(&loaded.origin)),
        row("document", loaded.source.name()),
        row("requires", &candy.requires.join(" ")),
        row("made of", &candy.composed_of.join(" ")),
        row("brings", &all.join(" ")),
    ];
    let rows: Vec<_> = rows.into_iter().filter(|row| !row[1].is_empty()).collect();
    cx.printer.data(format_args!("{}\n{}\n", columns(&rows), document.trim_end()))?;
    Ok(Exit::Done)
}
