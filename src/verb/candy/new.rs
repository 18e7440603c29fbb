//! `candy new`

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use charly_plans::resolve::LayerRef;
use charly_plans::schema::Reference;
use serde_json::json;

use crate::context::{Context, FILE_NAME};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, calver};

/// Begin a candy: a folder with a document to fill in
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The candy's name, and its folder's
    name: String,
    /// The folder to make it in
    #[arg(long = "in", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    folder: Option<PathBuf>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = match LayerRef::parse(&args.name)?.reference {
        Reference::Name(name) if !args.name.contains('.') => name,
        _ => {
            return Err(Failure::invalid(format!("`{}` is no name for a candy", args.name))
                .hint("write a name such as `my-tools`; `--in DIR` chooses the folder"));
        }
    };
    let folder = args.folder.as_ref().map_or_else(|| cx.working.clone(), |folder| cx.working.join(folder));
    let folder = folder.join(name.as_str());
    let file = folder.join(FILE_NAME);
    if folder.exists() {
        return Err(Failure::invalid(format!("`{}` is there already", folder.display()))
            .hint("take another name, or another folder with `--in`"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let made = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, document(name.as_str(), &calver(now))));
    let made = made.with_context(|| format!("`{}` cannot be written", file.display()));
    made.map_err(|error| Failure::error(Exit::Invalid, error))?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(json!({ "name": name.as_str(), "document": file })))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        let shown = folder.strip_prefix(&cx.working).unwrap_or(&folder).display();
        cx.printer.say(format_args!("wrote {shown}/{FILE_NAME}"));
        cx.printer.say(format_args!("see what it does with `charly bundle plan local ./{shown}`"));
    }
    Ok(Exit::Done)
}

fn document(name: &str, version: &str) -> String {
    format!(
        r#"candy:
  name: {name}
  version: {version}
  description: "What {name} is for"
  plan:
    - run: leave a note
      write: "~/.config/{name}/note"
      content: |
        {name} was here
    - check: the note is there
      file: "~/.config/{name}/note"
      contains: "{name} was here"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_plans::schema;
    use charly_plans::source::Source;

    #[test]
    fn a_new_candy_is_a_valid_one() {
        let (candy, found) = schema::parse_candy(&Source::new(FILE_NAME, document("my-tools", "2026.165.0930")));
        assert!(found.is_empty(), "{found}");
        assert_eq!(candy.map(|candy| candy.name.value.as_str().to_owned()).as_deref(), Some("my-tools"));
    }
}
