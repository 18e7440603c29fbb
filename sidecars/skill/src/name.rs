//! The name of a skill.

use std::fmt;

/// The longest name a skill may have; far below what a file system allows.
const LONGEST: usize = 128;

/// Holds the checked name of a skill: `[A-Za-z0-9][A-Za-z0-9._-]*`.
///
/// Such a name is one path component that is neither `.` nor `..` nor hidden, so nothing built from it can leave the
/// skills folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkillName(Box<str>);

impl SkillName {
    /// Checks `text` and keeps it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let well_formed = text.bytes().enumerate().all(|(at, byte)| match byte {
            b'.' | b'_' | b'-' => at > 0,
            other => other.is_ascii_alphanumeric(),
        });
        if well_formed && !text.is_empty() && text.len() <= LONGEST { Ok(Self(text.into())) } else { Err(NameError) }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SkillName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says that a text is no skill's name.
///
/// It does not repeat the text: that comes from a stranger and goes into logs and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a skill's name is a letter or digit followed by at most {} letters, digits, `.`, `_` or `-`", LONGEST - 1)]
pub struct NameError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for good in ["a", "7z", "gh", "yt-dlp", "my_tool.v2", "a..b", &"x".repeat(128)] {
            assert_eq!(SkillName::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-rf",
            "_x",
            "a/b",
            "../sh",
            "a\\b",
            "a b",
            "a\0",
            "a\n",
            "ä",
            "a%2fb",
            "/bin/sh",
            "a:b",
            "ａ",
            "a\u{202e}b",
            &"x".repeat(129),
        ] {
            assert_eq!(SkillName::parse(bad), Err(NameError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_plain_path_component(text in "\\PC{0,40}|[./a-z%\\\\-]{0,12}") {
            if let Ok(name) = SkillName::parse(&text) {
                let path = std::path::Path::new(name.as_str());
                let parts: Vec<_> = path.components().collect();
                prop_assert_eq!(parts.len(), 1);
                prop_assert!(matches!(parts[0], std::path::Component::Normal(_)));
                prop_assert!(!name.as_str().contains(['/', '\\', '\0', '%']));
            }
        }
    }
}
