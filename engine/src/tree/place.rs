//! Changes what is at a path.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::node::{is_nothing, permissions};
use super::{Node, Root, Spot, TreeError};

/// What was placed.
#[derive(Debug)]
pub struct Placed {
    /// The digest of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The file, still open, so that the caller chooses when and with what company it is made durable.
    pub file: File,
}

/// What a file is made of.
pub enum Content<'a> {
    /// Bytes, which are judged while they are copied.
    Bytes(&'a mut dyn Read),
    /// A file that nobody else can write to, and whose bytes were judged when they came: it is moved where that is possible, else
    /// the kernel copies it, or shares its extents where the file system can.
    Judged {
        /// The file, open at its beginning.
        file: &'a File,
        /// The digest of its bytes.
        digest: Digest,
        /// Where it lies, if it may go from there because nobody else wants it.
        spare: Option<&'a Path>,
    },
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes"),
            Self::Judged { digest, .. } => f.debug_tuple("Judged").field(digest).finish(),
        }
    }
}

/// The attributes a file is placed with.
#[derive(Debug, Clone, Copy)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Puts a file at a spot, replacing a file or link that is there.
///
/// Its bytes are written to a file beside it, which nobody else can read until it has its mode; it then takes the name in
/// one step. `expected` is what `content` must turn out to be.
pub fn place_file(
    spot: &Spot,
    want: &Node,
    expected: Option<Digest>,
    content: Content<'_>,
) -> Result<Placed, TreeError> {
    let error = |source: io::Error| TreeError::new("write", &spot.path, source);
    let Node::File { mode, uid, gid, xattrs, mtime_ns, .. } = want else {
        return Err(error(io::Error::other("a file was to be placed from something else")));
    };
    let temporary = temporary_name(&spot.path);
    let result = (|| {
        let (file, digest, size) = match content {
            Content::Bytes(bytes) => {
                let file = create(&spot.dir, &temporary)?;
                let (digest, size) = copy(bytes, &file)?;
                (file, digest, size)
            }
            Content::Judged { file, digest, spare: Some(path) } if take(path, file, &spot.dir, &temporary)? => {
                (file.as_fd().try_clone_to_owned()?, digest, file.metadata()?.len())
            }
            Content::Judged { file: mut from, digest, .. } => {
                let file = create(&spot.dir, &temporary)?;
                let size = io::copy(&mut from, &mut File::from(file.as_fd().try_clone_to_owned()?))?;
                (file, digest, size)
            }
        };
        if expected.is_some_and(|expected| expected != digest) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its content arrived damaged"));
        }
        set_owner(&file, Owner { mode: *mode, uid: *uid, gid: *gid })?;
        write_xattrs(&file, xattrs)?;
        if let Some(mtime_ns) = mtime_ns {
            set_mtime(&file, *mtime_ns)?;
        }
        fs::renameat(&spot.dir, &temporary, &spot.dir, &spot.name)?;
        Ok(Placed { digest, size, file: File::from(file) })
    })();
    result.map_err(|source: io::Error| {
        // The failure that led here is the one to tell about.
        let _ = fs::unlinkat(&spot.dir, &temporary, AtFlags::empty());
        error(source)
    })
}

/// Makes a folder, or gives the one that is there this mode and owner.
pub fn make_dir(spot: &Spot, mode: u32, uid: u32, gid: u32) -> Result<(), TreeError> {
    let error = |source: io::Error| TreeError::new("make the folder", &spot.path, source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = |name: &std::ffi::OsStr| -> io::Result<()> {
        set_owner(fs::openat(&spot.dir, name, flags, Mode::empty())?, Owner { mode, uid, gid })
    };
    match fs::statat(&spot.dir, &spot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        _ => return own(&spot.name).map_err(error),
    }
    // It takes its name with its mode and owner: a kill between them would leave a folder that nobody minds the mode of.
    let temporary = temporary_name(&spot.path);
    let make = || -> io::Result<()> {
        discard(&spot.dir, &temporary)?;
        fs::mkdirat(&spot.dir, &temporary, Mode::RWXU)?;
        own(temporary.as_ref())?;
        Ok(fs::renameat_with(&spot.dir, &temporary, &spot.dir, &spot.name, fs::RenameFlags::NOREPLACE)?)
    };
    make().or_else(|source| {
        let _ = fs::unlinkat(&spot.dir, &temporary, AtFlags::REMOVEDIR);
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::EXIST) => own(&spot.name).map_err(error),
            // Some file systems know no such step.
            Some(Errno::INVAL | Errno::NOSYS) => {
                let made = fs::mkdirat(&spot.dir, &spot.name, Mode::RWXU).map_err(io::Error::from);
                made.and_then(|()| own(&spot.name)).map_err(error)
            }
            _ => Err(error(source)),
        }
    })
}

