//! Which of a plan's words may stand on a manager's command line.

use charly_ir::plan::Packages;

use super::error::{Fault, PackageError};

/// Returns a request's options. Those that begin with one of `defeats` are refused: they would let the manager do what was
/// promised not to happen, or make it wait for an answer.
pub(super) fn options<'a>(request: &'a Packages, defeats: &[&str]) -> Result<Vec<&'a str>, PackageError> {
    let is_fine = |option: &&str| option.starts_with('-') && !defeats.iter().any(|defeat| option.starts_with(*defeat));
    let options = request.options.iter().map(String::as_str);
    options
        .map(
            |option| {
                if is_fine(&option) { Ok(option) } else { Err(PackageError::new(Fault::BadOption(option.to_owned()))) }
            },
        )
        .collect()
}

/// Refuses what a manager would take for something else than packages.
pub(super) fn names<'a>(
    names: impl IntoIterator<Item = &'a str>,
    is_name: impl Fn(&str) -> bool,
) -> Result<(), PackageError> {
    match names.into_iter().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(PackageError::new(Fault::BadName(name.to_owned()))),
    }
}

/// Returns all that a request names: packages to be installed and left out, and files.
pub(super) fn all<'a>(request: &'a Packages, install: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let files = request.files.iter().map(String::as_str);
    request.exclude.iter().map(String::as_str).chain(install.to_vec()).chain(files)
}

/// Returns words as a command line takes them.
pub(super) fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
