//! What each layer says, remembered beside the blobs so that a base is read once.
//!
//! A file of it that is damaged, or of another version of this format, is as good as none: it is made again from the blob.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use charly_ir::Digest;
use charly_ir::digest::Hasher;

use super::{Store, StoreError};
use crate::layer::{Ahead, Compression, Entry, Kind, LayerError, LayerReader, Limits, list};

const MAGIC: &[u8] = b"charly entries 1\n";

/// Files whose contents are kept too, where they are no larger than [`MAX_SMALL`].
pub const SMALL: [&str; 5] = ["etc/passwd", "etc/group", "etc/shadow", "etc/os-release", "usr/lib/os-release"];
const MAX_SMALL: u64 = 64 << 10;

/// What a layer says, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What it says, each path once and sorted.
    pub entries: Vec<Entry>,
    /// The contents of a few small files, by path.
    pub small: BTreeMap<String, Vec<u8>>,
    /// The digest of its archive before compression.
    pub diff_id: Digest,
    /// The size of its archive before compression.
    pub uncompressed: u64,
    /// How the blob is compressed, whatever a manifest says.
    pub compression: Compression,
}

impl Store {
    /// Returns what a layer says, each path once and sorted.
    pub fn index_of(&self, layer: &Digest) -> Result<Vec<Entry>, StoreError> {
        Ok(self.contents(layer)?.entries)
    }

    /// Returns the content of one of the small files that are kept, such as `etc/passwd`, where the layer has it.
    pub fn small(&self, layer: &Digest, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents(layer)?.small.remove(path))
    }

    /// Returns what a layer says and is, reading the blob when that was never done.
    pub fn contents(&self, layer: &Digest) -> Result<Contents, StoreError> {
        let path = self.entries_path(layer);
        if let Ok(bytes) = std::fs::read(&path)
            && let Some(contents) = decode(&bytes)
        {
            return Ok(contents);
        }
        let contents = self.read_layer(layer, Limits::default())?;
        self.remember(layer, &contents)?;
        Ok(contents)
    }

    /// Remembers what a layer says, for whoever wrote it and knows.
    pub fn remember(&self, layer: &Digest, contents: &Contents) -> Result<(), StoreError> {
        let path = self.entries_path(layer);
        let mut file = self.temporary()?;
        io::Write::write_all(&mut file, &encode(contents)).map_err(StoreError::file(&path))?;
        // Lost in a crash it is made again, so it is not waited for.
        file.persist(&path).map_err(|error| StoreError::File { path, source: error.error })?;
        Ok(())
    }

    /// Reads a layer's blob from end to end, and checks that it is what it is named after.
    fn read_layer(&self, layer: &Digest, limits: Limits) -> Result<Contents, StoreError> {
        let name = layer.to_string();
        let unread = |source| LayerError::Read { layer: name.clone(), source };
        let mut blob = self.open_blob(layer)?;
        let mut start = [0; 4];
        let count = blob.read(&mut start).map_err(unread)?;
        let compression = Compression::of_magic(&start[..count]);
        let packed = Tap::new(io::Cursor::new(start).take(count as u64).chain(blob));
        // The archive is digested here and the blob there: together they take longer than what unpacks it.
        let plain = Tap::new(Ahead::new(packed));
        let mut reader = LayerReader::of_tar(plain, &name, limits);
        let mut small = BTreeMap::new();
        let entries = list(&mut reader, &mut |entry, content| {
            if let Kind::File { size: 0..=MAX_SMALL } = entry.kind
                && SMALL.contains(&entry.path.as_str())
            {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(unread)?;
                small.insert(entry.path.clone(), bytes);
            }
            Ok(())
        })?;
        let Tap { input, hasher, count: uncompressed } = reader.finish()?;
        let diff_id = hasher.finish();
        let got = input.finish().map_err(unread)?.hasher.finish();
        if got != *layer {
            return Err(self.damaged(*layer, got));
        }
        let is_there = |path: &String| {
            let found = entries.binary_search_by(|entry| entry.path.cmp(path));
            found.is_ok_and(|at| matches!(entries[at].kind, Kind::File { .. }))
        };
        small.retain(|path, _| is_there(path));
        Ok(Contents { entries, small, diff_id, uncompressed, compression })
    }

    fn entries_path(&self, layer: &Digest) -> PathBuf {
        self.folder.join("entries").join(layer.to_string())
    }
}

