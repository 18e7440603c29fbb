//! Members of a zip archive.

use std::io::{self, Read, Seek};

use zip::ZipArchive;

use super::UnpackError;
use super::tree::Tree;

/// The part of a Unix mode that says what a file is.
const KIND: u32 = 0o170_000;

/// The longest target of a link.
const MAX_TARGET: u64 = 4096;

/// Takes every member that the tree asks for.
pub(super) fn read(file: impl Read + Seek, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(error.into()))?;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| damaged(error.into()))?;
        let raw = member.name_raw().to_vec();
        let Some(path) = tree.place(&raw)? else { continue };
        let mode = member.unix_mode();
        let refuse = |what| Err(UnpackError::Kind { path: path.clone(), what });
        match mode.map_or(0, |mode| mode & KIND) {
            0o040_000 => tree.folder(path, mode.unwrap_or(0o755))?,
            _ if raw.ends_with(b"/") => tree.folder(path, 0o755)?,
            0o120_000 => {
                let mut target = Vec::new();
                (&mut member).take(MAX_TARGET).read_to_end(&mut target).map_err(damaged)?;
                tree.link(path, &target)?;
            }
            0 | 0o100_000 => {
                // Archives made elsewhere carry no permissions.
                let mode = mode.map_or(0o644, |mode| mode & 0o7777);
                tree.file(&raw, path, mode, &mut member, damaged)?;
            }
            0o010_000 => return refuse("a named pipe"),
            0o020_000 | 0o060_000 => return refuse("a device"),
            _ => return refuse("of an unknown kind"),
        }
    }
    Ok(())
}

fn damaged(source: io::Error) -> UnpackError {
    UnpackError::Damaged { format: "zip", source }
}
