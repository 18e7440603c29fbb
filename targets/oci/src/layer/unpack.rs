//! One layer as a lower folder of an overlay.
//!
//! The folder holds what the layer says and nothing else; laying it over others is the kernel's work. Everything is made
//! relative to a folder that is held open, and no link of the layer is ever walked through.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Entry, Kind, LayerError, LayerReader};

const BUFFER: usize = 256 << 10;

/// Which attributes an overlay keeps its notes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// Those that only the machine's root may set.
    Trusted,
    /// Those that the root of a user namespace may set too, for overlays mounted with `userxattr`.
    User,
}

impl OverlayXattrs {
    /// Returns what the attributes' names begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    pub(super) fn opaque(self) -> String {
        format!("{}opaque", self.prefix())
    }
}

/// Something that cannot be made here and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The path in the layer.
    pub path: String,
    /// What was not made, such as a device or an attribute.
    pub what: String,
}

/// Unpacks one layer into a folder, which is best empty, and returns what could not be made there.
pub fn unpack<R: Read>(
    reader: &mut LayerReader<R>,
    folder: &Path,
    xattrs: OverlayXattrs,
) -> Result<Vec<Skipped>, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, folder, flags, Mode::empty()).map_err(LayerError::file(folder, "opened"))?;
    let mut place = Place {
        layer: reader.name().to_owned(),
        folder,
        root,
        opaque: xattrs.opaque(),
        above: None,
        times: BTreeMap::new(),
        skipped: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = reader.next_entry()? {
        place.make(&entry, reader)?;
    }
    place.set_times()?;
    Ok(place.skipped)
}

struct Place<'a> {
    layer: String,
    folder: &'a Path,
    root: OwnedFd,
    opaque: String,
    /// The folder that the last entry was made in.
    above: Option<(String, OwnedFd)>,
    /// When folders were changed; making things in them changes that.
    times: BTreeMap<String, u64>,
    skipped: Vec<Skipped>,
    buffer: Vec<u8>,
}

