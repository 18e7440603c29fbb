//! A project: its file and the candies found in its folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::candy::{LoadedCandy, Origin, load_candy, read_source, shown_from, unreadable};
use super::folder::Folder;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::schema::{self, Document, Project, Reference, Spanned};
use crate::source::{Place, Source};
use crate::spread::spread;

/// Which project's names are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ScopeId(pub(crate) usize);

/// The names that hold in one project.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The project's folder.
    pub(crate) root: PathBuf,
    /// Its candies by name.
    pub(crate) candies: BTreeMap<String, Arc<LoadedCandy>>,
    /// What it imports: the alias, and the imported project once it is loaded.
    pub(crate) imports: Vec<(Option<String>, ScopeId)>,
    /// Its file, where it has one.
    pub(crate) project: Option<(Arc<Source>, Project)>,
}

/// What a project imports, yet to be loaded.
pub(crate) struct Wanted {
    pub(crate) alias: Option<String>,
    pub(crate) reference: Reference,
    pub(crate) place: Place,
}

/// Candies are searched this many folders deep.
const MAX_DEPTH: usize = 16;

/// From this many candies on, reading them is worth a second thread.
const WORTH_A_THREAD: usize = 32;

/// Loads the project in a folder; one without a file has whatever candies lie in its `candy` folder.
pub(crate) fn load_project(
    root: &Path,
    shown_in: &Path,
    origin: &Origin,
    id: ScopeId,
    found: &mut Diagnostics,
) -> (Scope, Vec<Wanted>) {
    let mut scope = Scope { root: root.to_owned(), ..Scope::default() };
    let file = root.join("charly.yml");
    if file.exists() {
        match read_source(&Folder::Disk(root.to_owned()), &shown_from(&file, shown_in)) {
            Ok(source) => {
                let (document, findings) = schema::parse(&source);
                found.extend(findings);
                match document {
                    Some(Document::Project(project)) => scope.project = Some((source, *project)),
                    Some(Document::Candy(candy)) => {
                        let folder = Some(Folder::Disk(root.to_owned()));
                        let candy = LoadedCandy::new(*candy, source, folder, origin.clone(), id);
                        scope.candies.insert(candy.name().to_owned(), Arc::new(candy));
                    }
                    None => {}
                }
            }
            Err(finding) => found.push(*finding),
        }
    }
    let mut wanted = Vec::new();
    let mut folders = Vec::new();
    let discover = scope.project.as_ref().and_then(|(source, project)| Some((source, project.discover.as_ref()?)));
    if let Some((source, discover)) = discover {
        for entry in discover {
            let place = Place { source: Arc::clone(source), span: entry.path.span };
            let depth = if entry.recursive { MAX_DEPTH } else { 1 };
            if let Err(error) = discover_in(&root.join(entry.path.as_str()), depth, &mut folders) {
                let shown = entry.path.as_str();
                found.push(unreadable(shown, &error).at(place));
            }
        }
    } else if let Err(error) = discover_in(&root.join("candy"), MAX_DEPTH, &mut folders)
        && error.kind() != io::ErrorKind::NotFound
    {
        found.push(unreadable(&shown_from(&root.join("candy"), shown_in), &error));
    }
    folders.sort();
    folders.dedup();
    for (candy, findings) in load_all(&folders, shown_in, origin, id) {
        found.extend(findings);
        let Some(candy) = candy else { continue };
        add(&mut scope, candy, found);
    }
    if let Some((source, project)) = scope.project.take() {
        for (name, candy) in project.candy.iter() {
            let candy = LoadedCandy::new(candy.value.clone(), Arc::clone(&source), None, origin.clone(), id);
            if candy.name() == name.value {
                add(&mut scope, candy, found);
            }
        }
        for import in &project.import {
            let Spanned { value, span } = import.reference.clone();
            wanted.push(Wanted {
                alias: import.alias.as_ref().map(|alias| alias.value.clone()),
                reference: value,
                place: Place { source: Arc::clone(&source), span },
            });
        }
        scope.project = Some((source, project));
    }
    (scope, wanted)
}

fn add(scope: &mut Scope, candy: LoadedCandy, found: &mut Diagnostics) {
    if let Some(first) = scope.candies.get(candy.name()) {
        let place = candy.place(candy.candy.name.span);
        let finding = Diagnostic::error(format!("two candies are named `{}`", candy.name())).at(place);
        found.push(
            finding.related(first.place(first.candy.name.span), "first here").hint("give one of them another name"),
        );
        return;
    }
    scope.candies.insert(candy.name().to_owned(), Arc::new(candy));
}

/// Collects the folders that hold a `charly.yml`. Links are not followed, hidden folders are passed over.
fn discover_in(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            folders.push(entry.path());
        }
    }
    let is_candy = spread(&folders, folders.len() >= WORTH_A_THREAD, |folder| folder.join("charly.yml").is_file());
    for (folder, is_candy) in folders.into_iter().zip(is_candy) {
        if is_candy {
            found.push(folder);
        } else if depth > 1 {
            discover_in(&folder, depth - 1, found)?;
        }
    }
    Ok(())
}

/// Loads candies, in the order of their folders.
fn load_all(
    folders: &[PathBuf],
    shown_in: &Path,
    origin: &Origin,
    id: ScopeId,
) -> Vec<(Option<LoadedCandy>, Diagnostics)> {
    let load = |folder: &PathBuf| {
        let shown = shown_from(&folder.join("charly.yml"), shown_in);
        load_candy(Folder::Disk(folder.clone()), &shown, origin.clone(), id)
    };
    spread(folders, folders.len() >= WORTH_A_THREAD, load)
}
