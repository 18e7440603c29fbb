//! `box labels`

use std::collections::BTreeMap;

use charly_plans::image::labels::PREFIX;
use serde_json::json;

use super::{done, image, store};
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, clean, columns};

/// Show what an image tells whoever deploys it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box, or an image's name
    name: String,
    /// Show all labels, and not charly's own alone
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let store = store(cx)?;
    let (_, image) = image(cx, &store, &args.name)?;
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
    let labels: BTreeMap<_, _> = labels.into_iter().filter(|(name, _)| args.all || name.starts_with(PREFIX)).collect();
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(json!(labels)))?;
        return done(cx);
    }
    let table: Vec<_> = labels.iter().map(|(name, value)| vec![clean(name), clean(value)]).collect();
    cx.printer.data(columns(&table))?;
    Ok(Exit::Done)
}
