//! Layers, written so that equal entries give equal bytes.
//!
//! Nothing of the machine gets into the archive: no names of users, no clock, no order but that of the entries. What does not
//! fit a header's field is said by a PAX header before it, and only then is there one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::num::NonZero;

use charly_ir::Digest;
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::compress::{Compression, Packer};
use super::{Entry, Kind, LayerError};

/// What whiteouts' names begin with.
pub(super) const WHITEOUT: &str = ".wh.";
/// The name that makes its folder opaque.
pub(super) const OPAQUE: &str = ".wh..wh..opq";
/// What PAX records of extended attributes begin with.
pub(super) const XATTR: &str = "SCHILY.xattr.";

const BLOCK: usize = 512;

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob.
    pub size: u64,
    /// The digest of the archive before compression.
    pub diff_id: Digest,
    /// The size of the archive before compression.
    pub uncompressed: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

impl Layer {
    /// Returns the blob's media type.
    pub fn media_type(&self) -> MediaType {
        self.compression.media_type()
    }
}

/// Writes a layer, entry by entry.
#[expect(missing_debug_implementations, reason = "it is a buffer and threads")]
pub struct LayerWriter<W: Write + Send> {
    packer: Packer<W>,
    compression: Compression,
}

impl<W: Write + Send> LayerWriter<W> {
    /// Begins a layer; its bytes do not depend on the number of threads that compress it.
    pub fn new(out: W, compression: Compression, threads: NonZero<usize>) -> Self {
        Self { packer: Packer::new(out, compression, threads), compression }
    }

    /// Writes what the layer says about one path. Only a file's content is read, which must have the size that is said.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        let record = Record::of(entry)?;
        self.header(entry, &record)?;
        match &entry.kind {
            Kind::File { size } => self.content(entry, *size, content),
            Kind::OpaqueDir => {
                let path = if entry.path.is_empty() { OPAQUE.into() } else { format!("{}/{OPAQUE}", entry.path) };
                let mark = Record { path, entry_type: EntryType::Regular, size: 0, link: "", device: None };
                self.header(entry, &mark)
            }
            _ => Ok(()),
        }
    }

    /// Ends the layer.
    pub fn finish(mut self) -> Result<(W, Layer), LayerError> {
        self.packer.write_all(&[0; 2 * BLOCK]).map_err(LayerError::Write)?;
        let (out, sums) = self.packer.finish().map_err(LayerError::Write)?;
        let layer = Layer {
            digest: sums.packed,
            size: sums.packed_size,
            diff_id: sums.plain,
            uncompressed: sums.plain_size,
            compression: self.compression,
        };
        Ok((out, layer))
    }

    fn header(&mut self, entry: &Entry, record: &Record<'_>) -> Result<(), LayerError> {
        let mut records = BTreeMap::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(record.entry_type);
        header.set_mode(entry.mode & 0o7777);
        // What has no field large enough is 0 there.
        let mut number = |key: &str, value: u64, digits: u32| {
            if value < 8_u64.pow(digits) {
                return value;
            }
            records.insert(key.to_owned(), value.to_string().into_bytes());
            0
        };
        header.set_uid(number("uid", entry.uid.into(), 7));
        header.set_gid(number("gid", entry.gid.into(), 7));
        header.set_mtime(number("mtime", entry.mtime, 11));
        header.set_size(number("size", record.size, 11));
        if let Some(ustar) = header.as_ustar_mut()
            && !set_path(ustar, record.path.as_bytes())
        {
            records.insert("path".to_owned(), record.path.clone().into_bytes());
        }
        if let Some(ustar) = header.as_ustar_mut()
            && !set(&mut ustar.linkname, record.link.as_bytes())
        {
            records.insert("linkpath".to_owned(), record.link.as_bytes().to_vec());
        }
        let (major, minor) = record.device.unwrap_or_default();
        let fits = major < 1 << 21 && minor < 1 << 21;
        if !fits || header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).is_err() {
            return Err(unwritable(entry, "its device number is too large"));
        }
        header.set_cksum();
        for (name, value) in &entry.xattrs {
            if name.contains(['=', '\0']) {
                return Err(unwritable(entry, "an extended attribute has `=` in its name"));
            }
            records.insert(format!("{XATTR}{name}"), value.clone());
        }
        if !records.is_empty() {
            self.pax(&record.path, &records)?;
        }
        self.packer.write_all(header.as_bytes()).map_err(LayerError::Write)
    }

    /// Writes the header that says what the next has no room for.
    fn pax(&mut self, path: &str, records: &BTreeMap<String, Vec<u8>>) -> Result<(), LayerError> {
        let mut body = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            body.extend(format!("{length} {key}=").bytes());
            body.extend(value);
            body.push(b'\n');
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name: String = name.chars().take(20).collect();
        if let Some(ustar) = header.as_ustar_mut() {
            set(&mut ustar.name, format!("PaxHeaders/{name}").as_bytes());
        }
        header.set_cksum();
        self.packer.write_all(header.as_bytes()).map_err(LayerError::Write)?;
        self.packer.write_all(&body).map_err(LayerError::Write)?;
        self.pad()
    }

    fn content(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let other_size = || LayerError::Size { path: entry.path.clone(), size };
        let unread = |source| LayerError::Content { path: entry.path.clone(), source };
        let mut left = size;
        while left > 0 {
            let count = self.packer.fill(content, left).map_err(unread)?;
            if count == 0 {
                return Err(other_size());
            }
            self.packer.advance(count).map_err(LayerError::Write)?;
            left -= count;
        }
        if self.packer.fill(content, 1).map_err(unread)? > 0 {
            return Err(other_size());
        }
        self.pad()
    }

    /// Fills the block that is begun.
    fn pad(&mut self) -> Result<(), LayerError> {
        let begun = usize::try_from(self.packer.plain_size() % BLOCK as u64).unwrap_or_default();
        let zeros = [0; BLOCK];
        self.packer.write_all(&zeros[begun..][..(BLOCK - begun) % BLOCK]).map_err(LayerError::Write)
    }
}

