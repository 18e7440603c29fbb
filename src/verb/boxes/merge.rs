//! `box merge`

use std::num::NonZero;

use charly_target_oci::build;

use super::{bytes_of, done, image, store};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{bytes, counted};

/// Make one layer of an image's layers, so that what later ones took away takes no room
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box, or an image's name
    name: String,
    /// What the new image is called
    #[arg(long = "as", value_name = "NAME:TAG")]
    target: Option<String>,
    /// Leave so many of the lowest layers as they are, so that images go on sharing them
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    keep: usize,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let store = store(cx)?;
    let (name, image) = image(cx, &store, &args.name)?;
    let layers = store.layers(&image)?;
    if args.keep + 1 >= layers.len() {
        return Err(Failure::invalid(format!("`{name}` has {}", counted(layers.len(), "layer")))
            .hint("there is nothing to be merged above those that are kept"));
    }
    let (kept, merged) = layers.split_at(args.keep);
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let compression = merged[merged.len() - 1].compression;
    let layer = store.merge(merged, kept.is_empty(), compression, threads)?;
    let mut all = kept.to_vec();
    all.push(layer);
    let target = args.target.clone().unwrap_or_else(|| format!("{name}-merged"));
    let made = store.tag(&target, &build::config::merged(&image.config, args.keep)?, &all)?;
    let (before, after) = (bytes_of(&image), bytes_of(&made));
    cx.printer.say(format_args!(
        "{target}: {} instead of {}, {} instead of {}",
        counted(all.len(), "layer"),
        layers.len(),
        bytes(after),
        bytes(before)
    ));
    if !cx.printer.is_json() {
        cx.printer.data(format_args!("sha256:{}\n", made.id))?;
    }
    done(cx)
}
