//! Members of a tar archive.
//!
//! Extension entries (long names, pax records) are read here rather than by the `tar` crate, which would hold one of any
//! announced size in memory.

use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::UnpackError;
use super::tree::Tree;

/// The largest extension entry. A path is at most 4 KiB; pax adds attributes nobody asks for.
const MAX_EXTENSION: u64 = 256 << 10;

/// What extension entries say about the entry that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    sparse: bool,
}

/// Takes every member that the tree asks for.
pub(super) fn read(format: &'static str, stream: impl Read, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let damaged = |source| UnpackError::Damaged { format, source };
    let limit = tree.byte_limit();
    // One byte more than allowed, so that running into the bound can be told from the end.
    let mut stream = Bounded { stream, left: limit.saturating_add(1), hit: false };
    let done = members(&mut stream, tree, &damaged);
    if stream.hit { Err(UnpackError::Limit { what: "bytes", limit }) } else { done }
}

fn members(
    stream: &mut impl Read,
    tree: &mut Tree<'_>,
    damaged: &impl Fn(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    let mut archive = Archive::new(stream);
    let mut extensions = Extensions::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => extensions.path = Some(name(&mut entry).map_err(damaged)?),
            EntryType::GNULongLink => extensions.link = Some(name(&mut entry).map_err(damaged)?),
            EntryType::XHeader => pax(&extension(&mut entry).map_err(damaged)?, &mut extensions).map_err(damaged)?,
            EntryType::XGlobalHeader => {}
            _ => member(&mut entry, std::mem::take(&mut extensions), tree, damaged)?,
        }
    }
    Ok(())
}

fn member(
    entry: &mut Entry<'_, impl Read>,
    extensions: Extensions,
    tree: &mut Tree<'_>,
    damaged: &impl Fn(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    let Extensions { path: long_path, link: long_link, sparse } = extensions;
    let header = entry.header();
    let raw = long_path.unwrap_or_else(|| header.path_bytes().into_owned());
    let target = long_link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
    let mode = header.mode().map_err(damaged)?;
    let kind = header.entry_type();
    // A folder may be written as a file whose name ends in a slash.
    let kind = if kind.is_file() && raw.ends_with(b"/") { EntryType::Directory } else { kind };

    let Some(path) = tree.place(&raw)? else { return Ok(()) };
    let refuse = |path, what| Err(UnpackError::Kind { path, what });
    match kind {
        _ if sparse => refuse(path, "a sparse file, which is not supported"),
        EntryType::Regular | EntryType::Continuous => tree.file(&raw, path, mode, entry, damaged),
        EntryType::Directory => tree.folder(path, mode),
        EntryType::Symlink => tree.link(path, &target),
        EntryType::Link => tree.hard_link(path, mode, &target),
        EntryType::Char | EntryType::Block => refuse(path, "a device"),
        EntryType::Fifo => refuse(path, "a named pipe"),
        EntryType::GNUSparse => refuse(path, "a sparse file, which is not supported"),
        _ => refuse(path, "of an unknown kind"),
    }
}

/// Reads the part of a pax extension that says where a member goes.
fn pax(records: &[u8], extensions: &mut Extensions) -> io::Result<()> {
    for record in PaxExtensions::new(records) {
        let record = record?;
        match record.key_bytes() {
            b"path" => extensions.path = Some(record.value_bytes().to_vec()),
            b"linkpath" => extensions.link = Some(record.value_bytes().to_vec()),
            // Sizes beyond a header's eight gibibytes, which no member may have.
            b"size" => return Err(io::Error::other("a member is too large")),
            key if key.starts_with(b"GNU.sparse.") => extensions.sparse = true,
            _ => {}
        }
    }
    Ok(())
}

/// Reads a GNU extension: a name that ends at its first zero byte.
fn name(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = extension(entry)?;
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn extension(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    if entry.header().entry_size()? > MAX_EXTENSION {
        return Err(io::Error::other("a name or a record of attributes is too long"));
    }
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Ends a stream with an error once it has given too much.
struct Bounded<R> {
    stream: R,
    left: u64,
    hit: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        if self.left == 0 {
            self.hit = true;
            return Err(io::Error::other("too many bytes"));
        }
        Ok(n)
    }
}