/// Makes a symbolic link, replacing a file or link that is there.
pub fn make_link(spot: &Spot, target: &str, uid: u32, gid: u32) -> Result<(), TreeError> {
    let temporary = temporary_name(&spot.path);
    let result = (|| {
        discard(&spot.dir, &temporary)?;
        fs::symlinkat(target, &spot.dir, &temporary)?;
        let stat = fs::statat(&spot.dir, &temporary, AtFlags::SYMLINK_NOFOLLOW)?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fs::chownat(&spot.dir, &temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        fs::renameat(&spot.dir, &temporary, &spot.dir, &spot.name)?;
        Ok(())
    })();
    result.map_err(|source: io::Error| TreeError::new("link", &spot.path, source))
}

/// Removes a file, link or empty folder. Nothing there is no error; a folder with something in it is
/// [`io::ErrorKind::DirectoryNotEmpty`].
pub fn remove(spot: &Spot) -> Result<(), TreeError> {
    let result = match fs::statat(&spot.dir, &spot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            fs::unlinkat(&spot.dir, &spot.name, AtFlags::REMOVEDIR)
        }
        Ok(_) => fs::unlinkat(&spot.dir, &spot.name, AtFlags::empty()),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(TreeError::new("remove", &spot.path, errno)),
    }
}

/// Removes whatever is at a spot, with all below it, never following a link out of it.
pub fn remove_tree(spot: &Spot) -> Result<(), TreeError> {
    remove_below(&spot.dir, &spot.name).map_err(|source| TreeError::new("remove", &spot.path, source))
}

/// Removes the file that an interrupted placement may have left beside a path.
pub fn sweep(root: &Root, path: &str) -> Result<(), TreeError> {
    let spot = match root.spot(path) {
        Ok(spot) => spot,
        Err(error) if is_nothing(&error.source) => return Ok(()),
        Err(error) => return Err(error),
    };
    discard(&spot.dir, &temporary_name(path)).map_err(|source| TreeError::new("clean up beside", path, source))
}

/// The name of the file that is written beside a path; the same for the same path, so that a crash leaves nothing unknown.
fn temporary_name(path: &str) -> String {
    format!(".charly-{}", Digest::of(path.as_bytes()).short())
}

fn create(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    discard(&dir, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Moves a file into a folder, where it then is as if it had been made there; false where it cannot, or would not be.
fn take(from: &Path, file: &File, dir: &OwnedFd, name: &str) -> io::Result<bool> {
    discard(dir, name)?;
    // A security policy's labels, and lists of who may do what, come from the folder that a file is made in.
    let has_no_labels = matches!(fs::flistxattr_query(file), Ok(0) | Err(Errno::NOTSUP));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = fs::openat(dir, ".", flags, Mode::empty());
    let gives_none = folder.is_ok_and(|folder| {
        let got = fs::fgetxattr_query(folder, "system.posix_acl_default");
        matches!(got, Err(Errno::NODATA | Errno::NOTSUP))
    });
    Ok(has_no_labels && gives_none && fs::renameat(fs::CWD, from, dir, name).is_ok())
}

fn discard(dir: impl AsFd, name: &str) -> io::Result<()> {
    match fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // It is one that was being made, and is empty.
        Err(Errno::ISDIR) => Ok(fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?),
        Err(error) => Err(error.into()),
    }
}

/// Copies and digests in one pass, in memory that does not grow with the content.
fn copy(content: &mut dyn Read, file: impl AsFd) -> io::Result<(Digest, u64)> {
    let mut buffer = vec![0; 128 * 1024];
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut writer = File::from(file.as_fd().try_clone_to_owned()?);
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..n]);
        writer.write_all(&buffer[..n])?;
        size += n as u64;
    }
}

fn set_owner(file: impl AsFd, want: Owner) -> io::Result<()> {
    let stat = fs::fstat(&file)?;
    if (stat.st_uid, stat.st_gid) != (want.uid, want.gid) {
        fs::fchown(&file, Some(Uid::from_raw(want.uid)), Some(Gid::from_raw(want.gid)))?;
    }
    // After the owner: a change of owner clears the setuid and setgid bits.
    if permissions(&fs::fstat(&file)?) != want.mode {
        fs::fchmod(&file, Mode::from_raw_mode(want.mode))?;
    }
    Ok(())
}

