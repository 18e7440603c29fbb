//! Looks at files below a root, links followed as the root sees them.
//!
//! This only reads. What charly changes is found by the [walk](crate::tree) that trusts no link.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};

/// Tells whether a root is the machine's own.
pub(crate) fn is_live(root: &Path) -> bool {
    root == Path::new("/")
}

/// Returns what is at a path, following a link there or not.
pub(crate) fn stat(root: &Path, path: &str, follow: bool) -> io::Result<Stat> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    Ok(fstat(open_at(root, path, OFlags::PATH | nofollow)?)?)
}

/// Opens a regular file; anything else is refused, and a FIFO not waited for.
pub(crate) fn open_file(root: &Path, path: &str) -> io::Result<File> {
    let file = open_at(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Reads a regular file's first bytes as text, those that are not UTF-8 replaced.
pub(crate) fn read_text(root: &Path, path: &str, cap: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_file(root, path)?.take(cap).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Tells whether there is something at a path, a link followed.
pub(crate) fn exists(root: &Path, path: &str) -> bool {
    stat(root, path, true).is_ok()
}

fn open_at(root: &Path, path: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    if is_live(root) {
        return Ok(open(path, flags, Mode::empty())?.into());
    }
    let dir = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_the_roots_own() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/inside"), "in").unwrap();
        symlink("/etc/inside", root.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", root.join("etc/out")).unwrap();
        assert_eq!(read_text(root, "/absolute", 99).unwrap(), "in");
        assert_eq!(read_text(root, "/absolute", 1).unwrap(), "i");
        assert!(!exists(root, "/etc/out") && stat(root, "/etc/out", false).is_ok());
        assert!(open_file(root, "/etc").is_err());
    }
}
