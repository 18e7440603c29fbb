//! What a box starts from, brought into the store.

use charly_plans::image::Base;
use charly_plans::load::Workspace;
use charly_target_core::distribution::{release, releases};
use charly_target_oci::build::{self, Settings};
use charly_target_oci::store::{Image, Store};

use super::make;
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
        Base::Image(name) => Ok(store.image(name)?),
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
