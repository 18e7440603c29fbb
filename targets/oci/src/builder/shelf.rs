//! What was made before, by what it was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use charly_ir::Digest;
use charly_ir::message::{Member, MemberKind};
use charly_ir::plan::BuilderKind;
use charly_target_core::Artifact;
use charly_target_core::artifact::Wanted;
use serde::Serialize;

use crate::space::Space;

/// The number of the rules by which artifacts are made; what was made by other rules is made anew.
const RULES: u32 = 1;

/// Artifacts that were made before, each in a folder by what it was made of.
#[derive(Debug, Clone)]
pub(super) struct Shelf(PathBuf);

/// The place of an artifact. While it lives, nobody else makes the same one.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    _lock: File,
}

/// Why what was made cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or folder fails.
    #[error("`{path}` cannot be used")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing.
    #[error("nothing was made")]
    Nothing,
    /// Something is neither a file nor a folder nor a link, or has no name that a plan could hold.
    #[error("`{path}` is nothing that can be placed")]
    Unfit {
        /// Its path.
        path: String,
    },
    /// A link leads to where only the builder has something.
    #[error("`{path}` is a link to `{target}`, which is in the builder alone")]
    Link {
        /// Its path.
        path: String,
        /// What it leads to.
        target: String,
    },
    /// A password of this machine is in it.
    #[error("`{path}` holds a password or token of this machine's own settings")]
    Secret {
        /// Its path.
        path: String,
    },
}

/// Names an artifact by all that it depends on.
#[derive(Serialize)]
struct Key<'a> {
    rules: u32,
    kind: BuilderKind,
    script: Digest,
    inputs: &'a BTreeMap<String, Digest>,
    packages: &'a [String],
    candy: &'a str,
    to: &'a str,
    os: &'a str,
    arch: &'a str,
    image: Digest,
}

impl Shelf {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join("artifacts"))
    }

    /// Returns the place of what is wanted, once nobody else is making it.
    pub(super) fn place(&self, wanted: &Wanted<'_>, script: &str, image: Digest) -> Result<Place, ArtifactError> {
        let builder = wanted.builder;
        let key = Key {
            rules: RULES,
            kind: builder.kind,
            script: Digest::of(script.as_bytes()),
            inputs: &builder.inputs,
            packages: &builder.packages,
            candy: wanted.candy,
            to: wanted.to,
            os: wanted.os,
            arch: wanted.arch,
            image,
        };
        // Digests, numbers and words always serialize.
        let key = Digest::of(&serde_json::to_vec(&key).unwrap_or_default()).to_string();
        let folder = self.0.join(&key[..32]);
        fs::create_dir_all(&self.0).map_err(io(&self.0))?;
        let lock = folder.with_extension("lock");
        let file = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(io(&lock))?;
        Ok(Place { folder, _lock: file })
    }
}

/// Takes away what was made in a folder of [`Settings`](super::Settings) and not used since a moment.
pub fn prune(folder: &Path, since: SystemTime) -> Result<Space, ArtifactError> {
    let shelf = Shelf::new(folder).0;
    let mut space = Space::default();
    let entries = match fs::read_dir(&shelf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(space),
        entries => entries.map_err(io(&shelf))?,
    };
    for entry in entries {
        let folder = entry.map_err(io(&shelf))?.path();
        if !folder.is_dir() {
            continue;
        }
        let size = size_of(&folder).map_err(io(&folder))?;
        space.before += size;
        let lock = folder.with_extension("lock");
        let lock = File::create(&lock).map_err(io(&lock))?;
        let used = fs::metadata(folder.join(MEMBERS)).and_then(|list| list.modified());
        // One without a list is half made; whoever is still at it has the lock.
        let is_needed = lock.try_lock().is_err() || used.is_ok_and(|used| used >= since);
        if is_needed {
            space.after += size;
        } else {
            fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
    }
    Ok(space)
}

/// Returns how many bytes the files below a folder have.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

/// The list of what belongs to an artifact, written last. Its time is that of the last use.
const MEMBERS: &str = "members.json";

impl Place {
    /// Returns what is there.
    pub(super) fn known(&self) -> Option<Artifact> {
        let list = self.folder.join(MEMBERS);
        let members: Vec<Member> = serde_json::from_slice(&fs::read(&list).ok()?).ok()?;
        // At worst it is made anew one day.
        File::open(&list).and_then(|list| list.set_modified(SystemTime::now())).ok();
        let files = self.folder.join("files");
        let is_there = |member: &Member| match member.kind {
            MemberKind::File { digest, size, .. } => {
                fs::metadata(files.join(digest.to_string())).is_ok_and(|file| file.len() == size)
            }
            _ => true,
        };
        members.iter().all(is_there).then_some(Artifact { members, files })
    }

    /// Moves what was made to where it is kept.
    pub(super) fn take(&self, made: &Path, secrets: &BTreeSet<String>) -> Result<Artifact, ArtifactError> {
        let half = self.folder.with_extension("half");
        for folder in [&half, &self.folder] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(folder)(error)),
                _ => {}
            }
        }
        let files = half.join("files");
        fs::create_dir_all(&files).map_err(io(&files))?;
        let mut members = Vec::new();
        collect(made, "", &files, secrets, &mut members)?;
        if members.is_empty() {
            return Err(ArtifactError::Nothing);
        }
        let list = half.join(MEMBERS);
        fs::write(&list, serde_json::to_vec(&members).unwrap_or_default()).map_err(io(&list))?;
        fs::rename(&half, &self.folder).map_err(io(&self.folder))?;
        Ok(Artifact { members, files: self.folder.join("files") })
    }
}