impl Place<'_> {
    fn make<R: Read>(&mut self, entry: &Entry, reader: &mut LayerReader<R>) -> Result<(), LayerError> {
        if entry.path.is_empty() {
            let root = self.root.try_clone().map_err(LayerError::file(self.folder, "opened"))?;
            return self.describe_folder(entry, &root, entry.kind == Kind::OpaqueDir);
        }
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let above = match self.above.take() {
            Some((path, above)) if path == folder => above,
            _ => self.open_folder(folder, true)?,
        };
        let done = self.make_in(&above, name, entry, reader);
        self.above = Some((folder.to_owned(), above));
        done
    }

    fn make_in<R: Read>(
        &mut self,
        above: &OwnedFd,
        name: &str,
        entry: &Entry,
        reader: &mut LayerReader<R>,
    ) -> Result<(), LayerError> {
        let path = self.path(&entry.path);
        let made = |error: Errno| LayerError::file(&path, "made")(error);
        match &entry.kind {
            Kind::Dir | Kind::OpaqueDir => {
                let (made, replaces) = self.make_folder(above.as_fd(), name, &entry.path)?;
                self.describe_folder(entry, &made, replaces || entry.kind == Kind::OpaqueDir)
            }
            Kind::Whiteout => match self.kind_of(above.as_fd(), name, &entry.path)? {
                None => rustix::fs::mknodat(above, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(made),
                // Nothing that a layer has is gone by its own whiteout, only what lies below it.
                Some(Found::Folder) => {
                    let folder =
                        open(above.as_fd(), name, OFlags::RDONLY).map_err(LayerError::file(&path, "opened"))?;
                    self.set_opaque(&folder, &path)
                }
                Some(_) => Ok(()),
            },
            Kind::File { size } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file = self.in_place(above, name, entry, || rustix::fs::openat(above, name, flags, mode))?;
                let file = File::from(file);
                self.copy(reader, &file, *size, &path)?;
                self.describe_open(entry, file.as_fd(), &path)?;
                set_time(file.as_fd(), entry.mtime).map_err(LayerError::file(&path, "dated"))
            }
            Kind::Symlink { target } => {
                self.in_place(above, name, entry, || rustix::fs::symlinkat(target, above, name))?;
                self.describe_named(entry, above, name, &path)
            }
            Kind::Hardlink { target } => self.link(above, name, entry, target),
            Kind::CharDevice { major, minor } => {
                self.device(above, name, entry, FileType::CharacterDevice, (*major, *minor), &path)
            }
            Kind::BlockDevice { major, minor } => {
                self.device(above, name, entry, FileType::BlockDevice, (*major, *minor), &path)
            }
            Kind::Fifo => self.device(above, name, entry, FileType::Fifo, (0, 0), &path),
        }
    }

    /// Makes something that is no folder, instead of what the same layer has put there before.
    fn in_place<T>(
        &mut self,
        above: &OwnedFd,
        name: &str,
        entry: &Entry,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let path = self.path(&entry.path);
        match make() {
            Err(Errno::EXIST) => {
                self.remove(above.as_fd(), name, &entry.path)?;
                make().map_err(LayerError::file(&path, "made"))
            }
            done => done.map_err(LayerError::file(&path, "made")),
        }
    }

    fn device(
        &mut self,
        above: &OwnedFd,
        name: &str,
        entry: &Entry,
        file_type: FileType,
        (major, minor): (u32, u32),
        path: &Path,
    ) -> Result<(), LayerError> {
        let number = rustix::fs::makedev(major, minor);
        let made = self.in_place(above, name, entry, || {
            match rustix::fs::mknodat(above, name, file_type, Mode::empty(), number) {
                Err(Errno::PERM) => Ok(false),
                done => done.map(|()| true),
            }
        })?;
        if !made {
            self.skip(entry, "device");
            return Ok(());
        }
        self.describe_named(entry, above, name, path)
    }

    fn link(&mut self, above: &OwnedFd, name: &str, entry: &Entry, target: &str) -> Result<(), LayerError> {
        let refused =
            |place: &Self, why| LayerError::Refused { layer: place.layer.clone(), path: entry.path.clone(), why };
        let (folder, target_name) = target.rsplit_once('/').unwrap_or(("", target));
        let found = match self.open_folder(folder, false) {
            Ok(folder) => self.kind_of(folder.as_fd(), target_name, target)?.map(|found| (folder, found)),
            Err(LayerError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some((folder, Found::Other)) = found else {
            return Err(refused(self, "a hard link to nothing that came before"));
        };
        self.in_place(above, name, entry, || rustix::fs::linkat(&folder, target_name, above, name, AtFlags::empty()))
    }

    /// Makes a folder or finds it made; tells whether it replaces what the layers below have.
    fn make_folder(&mut self, above: BorrowedFd<'_>, name: &str, path: &str) -> Result<(OwnedFd, bool), LayerError> {
        let full = self.path(path);
        let mut replaces = false;
        match rustix::fs::mkdirat(above, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => match self.kind_of(above, name, path)? {
                Some(Found::Folder) => {}
                found => {
                    replaces = matches!(found, Some(Found::Whiteout));
                    self.remove(above, name, path)?;
                    rustix::fs::mkdirat(above, name, Mode::RWXU).map_err(LayerError::file(&full, "made"))?;
                }
            },
            Err(error) => return Err(LayerError::file(&full, "made")(error)),
        }
        let folder = open(above, name, OFlags::RDONLY).map_err(LayerError::file(&full, "opened"))?;
        Ok((folder, replaces))
    }

    /// Opens a folder of the layer, and makes what is missing of it.
    fn open_folder(&mut self, path: &str, make: bool) -> Result<OwnedFd, LayerError> {
        let full = self.path(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let own = if path.is_empty() { "." } else { path };
        let opened = rustix::fs::openat2(&self.root, own, flags, Mode::empty(), resolve);
        match opened {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if make => {}
            opened => return opened.map_err(LayerError::file(&full, "opened")),
        }
        let mut above = self.root.try_clone().map_err(LayerError::file(self.folder, "opened"))?;
        let mut done = String::new();
        for name in path.split('/') {
            if !done.is_empty() {
                done.push('/');
            }
            done.push_str(name);
            let full = self.path(&done);
            above = match self.kind_of(above.as_fd(), name, &done)? {
                Some(Found::Folder) => {
                    open(above.as_fd(), name, OFlags::RDONLY).map_err(LayerError::file(&full, "opened"))?
                }
                Some(Found::Other) => {
                    let why = "below which there is more, and which is no folder";
                    return Err(LayerError::Refused { layer: self.layer.clone(), path: done, why });
                }
                None | Some(Found::Whiteout) => {
                    let (folder, replaces) = self.make_folder(above.as_fd(), name, &done)?;
                    let mode = Mode::from_raw_mode(0o755);
                    rustix::fs::fchmod(&folder, mode).map_err(LayerError::file(&full, "given its mode"))?;
                    self.times.insert(done.clone(), 0);
                    if replaces {
                        self.set_opaque(&folder, &full)?;
                    }
                    folder
                }
            };
        }
        Ok(above)
    }

    fn kind_of(&self, above: BorrowedFd<'_>, name: &str, path: &str) -> Result<Option<Found>, LayerError> {
        match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Found::Folder,
                FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
                _ => Found::Other,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(LayerError::file(&self.path(path), "looked at")(error)),
        }
    }

    fn remove(&mut self, above: BorrowedFd<'_>, name: &str, path: &str) -> Result<(), LayerError> {
        let full = self.path(path);
        match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR) => {
                let below = format!("{path}/");
                self.times.retain(|known, _| known != path && !known.starts_with(&below));
                std::fs::remove_dir_all(through(above, name)).map_err(LayerError::file(&full, "removed"))
            }
            Err(error) => Err(LayerError::file(&full, "removed")(error)),
        }
    }

    fn copy(&mut self, from: &mut dyn Read, mut to: &File, size: u64, path: &Path) -> Result<(), LayerError> {
        let layer = &self.layer;
        let mut left = size;
        while left > 0 {
            let count = match from.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                count => count,
            };
            let count = count.map_err(|source| LayerError::Read { layer: layer.clone(), source })?;
            let bytes = &self.buffer[..count];
            left = left.saturating_sub(count as u64);
            // Nothing is kept of zeros but their number: a small layer may be a great many of them.
            let written = if is_zeros(bytes) {
                to.seek_relative(i64::try_from(count).unwrap_or_default())
            } else {
                to.write_all(bytes)
            };
            written.map_err(LayerError::file(path, "written"))?;
        }
        to.set_len(size).map_err(LayerError::file(path, "written"))
    }

    fn describe_folder(&mut self, entry: &Entry, folder: &OwnedFd, opaque: bool) -> Result<(), LayerError> {
        let path = self.path(&entry.path);
        self.describe_open(entry, folder.as_fd(), &path)?;
        if opaque {
            self.set_opaque(folder, &path)?;
        }
        self.times.insert(entry.path.clone(), entry.mtime);
        Ok(())
    }

    fn set_opaque(&self, folder: &OwnedFd, path: &Path) -> Result<(), LayerError> {
        let set = rustix::fs::fsetxattr(folder, &self.opaque, b"y", XattrFlags::empty());
        set.map_err(LayerError::file(path, "made opaque"))
    }

    /// Gives a file or folder its owner, mode and attributes. The order matters: a new owner takes away set-uid and
    /// capabilities.
    fn describe_open(&mut self, entry: &Entry, file: BorrowedFd<'_>, path: &Path) -> Result<(), LayerError> {
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(file, uid, gid).map_err(LayerError::file(path, "given to its owner"))?;
        rustix::fs::fchmod(file, mode(entry)).map_err(LayerError::file(path, "given its mode"))?;
        for (name, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(file, name, value, XattrFlags::empty());
            self.attribute(entry, name, set, path)?;
        }
        Ok(())
    }

    /// Does the same for what is not to be opened, and dates it.
    fn describe_named(&mut self, entry: &Entry, above: &OwnedFd, name: &str, path: &Path) -> Result<(), LayerError> {
        let (uid, gid) = owner(entry);
        let chown = rustix::fs::chownat(above, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        chown.map_err(LayerError::file(path, "given to its owner"))?;
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            let chmod = rustix::fs::chmodat(above, name, mode(entry), AtFlags::empty());
            chmod.map_err(LayerError::file(path, "given its mode"))?;
        }
        for (attribute, value) in &entry.xattrs {
            let set = rustix::fs::lsetxattr(through(above.as_fd(), name), attribute, value, XattrFlags::empty());
            self.attribute(entry, attribute, set, path)?;
        }
        let set = rustix::fs::utimensat(above, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(LayerError::file(path, "dated"))
    }

    fn attribute(&mut self, entry: &Entry, name: &str, set: Result<(), Errno>, path: &Path) -> Result<(), LayerError> {
        match set {
            // Not every file may have every attribute, and not every file system and namespace knows them.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
                self.skip(entry, name);
                Ok(())
            }
            set => set.map_err(LayerError::file(path, "given its attributes")),
        }
    }

    fn set_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let folder = self.open_folder(&path, false)?;
            set_time(folder.as_fd(), time).map_err(LayerError::file(&self.path(&path), "dated"))?;
        }
        Ok(())
    }

    fn skip(&mut self, entry: &Entry, what: &str) {
        self.skipped.push(Skipped { path: entry.path.clone(), what: what.to_owned() });
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

enum Found {
    Folder,
    Whiteout,
    Other,
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.split_first().is_none_or(|(first, rest)| *first == 0 && bytes[..rest.len()] == *rest)
}

fn open(above: BorrowedFd<'_>, name: &str, how: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(above, name, how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Names something in an open folder for calls that want a path.
fn through(above: BorrowedFd<'_>, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(above.as_raw_fd().to_string()).join(name)
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(file: BorrowedFd<'_>, seconds: u64) -> Result<(), Errno> {
    rustix::fs::futimens(file, &times(seconds))
}

#[cfg(test)]
mod tests;
