//! What a box starts from, brought into the store.

use charly_plans::image::Base;
use charly_plans::load::Workspace;
use charly_target_core::distribution::{release, releases};
use charly_target_oci::build::{self, Settings};
use charly_target_oci::source::Place;
use charly_target_oci::store::{Image, Store};

use super::{hand_on, make};
use crate::context::Context;
use crate::exit::Failure;

/// Returns the image that a box starts from; nothing where it starts from nothing. Another box is there already.
pub(super) fn image(
    cx: &Context,
    store: &Store,
    workspace: &Workspace,
    base: &Base,
    settings: &Settings,
) -> Result<Option<Image>, Failure> {
    match base {
        Base::Scratch => Ok(None),
        Base::Box(name) => {
            let name = workspace.chain(name)?.boxes.last().map(make::reference).unwrap_or_default();
            Ok(store.image(&name)?)
        }
        Base::Bootstrap(name) => bootstrapped(cx, store, name, settings).map(Some),
        Base::Image(name) => fetched(cx, store, name).map(Some),
    }
}

fn bootstrapped(cx: &Context, store: &Store, name: &str, settings: &Settings) -> Result<Image, Failure> {
    let Some(release) = release(name) else {
        let known: Vec<_> = releases().map(|release| format!("`bootstrap:{release}`")).collect();
        return Err(Failure::invalid(format!("`{name}` cannot be made from packages"))
            .hint(format!("write one of {}", known.join(", "))));
    };
    let reference = format!("bootstrap:{name}");
    if !cx.refresh
        && let Some(image) = store.image(&reference)?
    {
        return Ok(image);
    }
    cx.printer.say(format_args!("making `{reference}` from packages, which takes half a minute once"));
    Ok(build::bootstrap(store, &reference, release, make::to_oci(std::env::consts::ARCH), settings)?)
}

/// Returns an image from elsewhere. One with a name in a registry is fetched once; what lies on disk is looked at each time,
/// and costs nothing where it is what it was.
fn fetched(cx: &Context, store: &Store, name: &str) -> Result<Image, Failure> {
    let place = hand_on::below(Place::parse(name)?, &cx.project);
    let is_remote = matches!(place, Place::Registry(_));
    if is_remote
        && !cx.refresh
        && let Some(image) = store.image(name)?
    {
        return Ok(image);
    }
    if is_remote {
        cx.printer.say(format_args!("fetching `{name}`; `--refresh` looks for a newer one"));
    }
    hand_on::fetch(cx, store, place, name)
}