/// Collects what lies in a folder, sorted by name, and moves its files. Modes are the two that matter: whoever builds has an
/// umask of their own.
fn collect(
    folder: &Path,
    below: &str,
    files: &Path,
    secrets: &BTreeSet<String>,
    members: &mut Vec<Member>,
) -> Result<(), ArtifactError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        names.push(entry.map_err(io(folder))?.file_name());
    }
    names.sort();
    for name in names {
        let at = folder.join(&name);
        let path = match name.to_str() {
            Some(name) if below.is_empty() => name.to_owned(),
            Some(name) => format!("{below}/{name}"),
            None => return Err(ArtifactError::Unfit { path: at.display().to_string() }),
        };
        let metadata = fs::symlink_metadata(&at).map_err(io(&at))?;
        if metadata.is_dir() {
            members.push(Member { path: path.clone(), kind: MemberKind::Dir { mode: 0o755 } });
            collect(&at, &path, files, secrets, members)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&at).map_err(io(&at))?;
            let Some(target) = target.to_str() else { return Err(ArtifactError::Unfit { path }) };
            if target.starts_with("/charly/") {
                return Err(ArtifactError::Link { path, target: target.to_owned() });
            }
            members.push(Member { path, kind: MemberKind::Link { target: target.to_owned() } });
        } else if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            let (digest, size, is_secret) = read(&at, secrets).map_err(io(&at))?;
            if is_secret {
                return Err(ArtifactError::Secret { path });
            }
            let kept = files.join(digest.to_string());
            fs::rename(&at, &kept).map_err(io(&kept))?;
            members.push(Member { path, kind: MemberKind::File { digest, size, mode } });
        } else {
            return Err(ArtifactError::Unfit { path });
        }
    }
    Ok(())
}

/// Returns a file's digest and size, and whether one of the secrets is in it.
fn read(path: &Path, secrets: &BTreeSet<String>) -> io::Result<(Digest, u64, bool)> {
    let mut search = Search { inner: File::open(path)?, secrets, tail: Vec::new(), found: false };
    let (digest, size) = Digest::of_reader(&mut search)?;
    Ok((digest, size, search.found))
}

/// Passes bytes through and looks for secrets in them.
struct Search<'a> {
    inner: File,
    secrets: &'a BTreeSet<String>,
    /// The end of what was read, in which one may have begun.
    tail: Vec<u8>,
    found: bool,
}

impl Read for Search<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        // Short ones may be anybody's words.
        let longest = self.secrets.iter().map(String::len).max().unwrap_or_default();
        if n > 0 && longest >= TELLING {
            self.tail.extend_from_slice(&buffer[..n]);
            let telling = self.secrets.iter().filter(|secret| secret.len() >= TELLING);
            for secret in telling {
                self.found |= self.tail.windows(secret.len()).any(|part| part == secret.as_bytes());
            }
            let begin = self.tail.len().saturating_sub(longest);
            self.tail.drain(..begin);
        }
        Ok(n)
    }
}

/// How long a secret must be for its being somewhere to mean something.
const TELLING: usize = 8;