/// One header's part of an entry.
struct Record<'a> {
    path: String,
    entry_type: EntryType,
    size: u64,
    link: &'a str,
    device: Option<(u32, u32)>,
}

impl<'a> Record<'a> {
    fn of(entry: &'a Entry) -> Result<Self, LayerError> {
        let Entry { path, kind, mode: _, uid: _, gid: _, mtime: _, xattrs: _ } = entry;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_root = path.is_empty();
        if !is_root && path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(unwritable(entry, "it is no plain path below the root"));
        }
        if path.split('/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(unwritable(entry, "names that begin with `.wh.` mean in layers that something is gone"));
        }
        if is_root && !matches!(kind, Kind::Dir | Kind::OpaqueDir) {
            return Err(unwritable(entry, "the root is a folder"));
        }
        let record = |entry_type| Self { path: path.clone(), entry_type, size: 0, link: "", device: None };
        Ok(match kind {
            Kind::File { size } => Self { size: *size, ..record(EntryType::Regular) },
            Kind::Dir | Kind::OpaqueDir => {
                let path = if is_root { "./".into() } else { format!("{path}/") };
                Self { path, ..record(EntryType::Directory) }
            }
            Kind::Symlink { target } => Self { link: target, ..record(EntryType::Symlink) },
            Kind::Hardlink { target } => Self { link: target, ..record(EntryType::Link) },
            Kind::CharDevice { major, minor } => Self { device: Some((*major, *minor)), ..record(EntryType::Char) },
            Kind::BlockDevice { major, minor } => Self { device: Some((*major, *minor)), ..record(EntryType::Block) },
            Kind::Fifo => record(EntryType::Fifo),
            Kind::Whiteout => {
                let slash = if folders.is_empty() { "" } else { "/" };
                Self { path: format!("{folders}{slash}{WHITEOUT}{name}"), ..record(EntryType::Regular) }
            }
        })
    }
}

fn unwritable(entry: &Entry, why: &'static str) -> LayerError {
    LayerError::Unwritable { path: entry.path.clone(), why }
}

