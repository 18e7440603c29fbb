//! Layers of others, read with suspicion.
//!
//! Names are brought into the form of [`Entry::path`] or refused; whiteouts become entries of their own kind; attributes that
//! would command an overlay are dropped. What a layer may cost in memory and time is bounded by [`Limits`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use tar::{EntryType, Header};

use super::write::{OPAQUE, WHITEOUT, XATTR};
use super::{Compression, Entry, Kind, LayerError};

const BLOCK: u64 = 512;
/// The most that headers of one entry may say beyond its own; what Go's reader takes too.
const MAX_EXTENSION: u64 = 1 << 20;
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
/// Frames that need more memory than this for looking back are refused; it is what zstd itself takes unasked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What a layer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most entries.
    pub entries: u64,
    /// The most bytes before compression.
    pub bytes: u64,
    /// The most bytes of names, links and attributes together.
    pub names: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30, names: 256 << 20 }
    }
}

/// Returns a stream's bytes before compression, and what its first bytes say it is compressed with.
pub fn decompress<'a>(input: impl Read + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut input = input;
    let mut start = Vec::new();
    (&mut input).take(4).read_to_end(&mut start)?;
    let compression = Compression::of_magic(&start);
    let whole = BufReader::with_capacity(128 << 10, io::Cursor::new(start).chain(input));
    let plain: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((compression, plain))
}

/// Reads a layer, entry by entry; as a reader it is the content of the entry it returned last.
#[expect(missing_debug_implementations, reason = "it is a stream and where it is")]
pub struct LayerReader<R> {
    input: R,
    name: String,
    limits: Limits,
    /// What of the current content was not read yet.
    left: u64,
    /// What follows it to the end of its block.
    padding: u64,
    entries: u64,
    bytes: u64,
    names: u64,
    global: BTreeMap<String, Vec<u8>>,
    /// A header that was read to see what it is.
    ahead: Option<Entry>,
    done: bool,
}

impl<'a> LayerReader<Box<dyn Read + Send + 'a>> {
    /// Begins to read a layer, compressed or not. The name is for messages.
    pub fn new(input: impl Read + Send + 'a, name: &str, limits: Limits) -> Result<Self, LayerError> {
        let (_, input) = decompress(input).map_err(|source| LayerError::Read { layer: name.to_owned(), source })?;
        Ok(Self::of_tar(input, name, limits))
    }
}

impl<R: Read> LayerReader<R> {
    /// Begins to read a layer that is not compressed.
    pub fn of_tar(input: R, name: &str, limits: Limits) -> Self {
        Self {
            input,
            name: name.to_owned(),
            limits,
            left: 0,
            padding: 0,
            entries: 0,
            bytes: 0,
            names: 0,
            global: BTreeMap::new(),
            ahead: None,
            done: false,
        }
    }

