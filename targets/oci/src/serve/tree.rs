//! A folder or an archive, member by member.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::ServeError;

/// The most members that are looked at: an image has some for each layer.
const MEMBERS: usize = 100_000;

/// A folder or an archive of files.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    path: PathBuf,
    /// Where members begin in an archive, and how long they are; absent for a folder.
    members: Option<BTreeMap<String, Member>>,
}

#[derive(Debug, Clone)]
enum Member {
    File { at: u64, size: u64 },
    Link(String),
}

impl Tree {
    /// Opens what is at a path.
    pub(crate) fn open(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let is_folder = file.metadata().map_err(failed)?.is_dir();
        let members = if is_folder { None } else { Some(index(file).map_err(failed)?) };
        Ok(Self { path: path.to_owned(), members })
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Returns a file's size.
    pub(crate) fn size(&self, name: &str) -> Result<u64, ServeError> {
        self.find(name).map(|(_, _, size)| size).map_err(|source| self.failed(name, source))
    }

    /// Opens a file.
    pub(crate) fn read(&self, name: &str) -> Result<Box<dyn Read + Send>, ServeError> {
        let open = || {
            let (path, at, size) = self.find(name)?;
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(at))?;
            Ok(Box::new(file.take(size)) as Box<dyn Read + Send>)
        };
        open().map_err(|source| self.failed(name, source))
    }

    fn failed(&self, name: &str, source: io::Error) -> ServeError {
        ServeError::Read { path: self.path.join(name), source }
    }

    fn find(&self, name: &str) -> io::Result<(PathBuf, u64, u64)> {
        let mut name = plain(name).ok_or(io::ErrorKind::InvalidInput)?;
        let Some(members) = &self.members else {
            let path = self.path.join(name);
            let metadata = path.metadata()?;
            return if metadata.is_file() {
                Ok((path, 0, metadata.len()))
            } else {
                Err(io::ErrorKind::InvalidInput.into())
            };
        };
        for _ in 0..8 {
            match members.get(&name).ok_or(io::ErrorKind::NotFound)? {
                Member::File { at, size } => return Ok((self.path.clone(), *at, *size)),
                Member::Link(to) => name = to.clone(),
            }
        }
        Err(io::Error::other("a link leads to itself"))
    }
}

fn index(file: File) -> io::Result<BTreeMap<String, Member>> {
    let mut archive = tar::Archive::new(file);
    let mut members = BTreeMap::new();
    for entry in archive.entries_with_seek()?.take(MEMBERS) {
        let entry = entry?;
        let Some(name) = entry.path()?.to_str().and_then(plain) else { continue };
        let member = match entry.header().entry_type() {
            tar::EntryType::Regular => Member::File { at: entry.raw_file_position(), size: entry.size() },
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let Some(to) = entry.link_name()?.and_then(|to| to.to_str().map(str::to_owned)) else { continue };
                // What `docker save` wrote for a layer that two images share points to it from its own folder.
                let from = Path::new(&name).parent().filter(|_| kind == tar::EntryType::Symlink);
                let to = from.unwrap_or(Path::new("")).join(to);
                match to.to_str().and_then(plain) {
                    Some(to) => Member::Link(to),
                    None => continue,
                }
            }
            _ => continue,
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// Writes a relative path without `.` and `..`; nothing where it leads out.
fn plain(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        for (name, want) in [
            ("a/b", Some("a/b")),
            ("./a", Some("a")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("a/../../b", None),
            ("/a", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(plain(name).as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn members_are_found_by_name_and_by_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let mut add = |name: &str, kind: tar::EntryType, body: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            if kind == tar::EntryType::Regular {
                header.set_size(body.len() as u64);
                builder.append_data(&mut header, name, body.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                builder.append_link(&mut header, name, body).unwrap();
            }
        };
        add("one/layer.tar", tar::EntryType::Regular, "first");
        add("two/layer.tar", tar::EntryType::Symlink, "../one/layer.tar");
        add("loop", tar::EntryType::Symlink, "loop");
        add("out", tar::EntryType::Symlink, "../../etc/passwd");
        builder.finish().unwrap();
        let tree = Tree::open(&path).unwrap();
        for name in ["one/layer.tar", "two/layer.tar", "./one/layer.tar"] {
            assert_eq!(io::read_to_string(tree.read(name).unwrap()).unwrap(), "first", "{name}");
            assert_eq!(tree.size(name).unwrap(), 5);
        }
        for name in ["loop", "out", "none", "../x.tar"] {
            assert!(!tree.has(name), "{name}");
        }
    }
}
