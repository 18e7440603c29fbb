//! `candy validate`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use charly_plans::diagnostic::{Diagnostic, Severity};
use charly_plans::schema;
use charly_plans::source::Source;

use crate::context::{Context, FILE_NAME};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, counted};

/// Judge documents by themselves, without what they refer to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Documents, or folders that hold a `charly.yml`
    #[arg(value_name = "PATH", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let mut found = Vec::new();
    for path in &args.paths {
        found.extend(judge(&cx.working, path)?);
    }
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(found.into());
    }
    cx.printer.findings(&found)?;
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    } else {
        cx.printer.say(format_args!("fine: {}", counted(args.paths.len(), "document")));
    }
    Ok(Exit::Done)
}

fn judge(working: &Path, path: &Path) -> Result<Vec<Diagnostic>, Failure> {
    let mut file = working.join(path);
    let mut shown = path.to_path_buf();
    if file.is_dir() {
        file.push(FILE_NAME);
        shown = if path == Path::new(".") { PathBuf::from(FILE_NAME) } else { shown.join(FILE_NAME) };
    }
    let shown = shown.display().to_string();
    let bytes = std::fs::read(&file).with_context(|| format!("`{shown}` cannot be read"));
    let bytes = bytes.map_err(|error| Failure::error(Exit::Invalid, error))?;
    let source: Arc<Source> = match Source::from_bytes(shown, bytes) {
        Ok(source) => source,
        Err(finding) => return Ok(vec![*finding]),
    };
    Ok(schema::parse(&source).1.into_iter().collect())
}