fn io(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + use<> {
    let path = path.to_owned();
    move |source| ArtifactError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use charly_ir::Text;
    use charly_ir::plan::Builder;

    use super::*;

    fn builder() -> Builder {
        let (inputs, to) = (BTreeMap::new(), Text::default());
        Builder { kind: BuilderKind::Npm, inputs, packages: Vec::new(), to, image: None }
    }

    fn place(shelf: &Path, to: &str) -> Place {
        let builder = builder();
        let inputs = BTreeMap::new();
        let wanted = Wanted { candy: "c", builder: &builder, to, os: "debian-13", arch: "x86_64", inputs: &inputs };
        Shelf::new(shelf).place(&wanted, "", Digest::of(b"image")).unwrap()
    }

    #[test]
    fn what_was_made_is_kept_by_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        fs::create_dir_all(made.join("bin/deep")).unwrap();
        fs::write(made.join("bin/tool"), "#!").unwrap();
        fs::set_permissions(made.join("bin/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(made.join("bin/deep/data"), "#!").unwrap();
        symlink("bin/tool", made.join("link")).unwrap();

        let artifact = place(folder.path(), "/a").take(&made, &BTreeSet::new()).unwrap();
        let shown: Vec<_> =
            artifact.members.iter().map(|member| format!("{} {:?}", member.path, member.kind)).collect();
        let digest = Digest::of(b"#!");
        assert_eq!(
            shown,
            [
                format!("bin {:?}", MemberKind::Dir { mode: 0o755 }),
                format!("bin/deep {:?}", MemberKind::Dir { mode: 0o755 }),
                format!("bin/deep/data {:?}", MemberKind::File { digest, size: 2, mode: 0o644 }),
                format!("bin/tool {:?}", MemberKind::File { digest, size: 2, mode: 0o755 }),
                format!("link {:?}", MemberKind::Link { target: "bin/tool".into() }),
            ]
        );
        assert_eq!(fs::read(artifact.files.join(digest.to_string())).unwrap(), b"#!");
        assert_eq!(place(folder.path(), "/a").known(), Some(artifact.clone()));
        assert_eq!(place(folder.path(), "/b").known(), None, "it is made for one path");
        let hour = std::time::Duration::from_secs(3600);
        let space = prune(folder.path(), SystemTime::now() - hour).unwrap();
        assert!(space.before > 2 && space.after == space.before, "{space:?}");
        let held = place(folder.path(), "/a");
        assert_eq!(prune(folder.path(), SystemTime::now() + hour).unwrap(), space, "somebody is at it");
        drop(held);
        let pruned = prune(folder.path(), SystemTime::now() + hour).unwrap();
        assert_eq!((pruned.before, pruned.after), (space.before, 0));
        assert_eq!(place(folder.path(), "/a").known(), None);
        fs::create_dir_all(made.join("bin")).unwrap();
        fs::write(made.join("bin/tool"), "#!").unwrap();
        let artifact = place(folder.path(), "/a").take(&made, &BTreeSet::new()).unwrap();
        fs::remove_file(artifact.files.join(digest.to_string())).unwrap();
        assert_eq!(place(folder.path(), "/a").known(), None, "what was damaged is made again");
    }

    #[test]
    fn what_must_not_leave_is_refused() {
        let secrets: BTreeSet<_> = ["s3cret-token".to_owned(), "no".to_owned()].into();
        let long = format!("{}s3cret-token", "x".repeat((64 << 10) - 5));
        for (prepare, want) in [
            (Box::new(|_: &Path| ()) as Box<dyn Fn(&Path)>, "nothing was made"),
            (
                Box::new(move |at: &Path| fs::write(at.join("f"), &long).unwrap()),
                "`f` holds a password or token of this machine's own settings",
            ),
            (
                Box::new(|at: &Path| symlink("/charly/cache/x", at.join("l")).unwrap()),
                "`l` is a link to `/charly/cache/x`, which is in the builder alone",
            ),
            (
                Box::new(|at: &Path| drop(std::os::unix::net::UnixListener::bind(at.join("s")).unwrap())),
                "`s` is nothing that can be placed",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let made = folder.path().join("made");
            fs::create_dir(&made).unwrap();
            prepare(&made);
            let error = place(folder.path(), "/a").take(&made, &secrets).unwrap_err();
            assert_eq!(error.to_string(), want);
            assert_eq!(place(folder.path(), "/a").known(), None);
        }
    }
}