    /// Returns the layer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is read from; after a file's entry it stands where the content begins.
    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    /// Goes on to the next entry, in the archive's order. A whiteout that makes a folder opaque is one entry with the folder's
    /// own when it follows that directly.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        let entry = match self.ahead.take() {
            Some(entry) => Some(entry),
            None => self.header()?,
        };
        let mut entry = match entry {
            Some(entry) if entry.kind == Kind::Dir => entry,
            other => return Ok(other),
        };
        // A folder has no content, so the next header may be looked at.
        match self.header()? {
            Some(next) if next.kind == Kind::OpaqueDir && next.path == entry.path => entry.kind = Kind::OpaqueDir,
            next => self.ahead = next,
        }
        Ok(Some(entry))
    }

    /// Reads what follows the archive's end, and returns the stream at its own.
    pub fn finish(mut self) -> Result<R, LayerError> {
        while self.next_entry()?.is_some() {}
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = self.input.read(&mut buffer).map_err(|source| self.unread(source))?;
            if count == 0 {
                return Ok(self.input);
            }
            self.count_bytes(count as u64)?;
        }
    }

    /// Reads on to the end of the current content's last block.
    fn skip(&mut self) -> Result<(), LayerError> {
        let count = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink());
        match skipped {
            Ok(done) if done == count => Ok(()),
            Ok(_) => Err(self.unread(io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.unread(source)),
        }
    }

    /// Reads the next entry's headers; the content follows.
    fn header(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip()?;
        let mut own = BTreeMap::new();
        let mut long_name = None;
        let mut long_link = None;
        let mut extensions = 0;
        while !self.done {
            let Some(header) = self.block()? else {
                self.done = true;
                break;
            };
            let size = header.entry_size().map_err(|_| self.malformed("a size is no number"))?;
            let entry_type = header.entry_type();
            match entry_type {
                EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    extensions = size.saturating_add(extensions);
                    if extensions > MAX_EXTENSION {
                        let what = "bytes in the headers of one entry";
                        return Err(LayerError::TooMuch { layer: self.name.clone(), what, limit: MAX_EXTENSION });
                    }
                    let body = self.body(size)?;
                    match entry_type {
                        EntryType::XHeader => self.records(&body, &mut own)?,
                        EntryType::XGlobalHeader => {
                            let mut global = std::mem::take(&mut self.global);
                            self.records(&body, &mut global)?;
                            // Git writes its commit here; sizes and names for all entries would be nonsense.
                            global.retain(|key, _| matches!(key.as_str(), "uid" | "gid" | "mtime"));
                            self.global = global;
                        }
                        EntryType::GNULongName => long_name = Some(until_nul(body)),
                        _ => long_link = Some(until_nul(body)),
                    }
                }
                _ => {
                    let said = Said { header: &header, own: &own, global: &self.global };
                    let size = said.number("size", Some(size)).ok_or_else(|| self.malformed("a size is no number"))?;
                    let name = own.get("path").cloned().or(long_name.take());
                    let name = name.map_or_else(|| header.path_bytes(), Cow::Owned);
                    let link = own.get("linkpath").cloned().or(long_link.take());
                    let link = link.map_or_else(|| header.link_name_bytes().unwrap_or_default(), Cow::Owned);
                    let entry = self.entry(&said, &name, &link)?;
                    let sparse = own.keys().any(|key| key.starts_with("GNU.sparse."));
                    if sparse || entry_type == EntryType::GNUSparse {
                        return Err(self.refused(&name, "a file written with holes, which layers are not"));
                    }
                    // What is no file has no content, whatever its size says; readers agree on that for these types alone.
                    let has_content = !matches!(
                        entry_type,
                        EntryType::Directory
                            | EntryType::Symlink
                            | EntryType::Link
                            | EntryType::Char
                            | EntryType::Block
                            | EntryType::Fifo
                    );
                    let size = if has_content { size } else { 0 };
                    self.count_bytes(size)?;
                    (self.left, self.padding) = (size, size.wrapping_neg() % BLOCK);
                    own.clear();
                    extensions = 0;
                    if let Some(mut entry) = entry {
                        if let Kind::File { size: told } = &mut entry.kind {
                            *told = size;
                        }
                        self.count_entry(&entry)?;
                        return Ok(Some(entry));
                    }
                    self.skip()?;
                }
            }
        }
        if own.is_empty() && long_name.is_none() && long_link.is_none() {
            Ok(None)
        } else {
            Err(self.malformed("it ends within an entry"))
        }
    }

    /// Reads one header; there is none at the archive's end.
    fn block(&mut self) -> Result<Option<Header>, LayerError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                // Some writers leave out the blocks that end an archive.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.unread(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unread(source)),
            }
        }
        self.count_bytes(BLOCK)?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.malformed("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        self.count_bytes(size)?;
        let mut body = Vec::new();
        let read = (&mut self.input).take(size).read_to_end(&mut body);
        match read {
            Ok(count) if count as u64 == size => {}
            Ok(_) => return Err(self.unread(io::ErrorKind::UnexpectedEof.into())),
            Err(source) => return Err(self.unread(source)),
        }
        (self.left, self.padding) = (0, size.wrapping_neg() % BLOCK);
        self.skip()?;
        Ok(body)
    }

    /// Reads the records of a PAX header: "LENGTH KEY=VALUE\n".
    fn records(&self, mut body: &[u8], records: &mut BTreeMap<String, Vec<u8>>) -> Result<(), LayerError> {
        let wrong = || self.malformed("a PAX header is not made of records");
        while !body.is_empty() {
            let space = body.iter().take(20).position(|&byte| byte == b' ').ok_or_else(wrong)?;
            let length = number(&body[..space]).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|&length| length > space + 1 && length <= body.len()).ok_or_else(wrong)?;
            let record = body[space + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| wrong())?;
            // An empty value takes back what an earlier header said.
            match &record[equals + 1..] {
                [] if !key.starts_with(XATTR) => records.remove(key),
                value => records.insert(key.to_owned(), value.to_vec()),
            };
            body = &body[length..];
        }
        Ok(())
    }

    /// Makes an entry of what its headers say; some are of no use to anybody.
    fn entry(&self, said: &Said<'_>, name: &[u8], link: &[u8]) -> Result<Option<Entry>, LayerError> {
        let header = said.header;
        let mut path = self.path(name)?;
        let wrong = |_| self.malformed("a number in a header is none");
        let wrong_record = || self.malformed("a number in a PAX header is none");
        let id = |key, field: io::Result<u64>| {
            let id = said.number(key, field.ok()).ok_or_else(wrong_record)?;
            // The greatest stands for nobody where owners are given.
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| self.refused(name, "whose owner is no number of 32 bits"))
        };
        let device = || -> Result<(u32, u32), LayerError> {
            let major = header.device_major().map_err(wrong)?;
            let minor = header.device_minor().map_err(wrong)?;
            Ok((major.unwrap_or_default(), minor.unwrap_or_default()))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File { size: 0 },
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink { target: self.target(name, link)? },
            EntryType::Link => Kind::Hardlink { target: self.path(link)? },
            EntryType::Char => match device()? {
                // An overlay takes this device for a whiteout, so that is what it is.
                (0, 0) => Kind::Whiteout,
                (major, minor) => Kind::CharDevice { major, minor },
            },
            EntryType::Block => {
                let (major, minor) = device()?;
                Kind::BlockDevice { major, minor }
            }
            EntryType::Fifo => Kind::Fifo,
            _ => return Err(self.refused(name, "which is of a kind that layers do not have")),
        };
        let Some(kind) = self.whiteout(name, &mut path, kind)? else {
            return Ok(None);
        };
        if path.is_empty() && !matches!(kind, Kind::Dir | Kind::OpaqueDir) {
            return Err(self.refused(name, "which would be the root and is no folder"));
        }
        if matches!(&kind, Kind::Hardlink { target } if *target == path || target.is_empty()) {
            return Err(self.refused(name, "a hard link to no other file"));
        }
        let mut xattrs = BTreeMap::new();
        for (key, value) in said.own {
            let Some(attribute) = key.strip_prefix(XATTR) else {
                continue;
            };
            if attribute.is_empty() || attribute.len() > MAX_NAME || attribute.contains('\0') {
                return Err(self.refused(name, "with an extended attribute of an impossible name"));
            }
            if !attribute.starts_with("trusted.overlay.") && !attribute.starts_with("user.overlay.") {
                xattrs.insert(attribute.to_owned(), value.clone());
            }
        }
        Ok(Some(Entry {
            path,
            kind,
            mode: header.mode().map_err(wrong)? & 0o7777,
            uid: id("uid", header.uid())?,
            gid: id("gid", header.gid())?,
            mtime: said.time(header.mtime().ok()).ok_or_else(wrong_record)?,
            xattrs,
        }))
    }

    /// Recognises the names that stand for what is gone.
    fn whiteout(&self, name: &[u8], path: &mut String, kind: Kind) -> Result<Option<Kind>, LayerError> {
        let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
        // These are notes of an older storage driver to itself.
        let is_note = |part: &str| part.starts_with(".wh..wh.") && part != OPAQUE;
        if path.split('/').any(is_note) {
            return Ok(None);
        }
        if folder.split('/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(self.refused(name, "which is below a whiteout"));
        }
        let kind = match last.strip_prefix(WHITEOUT) {
            None => return Ok(Some(kind)),
            Some("" | "." | "..") => return Err(self.refused(name, "a whiteout of nothing")),
            Some(_) if last == OPAQUE => {
                *path = folder.to_owned();
                Kind::OpaqueDir
            }
            Some(gone) => {
                let slash = if folder.is_empty() { "" } else { "/" };
                *path = format!("{folder}{slash}{gone}");
                Kind::Whiteout
            }
        };
        Ok(Some(kind))
    }

    /// Brings a name into the form of [`Entry::path`], as the programs that run images do.
    fn path(&self, name: &[u8]) -> Result<String, LayerError> {
        let text = self.target(name, name)?;
        let mut path = String::with_capacity(text.len());
        for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                return Err(self.refused(name, "which leads out of the layer"));
            }
            if part.len() > MAX_NAME {
                return Err(self.refused(name, "which is longer than names can be"));
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
        }
        Ok(path)
    }

    fn target(&self, name: &[u8], text: &[u8]) -> Result<String, LayerError> {
        if text.len() > MAX_PATH {
            return Err(self.refused(name, "which is longer than names can be"));
        }
        let text = std::str::from_utf8(text).map_err(|_| self.refused(name, "which is no UTF-8"))?;
        if text.contains('\0') {
            return Err(self.refused(name, "which has a NUL within"));
        }
        Ok(text.to_owned())
    }

    fn count_bytes(&mut self, count: u64) -> Result<(), LayerError> {
        self.bytes = self.bytes.saturating_add(count);
        self.check("bytes", self.bytes, self.limits.bytes)
    }

    fn count_entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.entries += 1;
        let link = match &entry.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => target.len(),
            _ => 0,
        };
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.names += (entry.path.len() + link + attributes) as u64;
        self.check("entries", self.entries, self.limits.entries)?;
        self.check("bytes of names", self.names, self.limits.names)
    }

    fn check(&self, what: &'static str, count: u64, limit: u64) -> Result<(), LayerError> {
        if count > limit {
            return Err(LayerError::TooMuch { layer: self.name.clone(), what, limit });
        }
        Ok(())
    }

    fn unread(&self, source: io::Error) -> LayerError {
        LayerError::Read { layer: self.name.clone(), source }
    }

    fn malformed(&self, why: &'static str) -> LayerError {
        LayerError::Malformed { layer: self.name.clone(), why }
    }

    fn refused(&self, name: &[u8], why: &'static str) -> LayerError {
        let path = String::from_utf8_lossy(&name[..name.len().min(200)]).escape_debug().to_string();
        LayerError::Refused { layer: self.name.clone(), path, why }
    }
}

impl<R: Read> Read for LayerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 || self.ahead.is_some() {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// What the headers of one entry say.
struct Said<'a> {
    header: &'a Header,
    own: &'a BTreeMap<String, Vec<u8>>,
    global: &'a BTreeMap<String, Vec<u8>>,
}

impl Said<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.own.get(key).or_else(|| self.global.get(key)).map(Vec::as_slice)
    }

    fn number(&self, key: &str, field: Option<u64>) -> Option<u64> {
        self.value(key).map_or(field, number)
    }

    /// Whole seconds are kept; what was before 1970 is 1970.
    fn time(&self, field: Option<u64>) -> Option<u64> {
        let Some(value) = self.value("mtime") else {
            return Some(field.unwrap_or_default());
        };
        if value.first() == Some(&b'-') {
            return Some(0);
        }
        number(value.split(|&byte| byte == b'.').next().unwrap_or_default())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn until_nul(mut body: Vec<u8>) -> Vec<u8> {
    if let Some(end) = body.iter().position(|&byte| byte == 0) {
        body.truncate(end);
    }
    body
}

#[cfg(test)]
mod tests;
