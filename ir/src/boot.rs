//! Telling one boot of a venue from the next.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Tells one boot of a venue from the next.
///
/// The kernel's boot id alone does not: in a container it may be the host's, and stays while the container reboots. There
/// the start of process 1 differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BootMark {
    boot_id: Option<String>,
    init_started: Option<u64>,
}

/// A text that is no boot mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the mark of a boot")]
pub struct ParseBootMarkError(String);

impl BootMark {
    /// Takes the kernel's boot id, if it is a UUID, and when process 1 started, in clock ticks since the kernel did.
    pub fn new(boot_id: Option<&str>, init_started: Option<u64>) -> Self {
        Self { boot_id: boot_id.filter(|id| is_uuid(id)).map(str::to_owned), init_started }
    }

    /// Tells whether there was a boot between two marks. What could not be told is never evidence.
    pub fn differs_from(&self, earlier: &Self) -> bool {
        let ids = self.boot_id.as_ref().zip(earlier.boot_id.as_ref());
        let starts = self.init_started.zip(earlier.init_started);
        ids.is_some_and(|(one, other)| one != other) || starts.is_some_and(|(one, other)| one != other)
    }
}

impl fmt::Display for BootMark {
    /// Writes `BOOT-ID/TICKS`, with `-` for what could not be told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.boot_id.as_deref().unwrap_or("-"))?;
        match self.init_started {
            Some(ticks) => write!(f, "{ticks}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for BootMark {
    type Err = ParseBootMarkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseBootMarkError(text.chars().take(80).collect());
        let (boot_id, ticks) = text.split_once('/').ok_or_else(error)?;
        let boot_id = match boot_id {
            "-" => None,
            id if is_uuid(id) => Some(id.to_owned()),
            _ => return Err(error()),
        };
        let init_started = match ticks {
            "-" => None,
            ticks => Some(ticks.parse().map_err(|_| error())?),
        };
        Ok(Self { boot_id, init_started })
    }
}

impl From<BootMark> for String {
    fn from(mark: BootMark) -> Self {
        mark.to_string()
    }
}

impl TryFrom<String> for BootMark {
    type Error = ParseBootMarkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_mark_survives_printing_and_tells_boots_apart() {
        let current = BootMark::new(Some("0f8fad5b-d9cb-469f-a165-70867728950e"), Some(7));
        assert_eq!(current.to_string().parse(), Ok(current.clone()));
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let marks = [format!("{id}/7"), format!("{id}/8"), format!("{id}/-"), "-/7".into(), "-/-".into()];
        let parsed: Vec<BootMark> = marks.iter().map(|mark| mark.parse().unwrap()).collect();
        for (i, mark) in parsed.iter().enumerate() {
            assert_eq!(parsed.iter().position(|other| other == mark), Some(i));
        }
        for text in ["", id, "x/7", &format!("{id}/x"), &format!("{}/7", id.to_uppercase())] {
            assert!(text.parse::<BootMark>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_not_be_told_is_no_evidence() {
        let id = |n: u8| format!("{n:08x}-d9cb-469f-a165-70867728950e");
        let mark = |n: Option<u8>, ticks| BootMark::new(n.map(id).as_deref(), ticks);
        for (before, after, differs) in [
            (mark(Some(1), Some(7)), mark(Some(2), Some(7)), true),
            (mark(Some(1), Some(7)), mark(Some(1), Some(8)), true),
            (mark(Some(1), Some(7)), mark(Some(1), Some(7)), false),
            (mark(Some(1), None), mark(None, Some(7)), false),
            (mark(Some(1), Some(7)), mark(None, None), false),
        ] {
            assert_eq!(after.differs_from(&before), differs, "{before} {after}");
        }
        assert_eq!(BootMark::new(Some("not a uuid"), None), BootMark::default());
    }
}
