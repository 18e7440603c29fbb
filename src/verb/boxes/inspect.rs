//! `box inspect`

use serde_json::json;

use super::{done, image, store};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Line;

/// Show all that an image says about itself, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box, or an image's name
    name: String,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let store = store(cx)?;
    let (name, image) = image(cx, &store, &args.name)?;
    let layers: Vec<_> = store
        .layers(&image)?
        .iter()
        .map(|layer| {
            json!({
                "digest": format!("sha256:{}", layer.digest), "diff_id": format!("sha256:{}", layer.diff_id),
                "size": layer.size,
            })
        })
        .collect();
    let document = json!({
        "name": name,
        "id": format!("sha256:{}", image.id),
        "manifest": format!("sha256:{}", image.manifest_digest),
        "layers": layers,
        "config": image.config,
    });
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(document))?;
        return done(cx);
    }
    let text = serde_json::to_string_pretty(&document).map_err(|error| Failure::error(Exit::Failed, error))?;
    cx.printer.data(format_args!("{text}\n"))?;
    Ok(Exit::Done)
}
