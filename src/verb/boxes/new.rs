//! `box new`

use std::fs;

use anyhow::Context as _;
use charly_plans::resolve::LayerRef;
use charly_plans::schema::{self, Document, Reference};
use charly_plans::source::Source;
use serde_json::json;

use crate::context::{Context, FILE_NAME};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Line;

/// Begin a box: a declaration in the project's file, whose comments stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The box's name
    name: String,
    /// What it starts from
    #[arg(long, value_name = "IMAGE", default_value = "bootstrap:debian-13")]
    base: String,
    /// A candy in it
    #[arg(long = "candy", value_name = "CANDY")]
    candies: Vec<String>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    if !matches!(LayerRef::parse(&args.name)?.reference, Reference::Name(_)) || args.name.contains('.') {
        return Err(
            Failure::invalid(format!("`{}` is no name for a box", args.name)).hint("write a name such as `web`")
        );
    }
    let file = cx.project.join(FILE_NAME);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "version: 2026.001.0000\n".to_owned(),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display()));
            return Err(Failure::error(Exit::Invalid, error));
        }
    };
    let workspace = cx.workspace()?;
    if workspace.boxes().contains_key(&args.name) {
        return Err(Failure::invalid(format!("there is a box `{}` already", args.name)));
    }
    let text = with_box(&text, &args.name, &args.base, &args.candies);
    let (document, found) = schema::parse(&Source::new(FILE_NAME, text.clone()));
    if found.has_errors() {
        return Err(found.into());
    }
    if !matches!(document, Some(Document::Project(project)) if project.box_.iter().any(|(name, _)| name.value == args.name))
    {
        return Err(Failure::invalid(format!("`{}` does not let a box be added to it", file.display()))
            .hint("its boxes are not written as one key a line; add the box by hand"));
    }
    write(&file, &text).map_err(|error| Failure::error(Exit::Invalid, error))?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::Item(json!({ "box": args.name, "document": file })))?;
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.say(format_args!("`{}` stands in {}", args.name, file.display()));
        cx.printer.say(format_args!("build it with `charly box build {}`", args.name));
    }
    Ok(Exit::Done)
}

fn write(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().unwrap_or(file);
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut temporary, text.as_bytes())?;
    if let Ok(known) = fs::metadata(file) {
        temporary.as_file().set_permissions(known.permissions())?;
    } else {
        use std::os::unix::fs::PermissionsExt as _;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    temporary.persist(file).with_context(|| format!("`{}` cannot be written", file.display()))?;
    Ok(())
}

/// Returns a project's text with one more box, first of those there are.
fn with_box(text: &str, name: &str, base: &str, candies: &[String]) -> String {
    let quoted = |word: &str| serde_json::to_string(word).unwrap_or_default();
    let candies: Vec<_> = candies.iter().map(|candy| quoted(candy)).collect();
    let entry = format!("  {name}:\n    base: {}\n    candy: [{}]\n", quoted(base), candies.join(", "));
    let mut out = String::with_capacity(text.len() + entry.len() + 8);
    let mut is_in = false;
    for line in text.split_inclusive('\n') {
        out.push_str(line);
        if !is_in && line.trim_end() == "box:" {
            if !line.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(&entry);
            is_in = true;
        }
    }
    if !is_in {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str("box:\n");
        out.push_str(&entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_added_and_comments_stay() {
        let entry = "  web:\n    base: \"debian:13\"\n    candy: [\"hello\"]\n";
        for (text, want) in [
            ("version: 2026.001.0000\n", format!("version: 2026.001.0000\nbox:\n{entry}")),
            ("# c\nbox: # all\n  a: {base: b}", format!("# c\nbox: # all\n  a: {{base: b}}\nbox:\n{entry}")),
            (
                "box:\n  # mine\n  a: {base: b}\nvm: {}\n",
                format!("box:\n{entry}  # mine\n  a: {{base: b}}\nvm: {{}}\n"),
            ),
            ("box:", format!("box:\n{entry}")),
        ] {
            assert_eq!(with_box(text, "web", "debian:13", &["hello".to_owned()]), want);
        }
    }
}
