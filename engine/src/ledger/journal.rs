//! The journal's lines: a checksum, a space, one record as JSON.

use std::io;
use std::path::{Path, PathBuf};

use charly_ir::Digest;

use super::record::Record;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read at all.
    #[error("cannot read `{path}`")]
    Io {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line before the last is damaged: not the trace of a crash, which only ever tears the end off.
    #[error("{path}:{line}: the record is damaged")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A newer charly wrote it.
    #[error("{path}: charly {charly} wrote format {format}, newer than this engine's {known}")]
    Newer {
        /// The journal.
        path: PathBuf,
        /// The charly that wrote it.
        charly: String,
        /// The format it wrote.
        format: u32,
        /// The newest format known here.
        known: u32,
    },
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The records.
    pub records: Vec<Record>,
    /// The number of bytes that hold them; what follows is a torn end.
    pub length: u64,
}

/// Writes one record as a line.
pub(super) fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Reads the bytes of a journal. A torn end is left out: from the first bad line on, if no good one follows.
pub(super) fn parse(path: &Path, bytes: &[u8], known: u32) -> Result<Journal, JournalError> {
    let mut journal = Journal::default();
    let mut torn_at = None;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match (parse_line(line), torn_at) {
            (Some(record), None) => {
                if let Record::Begin { format, charly, .. } = &record
                    && *format > known
                {
                    let (path, charly, format) = (path.to_owned(), charly.clone(), *format);
                    return Err(JournalError::Newer { path, charly, format, known });
                }
                journal.length += line.len() as u64;
                journal.records.push(record);
            }
            (Some(_), Some(line)) => return Err(JournalError::Damaged { path: path.to_owned(), line }),
            (None, _) => torn_at = torn_at.or(Some(number + 1)),
        }
    }
    Ok(journal)
}

fn parse_line(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, rest) = line.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?;
    (checksum(json).as_bytes() == sum).then(|| serde_json::from_slice(json).ok())?
}

fn checksum(json: &[u8]) -> String {
    let mut sum = Digest::of(json).to_string();
    sum.truncate(8);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Resource;

    fn journal() -> Vec<u8> {
        let records = ["/a", "/b", "/c"].map(|path| Record::Forget(Resource::Path(path.into())));
        records.iter().flat_map(|record| line(record).unwrap()).collect()
    }

    #[test]
    fn a_journal_cut_anywhere_loses_its_last_record_alone() {
        let bytes = journal();
        let whole = parse(Path::new("j"), &bytes, 1).unwrap().records;
        for length in 0..=bytes.len() {
            let got = parse(Path::new("j"), &bytes[..length], 1).unwrap();
            let lines = bytes[..length].split(|byte| *byte == b'\n').count() - 1;
            assert_eq!(got.records, whole[..lines], "{length}");
            assert!(got.length <= length as u64);
        }
    }

    #[test]
    fn damage_before_the_end_is_no_torn_end() {
        let mut bytes = journal();
        bytes[12] ^= 1;
        let error = parse(Path::new("j"), &bytes, 1).unwrap_err();
        assert_eq!(error.to_string(), "j:1: the record is damaged");
        let zeros = [journal(), vec![0; 100]].concat();
        assert_eq!(parse(Path::new("j"), &zeros, 1).unwrap().records.len(), 3);
    }

    #[test]
    fn a_newer_format_names_who_wrote_it() {
        let deploy = "0/x".parse().unwrap();
        let begin = Record::Begin { format: 2, charly: "9.9.9".into(), run: "r".into(), deploy, what: "apply".into() };
        let error = parse(Path::new("j"), &line(&begin).unwrap(), 1).unwrap_err();
        assert_eq!(error.to_string(), "j: charly 9.9.9 wrote format 2, newer than this engine's 1");
    }
}
