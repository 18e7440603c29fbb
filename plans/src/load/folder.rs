//! A candy's own folder, on disk or in the program.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use charly_ir::{Digest, Stamp};

use super::digests::{self, Digests};
use crate::spread::spread;

/// Every shipped file: its path below `candy/`, and its bytes.
static SHIPPED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Where a candy's files lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// On disk.
    Disk(PathBuf),
    /// In the program, under this name.
    Shipped(&'static str),
}

/// A file of a candy's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path relative to what was asked for; empty where that is the file itself.
    pub below: String,
    /// Its bytes' digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Where they are.
    pub blob: Blob,
}

/// Bytes that a plan refers to by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// Kept in memory.
    Bytes(Vec<u8>),
    /// On disk, where they are what the digest says as long as the file has this stamp.
    File(PathBuf, Stamp),
}

impl Folder {
    /// Returns those of the names that are files of the folder, which is read once however many names there are.
    pub(crate) fn present(&self, names: &[&'static str]) -> Vec<&'static str> {
        let mut present = Vec::new();
        match self {
            Self::Disk(folder) => {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    present.extend(names.iter().find(|known| name == ***known));
                }
                present.sort_unstable();
            }
            Self::Shipped(_) => present.extend(names.iter().filter(|name| self.read(name).is_ok())),
        }
        present
    }

    /// Reads a whole file.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Disk(folder) => fs::read(folder.join(path)),
            Self::Shipped(name) => SHIPPED
                .binary_search_by_key(&format!("{name}/{path}").as_str(), |(path, _)| path)
                .map(|at| SHIPPED[at].1.to_vec())
                .map_err(|_| io::ErrorKind::NotFound.into()),
        }
    }
}

/// Returns the names of the shipped candies, sorted.
pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().filter_map(|(path, _)| path.strip_suffix("/charly.yml")).filter(|name| !name.contains('/'))
}

/// Returns the file at a path of a folder, or all files below it where it is a folder itself, sorted by path.
///
/// What a link leads to must lie in the folder, too: a candy from elsewhere could name any file of the controller.
pub(crate) fn find_sources(folder: &Folder, path: &str) -> io::Result<Vec<FoundFile>> {
    match folder {
        Folder::Shipped(name) => {
            let whole = format!("{name}/{path}");
            let within = format!("{whole}/");
            let all = SHIPPED.iter().filter_map(|(file, bytes)| {
                let below = if *file == whole { "" } else { file.strip_prefix(&within)? };
                Some(from_bytes(below.to_owned(), bytes.to_vec()))
            });
            match all.collect::<Vec<_>>() {
                none if none.is_empty() => Err(io::ErrorKind::NotFound.into()),
                some => Ok(sorted(some)),
            }
        }
        Folder::Disk(root) => {
            let mut found = Found::default();
            found.take(reach(root, path)?, String::new())?;
            Ok(sorted(found.below(root)?))
        }
    }
}

fn sorted(mut found: Vec<FoundFile>) -> Vec<FoundFile> {
    found.sort_unstable_by(|one, other| one.below.cmp(&other.below));
    found
}

/// Digests what was found.
pub(crate) fn digested(found: Vec<FoundFile>, known: Option<&dyn Digests>) -> io::Result<Vec<SourceFile>> {
    let files: Vec<_> = found
        .iter()
        .filter_map(|file| match &file.blob {
            Blob::File(path, stamp) => Some((path.as_path(), *stamp)),
            Blob::Bytes(_) => None,
        })
        .collect();
    let mut digests = digests::of(&files, known)?.into_iter();
    let mut sources = Vec::with_capacity(found.len());
    for FoundFile { below, blob } in found {
        let (digest, size) = match &blob {
            Blob::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            // There are as many digests as files.
            Blob::File(_, stamp) => (digests.next().ok_or(io::ErrorKind::NotFound)?, stamp.size),
        };
        sources.push(SourceFile { below, digest, size, blob });
    }
    Ok(sources)
}

/// What a builder's tools leave in the folder of a project, and what is not theirs at all.
const NOT_BUILT_FROM: &[&str] = &[".git", ".pixi", ".venv", "charly.yml", "node_modules", "target"];

/// Returns all files of a folder that something is built from, sorted by path: all but the candy's own document, and what
/// earlier builds by hand have left.
pub(crate) fn find_build_sources(folder: &Folder) -> io::Result<Vec<FoundFile>> {
    match folder {
        Folder::Shipped(name) => {
            let within = format!("{name}/");
            let all = SHIPPED.iter().filter_map(|(file, bytes)| Some((file.strip_prefix(&within)?, bytes)));
            let inputs =
                all.filter(|(below, _)| !below.split('/').next().is_some_and(|top| NOT_BUILT_FROM.contains(&top)));
            Ok(sorted(inputs.map(|(below, bytes)| from_bytes(below.to_owned(), bytes.to_vec())).collect()))
        }
        Folder::Disk(root) => {
            let mut found = Found::default();
            for entry in fs::read_dir(root)? {
                let name = entry?.file_name();
                let Some(name) = name.to_str() else {
                    return Err(io::Error::other("a name in it is not UTF-8"));
                };
                if !NOT_BUILT_FROM.contains(&name) {
                    found.take(reach(root, name)?, name.to_owned())?;
                }
            }
            Ok(sorted(found.below(root)?))
        }
    }
}

