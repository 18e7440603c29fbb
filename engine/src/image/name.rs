//! What an image is called.

use std::fmt;
use std::str::FromStr;

/// A name with a registry, a path and a tag, such as `localhost/web:latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Registry and path.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// Text that names no image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image's name with a registry and a tag")]
pub(super) struct BadName(String);

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName(text.chars().take(200).collect());
        let (repository, tag) = text.rsplit_once(':').ok_or_else(bad)?;
        let (registry, path) = repository.split_once('/').ok_or_else(bad)?;
        let word = |text: &str, more: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            let inside = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            ends(text.chars().next()) && ends(text.chars().last()) && text.chars().all(inside)
        };
        let lower = |text: &str| !text.contains(|c: char| c.is_ascii_uppercase());
        let is_tag = !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let is_path = path.split('/').all(|part| word(part, "._-") && lower(part));
        if is_tag && is_path && word(registry, ".:-") && text.len() <= 400 {
            Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_names() {
        for good in ["localhost/web:latest", "127.0.0.1:5000/a/b_c.d:1.0-rc_1", "docker.io/library/debian:13"] {
            assert_eq!(good.parse::<Name>().map(|name| name.to_string()).as_deref(), Ok(good));
        }
        let bad = [
            "",
            "web",
            "web:latest",
            "localhost/web",
            "localhost/:x",
            "localhost/Web:x",
            "localhost/web:",
            "localhost/web:a b",
            "localhost/web\"\n:x",
            "localhost//web:x",
            "localhost/../web:x",
            "-x/web:x",
            "localhost/web:-x",
            "localhost/web@sha256:0",
        ];
        for bad in bad {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
