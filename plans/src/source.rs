//! Texts that diagnostics point into.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;

/// Documents longer than this are refused: no person wrote them, and nothing else should.
pub const MAX_BYTES: usize = 4 << 20;

/// A document's text beside the name people know it by.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

/// A stretch of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

/// A stretch of one particular source.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The source.
    pub source: Arc<Source>,
    /// The stretch.
    pub span: Span,
}

impl Source {
    /// Names a text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Takes bytes that should be UTF-8 text of a bearable length.
    ///
    /// The error points at the first byte that is not text, with what stands before it as the excerpt.
    pub fn from_bytes(name: impl Into<String>, mut bytes: Vec<u8>) -> Result<Arc<Self>, Box<Diagnostic>> {
        let name = name.into();
        let length = bytes.len();
        let head = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes)).into_owned();
        if length > MAX_BYTES {
            let place = Place { source: Self::new(name, head(&bytes)), span: Span::default() };
            let message = format!("the file has {length} bytes, and {MAX_BYTES} are the most a document may have");
            return Err(Box::new(
                Diagnostic::error(message).at(place).hint("put large contents in files beside it, and `copy` them"),
            ));
        }
        // A NUL is UTF-8 and still a sure sign of a program, an image or UTF-16.
        let invalid = match std::str::from_utf8(&bytes) {
            Ok(text) => text.find('\0'),
            Err(error) => Some(error.valid_up_to()),
        };
        if let Some(at) = invalid {
            let byte = bytes[at];
            bytes.truncate(at);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let end = offset(text.len());
            let place = Place { source: Self::new(name, text), span: Span { start: end, end } };
            return Err(Box::new(
                Diagnostic::error(format!("byte {byte:#04x} is not text: the file is not YAML in UTF-8")).at(place),
            ));
        }
        Ok(Self::new(name, String::from_utf8(bytes).unwrap_or_default()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line and the column of a byte, both counted from one, the column in characters.
    pub fn line_column(&self, byte: u32) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, byte as usize)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl Span {
    /// Makes a span of the bytes from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: offset(start), end: offset(end.max(start)) }
    }

    /// Narrows the span to a part of itself, counted from its start.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        let start = self.start as usize;
        Self::new(start + range.start, start + range.end)
    }
}

impl Place {
    /// Returns the line and the column at which the place begins.
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.start)
    }

    /// Returns the place's bytes, moved to character boundaries.
    pub(crate) fn range(&self) -> Range<usize> {
        let text = &self.source.text;
        let start = floor(text, self.span.start as usize);
        start..floor(text, self.span.end as usize).max(start)
    }
}

/// Returns the nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Turns an offset into the form a span keeps; sources are far shorter than this can hold.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Place {
    /// Writes `file:line:column`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = Source::new("f", "añb\ncd");
        for (byte, want) in [(0, (1, 1)), (1, (1, 2)), (2, (1, 2)), (3, (1, 3)), (5, (2, 1)), (99, (2, 3))] {
            assert_eq!(source.line_column(byte), want, "byte {byte}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_they_stand() {
        let error = Source::from_bytes("f", b"a: 1\nb: \xff\n".to_vec()).unwrap_err();
        assert_eq!(error.place.as_ref().unwrap().to_string(), "f:2:4");
        let error = Source::from_bytes("f", b"a\0b".to_vec()).unwrap_err();
        assert_eq!(error.message, "byte 0x00 is not text: the file is not YAML in UTF-8");
        let error = Source::from_bytes("f", vec![b' '; MAX_BYTES + 1]).unwrap_err();
        assert!(error.message.starts_with("the file has 4194305 bytes"), "{}", error.message);
    }
}
