//! `box build`

use charly_target_oci::build::Built;
use serde_json::json;

use super::make::{self, How};
use super::{bytes_of, hand_on, store};
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, bytes, counted};

/// Build the image of a box, one layer a candy
///
/// Layers that only place files are written straight from the recipe; those that run something run in the image, without a
/// daemon and without root. What was built before is used again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box
    name: String,
    #[command(flatten)]
    how: How,
    /// Write the image, too: `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, or a registry's `docker://HOST/NAME:TAG`
    #[arg(short, long, value_name = "WHERE")]
    output: Vec<String>,
    /// Give the image to podman, too
    #[arg(long)]
    load: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let Built { image, name, is_new } = make::build(cx, &args.name, &args.how)?;
    let store = store(cx)?;
    for to in &args.output {
        hand_on::write(cx, &store, &image, to, false)?;
    }
    if args.load {
        hand_on::to_podman(cx, &store, &image, &name)?;
    }
    let size = bytes_of(&image);
    if cx.printer.is_json() {
        let item = json!({
            "box": args.name, "image": name, "id": format!("sha256:{}", image.id),
            "manifest": format!("sha256:{}", image.manifest_digest), "layers": image.manifest.layers().len(), "size": size,
            "changed": is_new,
        });
        cx.printer.line(&Line::Item(item))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        let how = if is_new { "built" } else { "nothing changed in" };
        let layers = counted(image.manifest.layers().len(), "layer");
        cx.printer.say(format_args!("{how} {name}: {layers}, {}", bytes(size)));
        cx.printer.data(format_args!("sha256:{}\n", image.id))?;
    }
    Ok(Exit::Done)
}
