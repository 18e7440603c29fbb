//! The boxes that builders run in.

use charly_plans::image::builder_box;
use charly_target_core::artifact::Wanted;
use charly_target_core::distribution::release;
use charly_target_oci::builder::Room;

use super::make::{self, How};
use super::store;
use crate::context::Context;
use crate::exit::Failure;

/// Finds the box that a builder runs in: the one that is named, or its own of the venue's release, built where it is not there.
pub(crate) fn room(cx: &Context, wanted: &Wanted<'_>) -> Result<Room, Failure> {
    let store = store(cx)?;
    let mut workspace = cx.workspace()?;
    let kind = wanted.builder.kind;
    // Nobody but this machine ever reads its own builders' boxes.
    let how = How::uncompressed();
    if let Some(name) = &wanted.builder.image {
        if workspace.boxes().contains_key(name) {
            let boxes = workspace.chain(name)?.boxes;
            let built = make::layers(cx, &store, &mut workspace, &boxes, &How::default())?;
            return Ok(Room::of(&store, &built.image)?);
        }
        return match store.image(name)? {
            Some(image) => Ok(Room::of(&store, &image)?),
            None => Err(Failure::invalid(format!("no box and no image is named `{name}`"))
                .hint("`charly box list` shows those there are")),
        };
    }
    let own = if release(wanted.os).is_some() { builder_box(kind, wanted.os)? } else { None };
    let Some(layer) = own else {
        return Err(Failure::invalid(format!("charly makes none for {kind} and {}", wanted.os))
            .hint("name an image of that release which has the builder's tools: `--builder-image NAME`"));
    };
    // It is made once; `--refresh` makes it anew.
    if !cx.refresh
        && let Some(image) = store.image(&make::reference(&layer))?
    {
        return Ok(Room::of(&store, &image)?);
    }
    let built = make::layers(cx, &store, &mut workspace, &[layer], &how)?;
    Ok(Room::of(&store, &built.image)?)
}
