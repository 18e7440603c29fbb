//! Layers that are kept compressed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Undoes what compression there is, told by how the bytes begin.
pub(crate) fn inflate(reader: Box<dyn Read + Send>) -> io::Result<(bool, Box<dyn Read + Send>)> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let begins = reader.fill_buf()?;
    Ok(if begins.starts_with(&[0x1f, 0x8b]) {
        (true, Box::new(MultiGzDecoder::new(reader)))
    } else if begins.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        (true, Box::new(zstd::Decoder::with_buffer(reader)?))
    } else {
        (false, Box::new(reader))
    })
}
