//! `box prune`

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use charly_ir::Digest;
use charly_plans::image::Base;
use charly_target_oci::space::Space;
use charly_target_oci::store::{Image, Store};
use charly_target_oci::{build, builder, sandbox};
use serde_json::json;

use super::{done, make, store};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, bytes, columns};

/// Give back the space of images that nobody needs
///
/// What the project's boxes are or start from stays, and every image that was built, fetched or built in within some days. Unpacked
/// layers and what builders made go with the images and days. What went is built or fetched again when somebody asks for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What was used within so many days stays
    #[arg(long, value_name = "NUMBER", default_value_t = 30)]
    days: u64,
    /// Only say which images would go
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let store = store(cx)?;
    let since = SystemTime::now().checked_sub(Duration::from_secs(args.days.saturating_mul(86_400)));
    let since = since.unwrap_or(SystemTime::UNIX_EPOCH);
    let images = store.images()?;
    let kept = kept(&store, &images, &declared(cx)?, since);
    let gone: BTreeSet<_> =
        images.iter().map(|(name, _)| name).filter(|name| !kept.contains(name)).map(|name| (*name).clone()).collect();
    for name in &gone {
        if cx.printer.is_json() {
            cx.printer.line(&Line::Item(json!({ "image": name, "removed": !args.dry_run })))?;
        } else {
            cx.printer.data(format_args!("{name}\n"))?;
        }
    }
    if args.dry_run {
        return done(cx);
    }
    let layers = images.iter().filter(|(name, _)| kept.contains(name)).flat_map(|(_, image)| diff_ids(image));
    let layers: BTreeSet<Digest> = layers.filter_map(|id| id.strip_prefix("sha256:")?.parse().ok()).collect();
    let of_images = store.prune(&gone)?;
    build::forget(&store, &cx.data.join(make::BUILT));
    let unpacked = sandbox::prune(&cx.sandbox(), &layers).map_err(|error| {
        let is_busy = matches!(error, sandbox::TreesError::Busy { .. });
        let failure = Failure::error(Exit::Failed, error);
        if is_busy { failure.hint("try again when it is done") } else { failure }
    })?;
    let made = builder::prune(&cx.builders(), since).map_err(|error| Failure::error(Exit::Failed, error))?;
    say(cx, &[("images", of_images), ("unpacked layers", unpacked), ("what builders made", made)])
}

/// Returns the names of the images that the project's boxes are, and of those that they start from.
fn declared(cx: &Context) -> Result<BTreeSet<String>, Failure> {
    let workspace = cx.workspace()?;
    let mut names = BTreeSet::new();
    for name in workspace.boxes().keys() {
        for layer in workspace.chain(name)?.boxes {
            names.insert(make::reference(&layer));
            match layer.base {
                Base::Bootstrap(release) => names.insert(format!("bootstrap:{release}")),
                Base::Image(name) => names.insert(name),
                Base::Box(_) | Base::Scratch => false,
            };
        }
    }
    Ok(names)
}

/// Returns the names of the images that stay.
fn kept<'a>(
    store: &Store,
    images: &'a [(String, Image)],
    declared: &BTreeSet<String>,
    since: SystemTime,
) -> BTreeSet<&'a String> {
    let is_young = |image: &Image| store.last_used(image).is_none_or(|used| used >= since);
    let (own, others): (Vec<_>, Vec<_>) =
        images.iter().partition(|(name, image)| declared.contains(name) || is_young(image));
    // What one of them starts from is needed to build it again, whatever it is called.
    let is_base = |below: &Image| {
        let below = diff_ids(below);
        !below.is_empty() && own.iter().any(|(_, image)| diff_ids(image).starts_with(below))
    };
    let bases = others.into_iter().filter(|(_, image)| is_base(image));
    own.iter().copied().chain(bases).map(|(name, _)| name).collect()
}

fn diff_ids(image: &Image) -> &[String] {
    image.config.rootfs().diff_ids()
}

fn say(cx: &Context, spaces: &[(&str, Space)]) -> Outcome {
    if cx.printer.is_json() {
        for (what, space) in spaces {
            cx.printer.line(&Line::Item(json!({ "what": what, "before": space.before, "after": space.after })))?;
        }
        return done(cx);
    }
    let row = |what: &str, before: u64, after: u64| {
        vec![what.to_owned(), bytes(before), bytes(after), bytes(before.saturating_sub(after))]
    };
    let mut table = vec![["", "BEFORE", "AFTER", "FREED"].map(str::to_owned).to_vec()];
    table.extend(spaces.iter().map(|(what, space)| row(what, space.before, space.after)));
    let sum = |part: fn(&Space) -> u64| spaces.iter().map(|(_, space)| part(space)).sum();
    table.push(row("all", sum(|space| space.before), sum(|space| space.after)));
    cx.printer.say(columns(&table).trim_end());
    Ok(Exit::Done)
}