/// Puts text into a field; tells whether it fits. What does not is cut, for readers that know no PAX.
fn set(field: &mut [u8], text: &[u8]) -> bool {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    text.len() <= field.len()
}

/// Puts a path into the name, or at one of its slashes into the prefix and the name.
fn set_path(header: &mut tar::UstarHeader, path: &[u8]) -> bool {
    if path.len() > header.name.len() {
        let end = path.len().min(header.prefix.len() + 1);
        let slash = (1..end).rev().find(|&at| path[at] == b'/' && at + 1 < path.len());
        if let Some(at) = slash.filter(|&at| path.len() - at - 1 <= header.name.len()) {
            return set(&mut header.prefix, &path[..at]) && set(&mut header.name, &path[at + 1..]);
        }
    }
    set(&mut header.name, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 1, xattrs: BTreeMap::new() }
    }

    fn written(entries: &[Entry]) -> Result<Vec<u8>, LayerError> {
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, NonZero::<usize>::MIN);
        for entry in entries {
            let size = if let Kind::File { size } = entry.kind { size } else { 0 };
            writer.append(entry, &mut io::repeat(b'x').take(size))?;
        }
        Ok(writer.finish()?.0)
    }

    #[test]
    fn another_program_reads_the_same() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let longer = format!("{}/{}", "d".repeat(160), "é".repeat(90));
        let mut large = entry(&long, Kind::File { size: 3 });
        large.uid = 3_000_000_000;
        large.xattrs.insert("user.a".into(), vec![0, 11, 255]);
        let bytes = written(&[
            entry("", Kind::Dir),
            large,
            entry(&longer, Kind::Symlink { target: "t".repeat(101) }),
            entry("a", Kind::Whiteout),
            entry("b", Kind::OpaqueDir),
            entry("b/c", Kind::Whiteout),
        ])
        .unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        for read in archive.entries().unwrap() {
            let mut read = read.unwrap();
            names.push(String::from_utf8(read.path_bytes().into_owned()).unwrap());
            if names.len() == 2 {
                let pax: Vec<_> = read
                    .pax_extensions()
                    .unwrap()
                    .unwrap()
                    .map(|record| {
                        let record = record.unwrap();
                        (record.key().unwrap().to_owned(), record.value_bytes().to_vec())
                    })
                    .collect();
                let want =
                    [("SCHILY.xattr.user.a".to_owned(), vec![0, 11, 255]), ("uid".into(), b"3000000000".to_vec())];
                assert_eq!(pax, want);
            }
            if names.len() == 3 {
                assert_eq!(read.link_name_bytes().unwrap().into_owned(), "t".repeat(101).into_bytes());
            }
        }
        assert_eq!(names, ["./", &long, &longer, ".wh.a", "b/", "b/.wh..wh..opq", "b/.wh.c"]);
    }

    #[test]
    fn a_content_of_another_size_is_refused() {
        for (size, given) in [(3, 2), (3, 4), (0, 1), (1 << 20, (1 << 20) + 1), (1 << 20, (1 << 20) - 1)] {
            let mut writer = LayerWriter::new(Vec::new(), Compression::None, NonZero::<usize>::MIN);
            let done = writer.append(&entry("f", Kind::File { size }), &mut io::repeat(0).take(given));
            assert!(matches!(done, Err(LayerError::Size { .. })), "{size} {given}");
        }
    }

    #[test]
    fn what_a_layer_cannot_say_is_refused() {
        let file = || Kind::File { size: 0 };
        let mut odd = entry("a", file());
        odd.xattrs.insert("user.a=b".into(), Vec::new());
        let device = entry("a", Kind::CharDevice { major: 1 << 21, minor: 0 });
        let names =
            ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0b", ".wh.a", "a/.wh.b/c"].map(|path| entry(path, file()));
        for entry in names.iter().chain([&odd, &device]) {
            let done = written(std::slice::from_ref(entry));
            assert!(matches!(done, Err(LayerError::Unwritable { .. })), "{entry:?}");
        }
    }
}
