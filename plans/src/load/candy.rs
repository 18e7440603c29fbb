//! One candy with what is around its file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::folder::Folder;
use super::project::ScopeId;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::schema::{self, Candy, Document};
use crate::source::{Place, Source, Span};

/// A candy, its document, and its folder.
#[derive(Debug, Clone)]
pub struct LoadedCandy {
    /// The candy.
    pub candy: Candy,
    /// The document it stands in.
    pub source: Arc<Source>,
    /// Where its files lie; nothing for a candy declared in place.
    pub folder: Option<Folder>,
    /// Where the candy comes from.
    pub origin: Origin,
    /// The build files in its folder, by which builders are found.
    pub(crate) build_files: Vec<&'static str>,
    /// The project whose names it uses.
    pub(crate) scope: ScopeId,
}

/// The files by which builders are found.
const BUILD_FILES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "environment.yml",
    "package-lock.json",
    "package.json",
    "pixi.lock",
    "pixi.toml",
    "pyproject.toml",
    "requirements.txt",
    "uv.lock",
];

/// Where a candy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The project at hand, or a path given.
    Project,
    /// A repository, at this commit.
    Repository {
        /// Its address.
        url: String,
        /// The commit.
        commit: String,
    },
    /// The program itself.
    Shipped,
}

impl LoadedCandy {
    /// Puts a candy in its surroundings.
    pub(crate) fn new(
        candy: Candy,
        source: Arc<Source>,
        folder: Option<Folder>,
        origin: Origin,
        scope: ScopeId,
    ) -> Self {
        let build_files = folder.as_ref().map_or_else(Vec::new, |folder| folder.present(BUILD_FILES));
        Self { candy, source, folder, origin, build_files, scope }
    }

    /// Takes a candy with nothing around it.
    pub(crate) fn alone(candy: Candy, source: Arc<Source>) -> Self {
        Self::new(candy, source, None, Origin::Project, ScopeId(0))
    }

    /// Returns the candy's name.
    pub fn name(&self) -> &str {
        self.candy.name.as_str()
    }

    /// Returns the place of a span of the candy's document.
    pub fn place(&self, span: Span) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }
}

/// Reads the candy in a folder. The findings say what is wrong with it.
pub(crate) fn load_candy(
    folder: Folder,
    shown: &str,
    origin: Origin,
    scope: ScopeId,
) -> (Option<LoadedCandy>, Diagnostics) {
    let source = match read_source(&folder, shown) {
        Ok(source) => source,
        Err(finding) => return (None, (*finding).into()),
    };
    let (document, mut found) = schema::parse(&source);
    match document {
        Some(Document::Candy(candy)) => (Some(LoadedCandy::new(*candy, source, Some(folder), origin, scope)), found),
        Some(Document::Project(_)) => {
            let place = Place { source, span: Span::default() };
            let finding = Diagnostic::error("this is a project, not a candy").at(place);
            found.push(finding.hint("name a candy's folder, or `import` the project"));
            (None, found)
        }
        None => (None, found),
    }
}

/// Reads the `charly.yml` of a folder.
pub(crate) fn read_source(folder: &Folder, shown: &str) -> Result<Arc<Source>, Box<Diagnostic>> {
    let bytes = folder.read("charly.yml").map_err(|error| Box::new(unreadable(shown, &error)))?;
    Source::from_bytes(shown, bytes)
}

/// Says that a document cannot be read.
pub(crate) fn unreadable(shown: &str, error: &io::Error) -> Diagnostic {
    if error.kind() == io::ErrorKind::NotFound {
        let hint = "name a folder that holds a `charly.yml`; `charly candy new NAME` makes one";
        return Diagnostic::error(format!("there is no `{shown}`")).hint(hint);
    }
    Diagnostic::error(format!("cannot read `{shown}`: {error}"))
}

/// Returns a path as people in a folder write it.
pub(crate) fn shown_from(path: &Path, folder: &Path) -> String {
    match path.strip_prefix(folder) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
