//! The variables of a deploy.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use charly_ir::message::Problem;
use charly_plans::load::DeployEntry;

use crate::exit::{Exit, Failure};

/// Gathers what an entry sets: its file of variables, which starts from the project's folder, and over it its own.
pub(super) fn declared(entry: Option<&DeployEntry>, project: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let Some(entry) = entry else { return Ok(BTreeMap::new()) };
    let mut env = match &entry.deploy.env_file {
        Some(file) => {
            let path = project.join(&file.value);
            let text = std::fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()));
            let text = text.map_err(|error| Failure::error(Exit::Invalid, error))?;
            parse(&text).map_err(|line| {
                let what = format!("`{}`:{line} is no variable", path.display());
                Failure::new(Exit::Invalid, Problem::new(what).hint("write NAME=VALUE, one a line"))
            })?
        }
        None => BTreeMap::new(),
    };
    env.extend(entry.deploy.env.iter().map(|(name, value)| (name.to_string(), value.value.clone())));
    Ok(env)
}

/// Reads `NAME=VALUE` lines; empty ones and comments are passed over, one pair of quotes around a value comes off. The
/// error is the number of a line that is none of these.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let variable = |(number, line): (usize, &str)| {
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=').ok_or(number)?;
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Ok((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
    };
    lines.map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_shells_write_it() {
        let env = parse("# c\n\nA=1\nexport B=\"two words\"\n C='x=y'\nD=\n").unwrap();
        let want = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        assert_eq!(env, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(parse("A=1\njunk\n"), Err(2));
    }
}