/// Returns where a path of a folder is. Few are links, and a candy may have thousands of files: only links are resolved.
fn reach(root: &Path, path: &str) -> io::Result<PathBuf> {
    let mut place = root.to_owned();
    let is_plain = |part: Component<'_>| {
        place.push(part);
        matches!(part, Component::Normal(_)) && !place.is_symlink()
    };
    if Path::new(path).components().all(is_plain) { Ok(place) } else { resolve(root, &root.join(path)) }
}

/// Returns where a path really is, which must be in the folder.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = path.canonicalize()?;
    if real.starts_with(root.canonicalize()?) {
        Ok(real)
    } else {
        Err(io::Error::other("it leads out of the candy's folder"))
    }
}

/// A file that was found, and that nobody has read.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// Its path relative to what was asked for; empty where that is the file itself.
    pub(crate) below: String,
    /// Where its bytes are.
    pub(crate) blob: Blob,
}

/// Files that were found, and folders that are to be looked into.
#[derive(Default)]
struct Found {
    files: Vec<FoundFile>,
    folders: Vec<(PathBuf, String)>,
}

/// How deep folders are followed: links may lead in circles.
const DEEPEST: usize = 32;

/// From so many folders on, a second thread is worth its start.
const WORTH_A_THREAD: usize = 32;

impl Found {
    /// Takes what is at a path that is no link.
    fn take(&mut self, path: PathBuf, below: String) -> io::Result<()> {
        let kind = fs::symlink_metadata(&path)?;
        self.take_known(path, &kind, below)
    }

    fn take_known(&mut self, path: PathBuf, kind: &Metadata, below: String) -> io::Result<()> {
        if kind.is_dir() {
            self.folders.push((path, below));
        } else if kind.is_file() {
            self.files.push(FoundFile { below, blob: Blob::File(path, Stamp::of(kind)) });
        } else {
            return Err(io::Error::other("it is neither a file nor a folder"));
        }
        Ok(())
    }

    /// Looks into the folders, and into those in them, and returns all files.
    fn below(self, root: &Path) -> io::Result<Vec<FoundFile>> {
        let Self { mut files, mut folders } = self;
        for _ in 0..=DEEPEST {
            if folders.is_empty() {
                return Ok(files);
            }
            let inner = spread(&folders, folders.len() >= WORTH_A_THREAD, |(path, below)| look_into(root, path, below));
            folders.clear();
            for found in inner {
                let Self { files: more, folders: deeper } = found?;
                files.extend(more);
                folders.extend(deeper);
            }
        }
        Err(io::Error::other("its folders are nested too deep"))
    }
}

/// Looks into one folder.
fn look_into(root: &Path, folder: &Path, above: &str) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(io::Error::other("a name in it is not UTF-8"));
        };
        let below = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_symlink() {
            found.take(resolve(root, &path)?, below)?;
        } else if kind.is_dir() {
            // What is in it is asked for by the folder itself.
            found.folders.push((path, below));
        } else {
            // Looked up from the folder that is open already: of a thousand files this is most of the work.
            found.take_known(path, &entry.metadata()?, below)?;
        }
    }
    Ok(found)
}

fn from_bytes(below: String, bytes: Vec<u8>) -> FoundFile {
    FoundFile { below, blob: Blob::Bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let candy = folder.path().join("candy");
        fs::create_dir_all(candy.join("files/deep")).unwrap();
        fs::write(folder.path().join("outside"), "x").unwrap();
        fs::write(candy.join("files/b"), "b").unwrap();
        fs::write(candy.join("files/deep/a"), vec![0; 300 << 10]).unwrap();
        std::os::unix::fs::symlink("../outside", candy.join("link")).unwrap();
        std::os::unix::fs::symlink("files/b", candy.join("inner")).unwrap();
        std::os::unix::fs::symlink("..", candy.join("up")).unwrap();
        let disk = Folder::Disk(candy);
        for path in ["link", "up/outside", "../outside", "files/../../outside", "/etc/passwd", "up"] {
            let error = find_sources(&disk, path).unwrap_err();
            assert_eq!(error.to_string(), "it leads out of the candy's folder", "{path}");
        }
        let error = find_sources(&disk, ".").unwrap_err();
        assert_eq!(error.to_string(), "it leads out of the candy's folder");
        assert_eq!(find_sources(&disk, "gone").unwrap_err().kind(), io::ErrorKind::NotFound);
        let names =
            |path: &str| find_sources(&disk, path).unwrap().into_iter().map(|file| file.below).collect::<Vec<_>>();
        assert_eq!(names("inner"), [""]);
        assert_eq!(names("files"), ["b", "deep/a"]);
        assert_eq!(digested(find_sources(&disk, "files/deep/a").unwrap(), None).unwrap()[0].size, 300 << 10);
        assert_eq!(find_build_sources(&disk).unwrap_err().to_string(), "it leads out of the candy's folder");
    }

    #[test]
    fn builders_see_all_but_what_builds_leave() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["charly.yml", "Cargo.toml", "src/main.rs", "src/target/kept", "target/debug/x", ".git/HEAD"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = find_build_sources(&Folder::Disk(folder.path().to_owned())).unwrap();
        let names: Vec<_> = found.into_iter().map(|file| file.below).collect();
        assert_eq!(names, ["Cargo.toml", "src/main.rs", "src/target/kept"]);
    }
}
