//! `box diff`

use charly_target_oci::store::{Aspect, Change, Difference};
use serde_json::json;

use super::{anywhere, done, store};
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, clean};

/// Show by path where two images differ
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The first box, an image's name, or where an image is: `HOST/NAME:TAG`, `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`
    one: String,
    /// The second
    other: String,
    /// Do not count when something was last changed
    #[arg(long)]
    ignore_times: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let store = store(cx)?;
    let ((_, one), (_, other)) = (anywhere(cx, &store, &args.one)?, anywhere(cx, &store, &args.other)?);
    for Difference { path, change } in store.diff(&one, &other)? {
        let (sign, aspects) = match change {
            Change::Added => ('+', Vec::new()),
            Change::Removed => ('-', Vec::new()),
            Change::Changed(aspects) => ('~', aspects),
        };
        let aspects: Vec<_> =
            aspects.into_iter().filter(|aspect| !args.ignore_times || *aspect != Aspect::Time).map(word).collect();
        if sign == '~' && aspects.is_empty() {
            continue;
        }
        let path = format!("/{path}");
        if cx.printer.is_json() {
            let change = match sign {
                '+' => "added",
                '-' => "removed",
                _ => "changed",
            };
            cx.printer.line(&Line::Item(json!({ "path": path, "change": change, "aspects": aspects })))?;
        } else {
            let aspects = if aspects.is_empty() { String::new() } else { format!("  ({})", aspects.join(", ")) };
            cx.printer.data(format_args!("{sign} {}{aspects}\n", clean(&path)))?;
        }
    }
    if cx.printer.is_json() { done(cx) } else { Ok(Exit::Done) }
}

fn word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Kind => "kind",
        Aspect::Content => "content",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Time => "time",
        Aspect::Attributes => "attributes",
    }
}
