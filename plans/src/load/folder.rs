//! A candy's own folder, on disk or in the program.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use charly_ir::Digest;

/// Files up to this size are kept in memory; larger ones are read again when they are sent.
const KEPT: u64 = 256 << 10;

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
    /// On disk. They may change before they are read again, so the digest is to be checked then.
    File(PathBuf),
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
pub(crate) fn find_sources(folder: &Folder, path: &str) -> io::Result<Vec<SourceFile>> {
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
                some => Ok(some),
            }
        }
        Folder::Disk(root) => {
            let mut found = Vec::new();
            walk(root, &reach(root, path)?, "", 0, &mut found)?;
            found.sort_by(|one: &SourceFile, other| one.below.cmp(&other.below));
            Ok(found)
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

fn walk(root: &Path, real: &Path, below: &str, depth: usize, found: &mut Vec<SourceFile>) -> io::Result<()> {
    if depth > 32 {
        return Err(io::Error::other("its folders are nested too deep"));
    }
    let kind = fs::metadata(real)?;
    if kind.is_dir() {
        for entry in fs::read_dir(real)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(io::Error::other("a name in it is not UTF-8"));
            };
            let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let is_link = entry.file_type()?.is_symlink();
            let inner = if is_link { resolve(root, &entry.path())? } else { entry.path() };
            walk(root, &inner, &below, depth + 1, found)?;
        }
        return Ok(());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    if kind.len() <= KEPT {
        let mut bytes = Vec::new();
        File::open(real)?.take(KEPT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= KEPT {
            found.push(from_bytes(below.to_owned(), bytes));
            return Ok(());
        }
    }
    let (digest, size) = Digest::of_reader(File::open(real)?)?;
    found.push(SourceFile { below: below.to_owned(), digest, size, blob: Blob::File(real.to_owned()) });
    Ok(())
}

fn from_bytes(below: String, bytes: Vec<u8>) -> SourceFile {
    SourceFile { below, digest: Digest::of(&bytes), size: bytes.len() as u64, blob: Blob::Bytes(bytes) }
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
        assert!(matches!(find_sources(&disk, "files/deep/a").unwrap()[0].blob, Blob::File(_)));
    }
}
