//! Archives, turned into a manifest and blobs without a path ever leaving its folder.
//!
//! Nothing is unpacked into a file system here: a member becomes an entry of a manifest, and a file's bytes become a blob
//! named by its digest. What the engine then places are the manifest's paths, and none of them
//!
//! - is absolute or climbs with `..`,
//! - lies below anything but a folder, so nothing is written through a link,
//! - is a link that points out of the folder, a device, a pipe or a socket,
//! - is set-user-ID, set-group-ID, or writable by group or others.

mod paths;
mod pattern;
mod tarball;
mod tree;
mod zipfile;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use charly_ir::message::{Member, MemberKind};
use charly_ir::plan::{Download, Extract};

use self::tree::Tree;
use super::Fetched;

/// Bounds what an archive may hold, however small it is itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all its members, and of the archive once decompressed.
    pub bytes: u64,
    /// Members.
    pub members: usize,
}

/// The memory that a decompressor may take, in KiB.
const MAX_DICTIONARY_KIB: u32 = 256 << 10;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is damaged, or no archive of this kind.
    #[error("it is damaged, or of another format than `{format}`")]
    Damaged {
        /// The format tried.
        format: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A member's path is not one below a folder.
    #[error("the path `{0}` in it leaves the folder")]
    Path(String),
    /// A link points out of the folder.
    #[error("the link `{path}` in it points to `{target}`, out of the folder")]
    Link {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A member lies below, or replaces, something it must not.
    #[error("`{path}` in it collides with `{with}`")]
    Collision {
        /// The member.
        path: String,
        /// What was there before it.
        with: String,
    },
    /// A member is nothing that is ever placed.
    #[error("`{path}` in it is {what}")]
    Kind {
        /// The member.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A hard link names nothing that was taken before it.
    #[error("`{path}` in it is a hard link to `{target}`, which is not taken")]
    HardLink {
        /// The member.
        path: String,
        /// What it names.
        target: String,
    },
    /// It holds more than is ever placed.
    #[error("it holds more than {limit} {what}")]
    Limit {
        /// Bytes or members.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// No member is asked for.
    #[error("none of its members is asked for; it holds {held}")]
    NothingIncluded {
        /// Some of what it holds.
        held: String,
    },
    /// A blob cannot be stored.
    #[error("a member cannot be stored")]
    Store(#[source] io::Error),
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 30, members: 500_000 }
    }
}

/// Returns what a download places, and stores the content of its files in `scratch`, each under its digest.
pub(super) fn members(
    fetched: &Fetched,
    download: &Download,
    scratch: &Path,
    limits: Limits,
) -> Result<Vec<Member>, UnpackError> {
    let mut tree = Tree::new(download, scratch, limits);
    match download.extract {
        Extract::None => return Ok(vec![whole(fetched, download.mode.unwrap_or(0o644))]),
        Extract::Sh => return Ok(vec![whole(fetched, 0o700)]),
        Extract::Zip => zipfile::read(open(fetched)?, &mut tree)?,
        Extract::TarGz => tar("tar.gz", flate2::bufread::MultiGzDecoder::new(buffered(fetched)?), &mut tree)?,
        Extract::TarXz => {
            let xz = lzma_rust2::XzReader::new_mem_limit(buffered(fetched)?, true, MAX_DICTIONARY_KIB);
            tar("tar.xz", xz, &mut tree)?;
        }
        Extract::TarZst => {
            let zstd = zstd::Decoder::with_buffer(buffered(fetched)?).map_err(UnpackError::Store)?;
            tar("tar.zst", zstd, &mut tree)?;
        }
    }
    tree.finish()
}

/// A download that is placed as it is.
fn whole(fetched: &Fetched, mode: u32) -> Member {
    Member { path: String::new(), kind: MemberKind::File { digest: fetched.digest, size: fetched.size, mode } }
}

fn tar(format: &'static str, stream: impl Read, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    tarball::read(format, stream, tree)
}

fn open(fetched: &Fetched) -> Result<File, UnpackError> {
    File::open(&fetched.path).map_err(UnpackError::Store)
}

fn buffered(fetched: &Fetched) -> Result<BufReader<File>, UnpackError> {
    Ok(BufReader::with_capacity(64 << 10, open(fetched)?))
}

#[cfg(test)]
mod tests;
