//! `box generate`

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use charly_ir::plan::InstallPlan;
use charly_plans::image::Base;
use charly_target_core::Supply;
use charly_target_oci::build;

use super::make::{self, How};
use super::{done, store};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// Write the Containerfile and context that make the same image
///
/// Boxes that this one starts from are built first, and their layers go into the context.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box
    name: String,
    /// The folder to write to, which is made
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    output: PathBuf,
    #[command(flatten)]
    how: How,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let folder = cx.working.join(&args.output);
    if folder.exists() {
        return Err(Failure::invalid(format!("`{}` is there already", folder.display()))
            .hint("name a folder that is not, or remove it"));
    }
    let store = store(cx)?;
    let mut workspace = cx.workspace()?;
    let chain = workspace.chain(&args.name)?;
    let settings = args.how.settings(cx);
    let Some((last, before)) = chain.boxes.split_last() else { return done(cx) };
    for layer in before {
        let ready = make::ready(cx, &store, &mut workspace, layer, &args.how, &settings)?;
        make::one(cx, &store, &ready, &settings)?;
    }
    let ready = make::ready(cx, &store, &mut workspace, last, &args.how, &settings)?;
    let supply = |plan: &InstallPlan| -> Box<dyn Supply> { ready.supply(cx, plan) };
    let blueprint = ready.blueprint(&supply);
    let from = match &last.base {
        // Whoever builds it can fetch it as well.
        Base::Image(name) if !name.contains("archive:") && !name.starts_with("oci:") => {
            Some(name.trim_start_matches("docker://"))
        }
        _ => None,
    };
    let made = fs::create_dir_all(&folder).with_context(|| format!("`{}` cannot be made", folder.display()));
    made.map_err(|error| Failure::error(Exit::Invalid, error))?;
    let written = build::generate(&store, &blueprint, from, settings.epoch, &folder);
    if written.is_err() {
        // Half of it would be built by somebody.
        fs::remove_dir_all(&folder).ok();
    }
    written?;
    cx.printer.say(format_args!("build it with `podman build {}`", args.output.display()));
    done(cx)
}
