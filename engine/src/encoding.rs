//! Base64 for bytes that JSON must carry.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Writes bytes as standard base64.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base64.
pub(crate) fn from_base64(text: &str) -> io::Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
