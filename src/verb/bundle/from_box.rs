//! `bundle from-box`

use charly_plans::image::{Described, NotDescribed, described};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::Reference;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, clean};
use crate::verb::boxes;

/// Print the deploy that an image's labels describe
///
/// It is what a project's `charly.yml` says of a pod of this image: ports, volumes, variables, secrets and rights. Nothing but
/// the image is asked, so it works without the project that the image was built from.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A box, an image's name, or where an image is: `HOST/NAME:TAG`, `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`
    reference: String,
    /// What the deploy is to be called; as its box is, where nothing is said
    name: Option<String>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let (image, labels) = boxes::labels_of(cx, &args.reference)?;
    let described = described(&image, &labels).map_err(|error| failure(error, &args.reference))?;
    let name = args.name.as_deref().or(described.name.as_deref()).unwrap_or("box");
    if !matches!(LayerRef::parse(name)?.reference, Reference::Name(_)) || name.contains('.') {
        return Err(Failure::invalid(format!("`{}` is no name for a deploy", clean(name)))
            .hint("say another after the image, such as `web`"));
    }
    let Described { deploy, candies, asked, .. } = &described;
    if cx.printer.is_json() {
        let asked: Vec<_> = asked.iter().map(|(name, why)| json!({ "name": name, "description": why })).collect();
        let item = json!({ "name": name, "image": image, "deploy": deploy, "candies": candies, "asked": asked });
        cx.printer.line(&Line::Item(item))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
        return Ok(Exit::Done);
    }
    let held: Vec<_> = candies.iter().map(|candy| format!("{} {}", candy.name, candy.version)).collect();
    if !held.is_empty() {
        cx.printer.data(format_args!("# It holds {}.\n", clean(&held.join(", "))))?;
    }
    cx.printer.data(described.document(name))?;
    for (name, why) in asked {
        let why = why.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
        cx.printer.say(format_args!("note: `{}` must be given{why}", clean(name)));
    }
    Ok(Exit::Done)
}

fn failure(error: NotDescribed, image: &str) -> Failure {
    let hint = match &error {
        NotDescribed::Newer(_) => "use a charly as new as the one that built it",
        NotDescribed::Label(_) => "only images that charly built say how they are deployed",
        NotDescribed::Deploy(_) => "the image was not built by charly, or was changed since",
    };
    Failure::error(
        Exit::Invalid,
        anyhow::Error::new(error).context(format!("`{image}` does not say how it is deployed")),
    )
    .hint(hint)
}