fn write_xattrs(file: impl AsFd, xattrs: &BTreeMap<String, String>) -> io::Result<()> {
    for (name, value) in xattrs {
        let value = crate::encoding::from_base64(value)?;
        match fs::fsetxattr(&file, name.as_str(), &value, XattrFlags::empty()) {
            // A label that this process may not set, such as SELinux's, is the policy's business.
            Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_mtime(file: impl AsFd, mtime_ns: i64) -> io::Result<()> {
    let (seconds, nanoseconds) = (mtime_ns.div_euclid(1_000_000_000), mtime_ns.rem_euclid(1_000_000_000));
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let last_access = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    Ok(fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

fn remove_below(dir: impl AsFd, name: &std::ffi::OsStr) -> io::Result<()> {
    match fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = fs::openat(&dir, name, flags, Mode::empty())?;
    // The names first: removing while listing may skip some.
    let entries: Vec<_> = fs::Dir::read_from(&inner)?.collect::<Result<_, _>>()?;
    for entry in entries {
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            remove_below(&inner, std::os::unix::ffi::OsStrExt::from_bytes(bytes))?;
        }
    }
    Ok(fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::tree::{Trust, observe};

    fn ids() -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    fn wanted(mode: u32) -> Node {
        let (uid, gid) = ids();
        let digest = Digest::of(b"");
        Node::File { digest, size: 0, mode, uid, gid, xattrs: BTreeMap::new(), mtime_ns: None }
    }

    #[test]
    fn a_file_has_its_mode_whatever_was_there() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path(), Trust::Everybody).unwrap();
        symlink("/etc/passwd", temp.path().join("link")).unwrap();
        for (path, mode) in [("/new", 0o4755), ("/new", 0o600), ("/link", 0o644)] {
            let spot = root.spot(path).unwrap();
            place_file(&spot, &wanted(mode), Some(Digest::of(b"text")), Content::Bytes(&mut &b"text"[..])).unwrap();
            let meta = std::fs::symlink_metadata(root.outside(path)).unwrap();
            assert!(meta.is_file());
            assert_eq!(meta.mode() & 0o7777, mode);
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn what_was_judged_is_placed_whole_and_moved_only_where_that_is_the_same() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let digest = Digest::of(&bytes);
        // What a folder gives to the files in it: everything to their owner, reading to the rest.
        let list = [2, 0x7_0001, u32::MAX, 0x5_0004, u32::MAX, 0x5_0020, u32::MAX];
        let list: Vec<u8> = list.into_iter().flat_map(u32::to_le_bytes).collect();
        for (is_spare, has_label, has_list, moves) in [
            (true, false, false, true),
            (false, false, false, false),
            (true, true, false, false),
            (true, false, true, false),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let root = Root::open(temp.path(), Trust::Everybody).unwrap();
            let source = temp.path().join("source");
            std::fs::write(&source, &bytes).unwrap();
            let file = File::open(&source).unwrap();
            if has_label {
                fs::fsetxattr(&file, "user.label", b"x", XattrFlags::empty()).unwrap();
            }
            if has_list {
                fs::setxattr(temp.path(), "system.posix_acl_default", &list, XattrFlags::empty()).unwrap();
            }
            let before = file.metadata().unwrap().ino();
            let content = Content::Judged { file: &file, digest, spare: is_spare.then_some(&*source) };
            let placed = place_file(&root.spot("/f").unwrap(), &wanted(0o640), Some(digest), content).unwrap();
            assert_eq!((placed.digest, placed.size), (digest, 300_000));
            placed.file.sync_all().unwrap();
            let there = std::fs::metadata(temp.path().join("f")).unwrap();
            assert_eq!((there.ino() == before, source.exists(), there.mode() & 0o7777), (moves, !moves, 0o640));
            assert!(std::fs::read(temp.path().join("f")).unwrap() == bytes);
            assert_eq!(
                std::fs::read_dir(temp.path()).unwrap().count(),
                1 + usize::from(!moves),
                "nothing is left beside"
            );
        }
    }

    #[test]
    fn damaged_content_never_takes_the_name() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path(), Trust::Everybody).unwrap();
        let spot = root.spot("/f").unwrap();
        let error = place_file(&spot, &wanted(0o644), Some(Digest::of(b"other")), Content::Bytes(&mut &b"text"[..]))
            .unwrap_err();
        assert!(error.source.to_string().contains("damaged"));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn attributes_of_a_replaced_file_come_back() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path(), Trust::Everybody).unwrap();
        std::fs::write(temp.path().join("f"), "before").unwrap();
        let file = File::open(temp.path().join("f")).unwrap();
        fs::fsetxattr(&file, "user.note", b"kept", XattrFlags::empty()).unwrap();
        set_mtime(&file, 1_234_567_890_123_456_789).unwrap();
        let before = observe(&root, "/f").unwrap();
        let spot = root.spot("/f").unwrap();
        place_file(&spot, &wanted(0o600), None, Content::Bytes(&mut &b"after"[..])).unwrap();
        assert!(!observe(&root, "/f").unwrap().agrees(&before));
        place_file(&spot, &before, Some(Digest::of(b"before")), Content::Bytes(&mut &b"before"[..])).unwrap();
        assert_eq!(observe(&root, "/f").unwrap(), before);
    }

    #[test]
    fn removing_a_tree_leaves_what_links_point_to() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path(), Trust::Everybody).unwrap();
        std::fs::create_dir_all(temp.path().join("a/b/c")).unwrap();
        std::fs::create_dir(temp.path().join("kept")).unwrap();
        std::fs::write(temp.path().join("kept/f"), "").unwrap();
        symlink("../../kept", temp.path().join("a/b/link")).unwrap();
        let spot = root.spot("/a").unwrap();
        assert_eq!(remove(&spot).unwrap_err().source.kind(), io::ErrorKind::DirectoryNotEmpty);
        remove_tree(&spot).unwrap();
        assert_eq!(observe(&root, "/a").unwrap(), Node::Absent);
        assert!(temp.path().join("kept/f").exists());
    }
}
