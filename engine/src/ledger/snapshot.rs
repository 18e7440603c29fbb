//! A ledger's state as files that can be read without charly: one a deploy, one a candy, one for the folder itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::error::LedgerError;
use super::folder::{Temporary, judge_owner};
use super::name::{DeployId, Resource, escape};
use super::record::{DeployRecord, Entry, StepKey, StepRecord};

/// The format number of the ledgers this engine writes.
pub const FORMAT: u32 = 1;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// The state they hold.
    pub(super) book: Book,
    /// The files, with the digests of what they hold.
    pub(super) files: BTreeMap<PathBuf, Digest>,
    /// How many folders were made for the ledger.
    pub(super) made: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    charly: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeployFile {
    format: u32,
    charly: String,
    deploy: DeployId,
    #[serde(flatten)]
    record: DeployRecord,
}

#[derive(Debug, Serialize, Deserialize)]
struct LayerFile {
    format: u32,
    charly: String,
    candy: String,
    steps: BTreeMap<DeployId, BTreeMap<String, StepRecord>>,
    resources: BTreeMap<Resource, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FolderFile {
    format: u32,
    charly: String,
    /// How many folders were made for the ledger, its own and those above it, and go with it.
    made: usize,
}

/// A file that says which format it has.
trait Formatted {
    fn format(&self) -> u32;
}

macro_rules! formatted {
    ($($file:ty),*) => {$(
        impl Formatted for $file {
            fn format(&self) -> u32 {
                self.format
            }
        }
    )*};
}

formatted!(DeployFile, LayerFile, FolderFile);

/// Reads the snapshots, those of layers only where they are asked for. A folder that is not there is an empty ledger.
pub(super) fn load(folder: &Path, layers: bool) -> Result<Snapshots, LedgerError> {
    let mut loaded = Snapshots::default();
    let there = folder.try_exists();
    if !there.map_err(|source| LedgerError::Io { doing: "look at", path: folder.to_owned(), source })? {
        return Ok(loaded);
    }
    judge_owner(folder)?;
    if let Some(file) = read::<FolderFile>(&folder.join("folder.json"), &mut loaded.files)? {
        loaded.made = file.made;
    }
    for path in list(&folder.join("deploys"))? {
        if let Some(file) = read::<DeployFile>(&path, &mut loaded.files)? {
            loaded.book.deploys.insert(file.deploy, file.record);
        }
    }
    let layers = if layers { list(&folder.join("layers"))? } else { Vec::new() };
    for path in layers {
        let Some(file) = read::<LayerFile>(&path, &mut loaded.files)? else { continue };
        for (deploy, steps) in file.steps {
            for (step, record) in steps {
                let key = StepKey { deploy: deploy.clone(), candy: file.candy.clone(), step };
                loaded.book.steps.insert(key, record);
            }
        }
        // A crash between two snapshot files may leave a thing in two of them; the journal that is still there decides.
        loaded.book.entries.extend(file.resources);
    }
    Ok(loaded)
}

/// Renders the snapshots: one file a deploy, one a candy, one for the folder itself.
pub(super) fn render(folder: &Path, book: &Book, made: usize) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let charly = env!("CARGO_PKG_VERSION").to_owned();
    let mut files = BTreeMap::new();
    files.insert(folder.join("folder.json"), folder_file(made)?);
    for (id, record) in &book.deploys {
        let path = folder.join("deploys").join(format!("{}.json", id.file_name()));
        let (deploy, record) = (id.clone(), record.clone());
        files.insert(path, json(&DeployFile { format: FORMAT, charly: charly.clone(), deploy, record })?);
    }
    let mut layers: BTreeMap<&str, LayerFile> = BTreeMap::new();
    let fresh = |candy: &str| LayerFile {
        format: FORMAT,
        charly: charly.clone(),
        candy: candy.to_owned(),
        steps: BTreeMap::new(),
        resources: BTreeMap::new(),
    };
    for (key, record) in &book.steps {
        let layer = layers.entry(&key.candy).or_insert_with(|| fresh(&key.candy));
        layer.steps.entry(key.deploy.clone()).or_default().insert(key.step.clone(), record.clone());
    }
    for (resource, entry) in &book.entries {
        // A thing several candies claim is written down with the one that came first.
        let candy = match (entry.all_claims().next(), resource) {
            (Some(claim), _) => &claim.candy,
            // What a step left that is gone.
            (None, Resource::Packages(name)) => &name.candy,
            (None, _) => "",
        };
        layers.entry(candy).or_insert_with(|| fresh(candy)).resources.insert(resource.clone(), entry.clone());
    }
    for (candy, layer) in layers {
        files.insert(folder.join("layers").join(format!("{}.json", escape(candy))), json(&layer)?);
    }
    Ok(files)
}

fn folder_file(made: usize) -> io::Result<Vec<u8>> {
    json(&FolderFile { format: FORMAT, charly: env!("CARGO_PKG_VERSION").to_owned(), made })
}

/// Writes down how many folders were made for a ledger that holds nothing yet.
pub(super) fn write_folder_file(folder: &Path, made: usize) -> io::Result<()> {
    let mut temporary = Temporary::new(folder)?;
    temporary.file.write_all(&folder_file(made)?)?;
    temporary.readable()?;
    temporary.put(&folder.join("folder.json"))
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

fn read<T: for<'a> Deserialize<'a> + Formatted>(
    path: &Path,
    files: &mut BTreeMap<PathBuf, Digest>,
) -> Result<Option<T>, LedgerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LedgerError::Io { doing: "read", path: path.to_owned(), source }),
    };
    judge_owner(path)?;
    let garbage = |source: serde_json::Error| {
        let (line, column) = (source.line(), source.column());
        LedgerError::Garbage { path: path.to_owned(), line, column, source }
    };
    let value = serde_json::from_slice::<T>(&bytes);
    // What a newer format means is not for this engine to judge, be it readable or not.
    if value.as_ref().map_or(true, |value| value.format() > FORMAT)
        && let Ok(Head { format, charly }) = serde_json::from_slice(&bytes)
        && format > FORMAT
    {
        return Err(LedgerError::Newer { path: path.to_owned(), charly, format });
    }
    let value = value.map_err(garbage)?;
    files.insert(path.to_owned(), Digest::of(&bytes));
    Ok(Some(value))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, LedgerError> {
    let error = |source| LedgerError::Io { doing: "list", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    judge_owner(folder)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
