//! Strings with tokens that only the venue can resolve.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A string that may hold tokens of a closed set, each resolved on the venue: `{{.Home}}`, `{{.User}}`, `{{.Uid}}`, `{{.Gid}}`.
///
/// A plan is compiled before its venue is known in full, and is the same for every user of a venue, so the home folder
/// is not in it. Anything else in braces is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

/// What the tokens of a [`Text`] stand for on one venue, for one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// The user's home folder, without a trailing slash.
    pub home: String,
    /// The user's name.
    pub user: String,
    /// The user's numeric id.
    pub uid: u32,
    /// The id of the user's main group.
    pub gid: u32,
}

impl Text {
    /// The token for the user's home folder.
    pub const HOME: &str = "{{.Home}}";
    /// The token for the user's name.
    pub const USER: &str = "{{.User}}";
    /// The token for the user's numeric id.
    pub const UID: &str = "{{.Uid}}";
    /// The token for the id of the user's main group.
    pub const GID: &str = "{{.Gid}}";

    /// Takes a string, tokens included.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the string with its tokens unresolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether the text begins at the user's home folder.
    pub fn is_below_home(&self) -> bool {
        self.0.strip_prefix(Self::HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Replaces every token. A value is never searched for further tokens.
    pub fn resolve(&self, tokens: &Tokens) -> String {
        let mut out = String::with_capacity(self.0.len() + tokens.home.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find("{{.") {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let (value, length) = if rest.starts_with(Self::HOME) {
                (tokens.home.clone(), Self::HOME.len())
            } else if rest.starts_with(Self::USER) {
                (tokens.user.clone(), Self::USER.len())
            } else if rest.starts_with(Self::UID) {
                (tokens.uid.to_string(), Self::UID.len())
            } else if rest.starts_with(Self::GID) {
                (tokens.gid.to_string(), Self::GID.len())
            } else {
                ("{{.".to_owned(), 3)
            };
            out.push_str(&value);
            rest = &rest[length..];
        }
        out.push_str(rest);
        out
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Text {
    /// Shows the home token as `~`, as people write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace(Self::HOME, "~"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_resolved_once() {
        let tokens = Tokens { home: "/home/{{.User}}".into(), user: "ann".into(), uid: 1000, gid: 100 };
        for (text, want) in [
            ("", ""),
            ("plain {{ .Home }} {{.Other}}", "plain {{ .Home }} {{.Other}}"),
            ("{{.Home}}/x", "/home/{{.User}}/x"),
            ("{{.User}}:{{.Uid}}:{{.Gid}}", "ann:1000:100"),
            ("{{.{{.Uid}}", "{{.1000"),
        ] {
            assert_eq!(Text::new(text).resolve(&tokens), want, "{text}");
        }
    }

    #[test]
    fn home_is_a_whole_component() {
        for (text, want) in [("{{.Home}}", true), ("{{.Home}}/a", true), ("{{.Home}}stead/a", false), ("/etc", false)] {
            assert_eq!(Text::new(text).is_below_home(), want, "{text}");
        }
    }
}
