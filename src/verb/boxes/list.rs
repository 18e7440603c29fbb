//! `box list`

use std::collections::BTreeMap;

use serde_json::json;

use super::{bytes_of, make, store};
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, bytes, columns};

/// List boxes and images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let workspace = cx.workspace()?;
    let mut images: BTreeMap<_, _> = store(cx)?.images()?.into_iter().collect();
    let mut rows = Vec::new();
    for (name, declared) in workspace.boxes() {
        let chain = workspace.chain(name).ok();
        let reference = chain.as_ref().and_then(|chain| chain.boxes.last()).map(make::reference);
        let image = reference.as_ref().and_then(|reference| images.remove(reference));
        let about = declared.value.description.clone().unwrap_or_default();
        rows.push((name.clone(), reference.unwrap_or_default(), image, about));
    }
    rows.extend(images.into_iter().map(|(reference, image)| (String::new(), reference, Some(image), String::new())));
    if cx.printer.is_json() {
        for (name, reference, image, about) in &rows {
            let item = json!({
                "box": name, "image": reference, "description": about,
                "id": image.as_ref().map(|image| format!("sha256:{}", image.id)),
                "size": image.as_ref().map(bytes_of),
            });
            cx.printer.line(&Line::Item(item))?;
        }
        cx.printer.line(&Line::result(Exit::Done, None))?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        cx.printer.say("there is no box; `charly box new NAME` begins one");
        return Ok(Exit::Done);
    }
    let mut table = vec![["BOX", "IMAGE", "ID", "SIZE", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for (name, reference, image, about) in rows {
        let (id, size) = match &image {
            Some(image) => (image.id.short(), bytes(bytes_of(image))),
            None => ("not built".to_owned(), String::new()),
        };
        let name = if name.is_empty() { "-".to_owned() } else { name };
        table.push(vec![name, reference, id, size, about.lines().next().unwrap_or_default().to_owned()]);
    }
    cx.printer.data(columns(&table))?;
    Ok(Exit::Done)
}