/// Digests what is read through it.
struct Tap<R> {
    input: R,
    hasher: Hasher,
    count: u64,
}

impl<R> Tap<R> {
    fn new(input: R) -> Self {
        Self { input, hasher: Hasher::new(), count: 0 }
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

fn encode(contents: &Contents) -> Vec<u8> {
    let Contents { entries, small, diff_id, uncompressed, compression } = contents;
    let mut out = Encoder(MAGIC.to_vec());
    out.0.extend(diff_id.bytes());
    out.number(*uncompressed);
    out.0.push(match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Zstd => 2,
    });
    out.number(entries.len() as u64);
    for Entry { path, kind, mode, uid, gid, mtime, xattrs } in entries {
        out.bytes(path.as_bytes());
        out.kind(kind);
        for number in [(*mode).into(), (*uid).into(), (*gid).into(), *mtime, xattrs.len() as u64] {
            out.number(number);
        }
        for (name, value) in xattrs {
            out.bytes(name.as_bytes());
            out.bytes(value);
        }
    }
    out.number(small.len() as u64);
    for (path, content) in small {
        out.bytes(path.as_bytes());
        out.bytes(content);
    }
    let digest = Digest::of(&out.0);
    out.0.extend(digest.bytes());
    out.0
}

fn decode(bytes: &[u8]) -> Option<Contents> {
    let (body, digest) = bytes.split_last_chunk::<32>().filter(|(body, _)| body.starts_with(MAGIC))?;
    if Digest::of(body).bytes() != *digest {
        return None;
    }
    let mut from = Decoder(&body[MAGIC.len()..]);
    let diff_id = from.digest()?;
    let uncompressed = from.number()?;
    let compression = match from.take(1)? {
        [0] => Compression::None,
        [1] => Compression::Gzip,
        [2] => Compression::Zstd,
        _ => return None,
    };
    let mut entries = Vec::new();
    for _ in 0..from.number()? {
        let path = from.text()?;
        let kind = from.kind()?;
        let [mode, uid, gid] = [from.small()?, from.small()?, from.small()?];
        let mtime = from.number()?;
        let mut xattrs = BTreeMap::new();
        for _ in 0..from.number()? {
            xattrs.insert(from.text()?, from.bytes()?.to_vec());
        }
        entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs });
    }
    let mut small = BTreeMap::new();
    for _ in 0..from.number()? {
        small.insert(from.text()?, from.bytes()?.to_vec());
    }
    Some(Contents { entries, small, diff_id, uncompressed, compression })
}

struct Encoder(Vec<u8>);

impl Encoder {
    /// Writes seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::File { size } => {
                self.0.push(0);
                self.number(*size);
            }
            Kind::Dir => self.0.push(1),
            Kind::Symlink { target } => {
                self.0.push(2);
                self.bytes(target.as_bytes());
            }
            Kind::Hardlink { target } => {
                self.0.push(3);
                self.bytes(target.as_bytes());
            }
            Kind::CharDevice { major, minor } => {
                self.0.push(4);
                self.number((*major).into());
                self.number((*minor).into());
            }
            Kind::BlockDevice { major, minor } => {
                self.0.push(5);
                self.number((*major).into());
                self.number((*minor).into());
            }
            Kind::Fifo => self.0.push(6),
            Kind::Whiteout => self.0.push(7),
            Kind::OpaqueDir => self.0.push(8),
        }
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?.try_into().ok()?;
        self.take(count)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    fn digest(&mut self) -> Option<Digest> {
        use std::fmt::Write;
        let hex = self.take(32)?.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").ok();
            hex
        });
        hex.parse().ok()
    }

    fn kind(&mut self) -> Option<Kind> {
        Some(match self.take(1)?[0] {
            0 => Kind::File { size: self.number()? },
            1 => Kind::Dir,
            2 => Kind::Symlink { target: self.text()? },
            3 => Kind::Hardlink { target: self.text()? },
            4 => Kind::CharDevice { major: self.small()?, minor: self.small()? },
            5 => Kind::BlockDevice { major: self.small()?, minor: self.small()? },
            6 => Kind::Fifo,
            7 => Kind::Whiteout,
            8 => Kind::OpaqueDir,
            _ => return None,
        })
    }
}
