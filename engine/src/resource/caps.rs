//! The capabilities of files.

use std::io;

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use super::Looked;
use crate::encoding::{from_base64, to_base64};
use crate::tree::{self, TreeError};
use crate::venue::Venue;
use crate::worker::WorkError;

/// The attribute that holds them.
const ATTRIBUTE: &str = "security.capability";

/// Returns a file's capabilities in base64; a file that is not there has none.
pub(super) fn observe(venue: &Venue, path: &str) -> Result<Option<String>, WorkError> {
    let file = match tree::open_file(&venue.root, path) {
        Ok(file) => file,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut value = [0; 64];
    match fs::fgetxattr(&file, ATTRIBUTE, &mut value[..]) {
        Ok(length) => Ok(Some(to_base64(&value[..length]))),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(TreeError::new("read the capabilities of", path, errno).into()),
    }
}

/// Compares a file's capabilities with what is wanted.
pub(super) fn look(venue: &Venue, path: &str, want: Option<&str>) -> Result<Looked, WorkError> {
    let actual = observe(venue, path)?;
    let difference = (actual.as_deref() != want).then(|| "its capabilities differ".to_owned());
    Ok(Looked { difference, absent: actual.is_none() })
}

/// Gives a file these capabilities, or none.
pub(super) fn converge(venue: &Venue, path: &str, want: Option<&str>) -> Result<(), WorkError> {
    let error = |source: io::Error| TreeError::new("set the capabilities of", path, source);
    let file = match tree::open_file(&venue.root, path) {
        Ok(file) => file,
        Err(gone) if gone.source.kind() == io::ErrorKind::NotFound && want.is_none() => return Ok(()),
        Err(other) => return Err(other.into()),
    };
    let result = match want {
        Some(caps) => fs::fsetxattr(&file, ATTRIBUTE, &from_base64(caps).map_err(error)?, XattrFlags::empty()),
        None => match fs::fremovexattr(&file, ATTRIBUTE) {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        },
    };
    result.map_err(|errno| error(errno.into()))?;
    file.sync_all().map_err(error)?;
    Ok(())
}
