//! Candies in order with the files they refer to, of which nothing was read yet.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Fingerprint, Resolved, ResolvedCandy, Sources};
use crate::load::{Blob, Digests, Folder, FoundFile, LoadedCandy, Origin, digested, find_build_sources, find_sources};
use crate::schema::{Run, StepKind};

/// Candies in their one order, with the files they refer to.
#[derive(Debug, Default)]
pub struct Found {
    pub(super) candies: Vec<FoundCandy>,
    pub(super) roots: Vec<String>,
}

/// A candy with the files it refers to.
#[derive(Debug)]
pub(crate) struct FoundCandy {
    pub(super) loaded: Arc<LoadedCandy>,
    requires: Vec<String>,
    composed_of: Vec<String>,
    sources: BTreeMap<String, Files>,
    build_files: Files,
}

/// What lies at a path: files, or why there is nothing.
type Files = Result<Vec<FoundFile>, String>;

impl Found {
    /// Adds a candy that refers to nothing.
    pub(crate) fn push(&mut self, candy: LoadedCandy) {
        let (sources, build_files) = (BTreeMap::new(), Ok(Vec::new()));
        let (loaded, requires, composed_of) = (Arc::new(candy), Vec::new(), Vec::new());
        self.candies.push(FoundCandy { loaded, requires, composed_of, sources, build_files });
    }

    /// Tells all that these candies are: who has the same one again has candies from which the same is compiled.
    pub fn tell(&self, fingerprint: &mut Fingerprint) {
        for root in &self.roots {
            fingerprint.text(root);
        }
        fingerprint.number(self.candies.len() as u64);
        for candy in &self.candies {
            candy.tell(fingerprint);
        }
    }

    /// Digests the files.
    pub(super) fn digested(self, known: Option<&dyn Digests>) -> Resolved {
        let digested = |files: Files| read(files, known);
        let candies = self.candies.into_iter().map(|candy| {
            let FoundCandy { loaded, requires, composed_of, sources, build_files } = candy;
            let sources = sources.into_iter().map(|(path, files)| (path, digested(files))).collect();
            let build_files =
                digested(build_files).map(|files| files.into_iter().map(|file| (file.below.clone(), file)).collect());
            ResolvedCandy { loaded, requires, composed_of, sources, build_files }
        });
        Resolved { candies: candies.collect(), roots: self.roots }
    }
}

impl FoundCandy {
    /// Finds the files of a candy.
    pub(super) fn new(loaded: Arc<LoadedCandy>, requires: Vec<String>, composed_of: Vec<String>) -> Self {
        let (sources, build_files) = (copied(&loaded), build_files(&loaded));
        Self { loaded, requires, composed_of, sources, build_files }
    }

    /// Returns the names of all candies that stand before this one for its sake.
    pub(super) fn needs(&self) -> impl Iterator<Item = &str> {
        self.requires.iter().chain(&self.composed_of).map(String::as_str)
    }

    fn tell(&self, fingerprint: &mut Fingerprint) {
        let Self { loaded, requires, composed_of, sources, build_files } = self;
        let LoadedCandy { candy: _, source, folder, origin, build_files: names, scope: _ } = &**loaded;
        // The document says what the candy is, and it is one of those in it.
        fingerprint.text(loaded.name());
        fingerprint.text(source.text());
        match folder {
            Some(Folder::Disk(path)) => {
                fingerprint.number(1);
                fingerprint.bytes(path.as_os_str().as_encoded_bytes());
            }
            Some(Folder::Shipped(name)) => {
                fingerprint.number(2);
                fingerprint.text(name);
            }
            None => fingerprint.number(3),
        }
        match origin {
            Origin::Project => fingerprint.number(1),
            Origin::Shipped => fingerprint.number(2),
            Origin::Repository { url, commit } => {
                fingerprint.number(3);
                fingerprint.text(url);
                fingerprint.text(commit);
            }
        }
        for names in [requires, composed_of] {
            fingerprint.number(names.len() as u64);
            for name in names {
                fingerprint.text(name);
            }
        }
        fingerprint.number(names.len() as u64);
        for name in names {
            fingerprint.text(name);
        }
        fingerprint.number(sources.len() as u64);
        for (path, files) in sources {
            fingerprint.text(path);
            tell(files, fingerprint);
        }
        tell(build_files, fingerprint);
    }
}

fn tell(files: &Files, fingerprint: &mut Fingerprint) {
    let Ok(files) = files else { return fingerprint.lacks() };
    fingerprint.number(files.len() as u64);
    for FoundFile { below, blob } in files {
        fingerprint.text(below);
        match blob {
            Blob::File(_, stamp) => {
                fingerprint.number(1);
                fingerprint.stamp(stamp);
            }
            Blob::Bytes(bytes) => {
                fingerprint.number(2);
                fingerprint.bytes(bytes);
            }
        }
    }
}

/// Finds and digests the files that a candy's `copy` steps name.
pub(crate) fn sources(loaded: &LoadedCandy, known: Option<&dyn Digests>) -> BTreeMap<String, Sources> {
    copied(loaded).into_iter().map(|(path, files)| (path, read(files, known))).collect()
}

fn read(files: Files, known: Option<&dyn Digests>) -> Sources {
    digested(files?, known).map_err(|error| error.to_string())
}

fn copied(loaded: &LoadedCandy) -> BTreeMap<String, Files> {
    let copies = loaded.candy.plan.iter().filter_map(|step| match &step.kind {
        StepKind::Run(run) => match &**run {
            Run::Copy(copy) => Some(copy.copy.as_str()),
            _ => None,
        },
        _ => None,
    });
    let find = |path: &str| -> Files {
        let Some(folder) = &loaded.folder else {
            return Err("a candy declared in place has no folder to copy from".to_owned());
        };
        find_sources(folder, path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it is not in the candy's folder".to_owned(),
            _ => error.to_string(),
        })
    };
    copies.map(|path| (path.to_owned(), find(path))).collect()
}

fn build_files(loaded: &LoadedCandy) -> Files {
    match &loaded.folder {
        Some(folder) if !loaded.build_files.is_empty() => find_build_sources(folder).map_err(|error| error.to_string()),
        _ => Ok(Vec::new()),
    }
}
