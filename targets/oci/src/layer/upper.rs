//! An overlay's upper folder as a layer's entries: what [`unpack`](super::unpack()) does, backwards.
//!
//! The root itself is left out: what an overlay's root folder looks like is chance. Of the attributes only those that other
//! builders keep too are kept: capabilities, and those of users.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Entry, Kind, LayerError, OverlayXattrs};

/// Returns what an upper folder says, sorted by path, and where the contents are.
pub fn entries(folder: &Path, xattrs: OverlayXattrs) -> Result<Vec<(Entry, PathBuf)>, LayerError> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), folder.to_path_buf())];
    while let Some((prefix, folder)) = folders.pop() {
        let unread = || LayerError::file(&folder, "read");
        for file in std::fs::read_dir(&folder).map_err(unread())? {
            let file = file.map_err(unread())?;
            let path = file.path();
            let name = file.file_name();
            let Some(name) = name.to_str() else {
                let path = format!("{prefix}{}", name.to_string_lossy());
                return Err(LayerError::Unwritable { path, why: "its name is no UTF-8" });
            };
            let metadata = path.symlink_metadata().map_err(LayerError::file(&path, "read"))?;
            let Some(entry) = entry(format!("{prefix}{name}"), &path, &metadata, xattrs)? else {
                continue;
            };
            if matches!(entry.kind, Kind::Dir | Kind::OpaqueDir) {
                folders.push((format!("{}/", entry.path), path.clone()));
            }
            let inode = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
            found.push((entry, path, inode));
        }
    }
    found.sort_by(|(one, ..), (other, ..)| one.path.cmp(&other.path));
    let mut first: HashMap<(u64, u64), String> = HashMap::new();
    let linked = found.into_iter().map(|(mut entry, path, inode)| {
        if let (Kind::File { .. }, Some(inode)) = (&entry.kind, inode) {
            match first.get(&inode) {
                Some(target) => entry.kind = Kind::Hardlink { target: target.clone() },
                None => {
                    first.insert(inode, entry.path.clone());
                }
            }
        }
        (entry, path)
    });
    Ok(linked.collect())
}

fn entry(path: String, at: &Path, metadata: &Metadata, overlay: OverlayXattrs) -> Result<Option<Entry>, LayerError> {
    let file_type = metadata.file_type();
    let device = || (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let mut kind = if file_type.is_file() {
        Kind::File { size: metadata.size() }
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        let target = std::fs::read_link(at).map_err(LayerError::file(at, "read"))?;
        let Some(target) = target.to_str() else {
            return Err(LayerError::Unwritable { path, why: "its target is no UTF-8" });
        };
        Kind::Symlink { target: target.to_owned() }
    } else if file_type.is_char_device() {
        match device() {
            (0, 0) => Kind::Whiteout,
            (major, minor) => Kind::CharDevice { major, minor },
        }
    } else if file_type.is_block_device() {
        let (major, minor) = device();
        Kind::BlockDevice { major, minor }
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else {
        // A socket is of no use without who listens on it.
        return Ok(None);
    };
    let mut xattrs = BTreeMap::new();
    if kind != Kind::Whiteout {
        for name in attributes(at).map_err(LayerError::file(at, "read"))? {
            if let Some(note) = name.strip_prefix(overlay.prefix()) {
                match note {
                    "opaque" if kind == Kind::Dir && value(at, &name)? == b"y" => kind = Kind::OpaqueDir,
                    "whiteout" => kind = Kind::Whiteout,
                    "redirect" | "metacopy" => return Err(LayerError::Redirected { path: at.to_path_buf() }),
                    _ => {}
                }
            } else if name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.") {
                let value = value(at, &name)?;
                xattrs.insert(name, value);
            }
        }
    }
    if kind == Kind::Whiteout {
        // What a whiteout itself looks like means nothing.
        return Ok(Some(Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }));
    }
    let mode = if file_type.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 };
    let (uid, gid) = (metadata.uid(), metadata.gid());
    Ok(Some(Entry { path, kind, mode, uid, gid, mtime: u64::try_from(metadata.mtime()).unwrap_or(0), xattrs }))
}

fn attributes(path: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Err(Errno::RANGE) if names.len() <= 64 << 10 => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            length => break length?,
        }
    };
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    // Nobody's attributes that are kept have other names.
    Ok(names.filter_map(|name| std::str::from_utf8(name).ok()).map(str::to_owned).collect())
}

fn value(path: &Path, name: &str) -> Result<Vec<u8>, LayerError> {
    let mut value = vec![0; 64 << 10];
    let length =
        rustix::fs::lgetxattr(path, OsStr::new(name), &mut value[..]).map_err(LayerError::file(path, "read"))?;
    value.truncate(length);
    Ok(value)
}
