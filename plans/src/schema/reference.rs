//! How one document names another.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::values::Name;
use crate::read::{FromText, Problem};

/// A name, a path, or a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A candy of the project, of an import (`alias.name`), or a shipped one.
    Name(Name),
    /// A candy's folder, relative to the file that names it.
    Path(String),
    /// A candy of another repository.
    Remote(Remote),
}

/// `host/org/repo[/candy/x][@ref]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remote {
    /// The host, such as `github.com`.
    pub host: String,
    /// The repository below the host, such as `org/repo`.
    pub repository: String,
    /// The folder in the repository; empty for its root.
    pub folder: String,
    /// The branch, tag or commit; absent for the default branch.
    pub revision: Option<String>,
}

impl FromText for Reference {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let shape = |message: String| {
            Problem::new(message, "write a name, a path such as `./mine`, or `host/org/repo[/candy/x][@ref]`")
        };
        if text.starts_with(['.', '/']) {
            return Ok(Self::Path(text.to_owned()));
        }
        let bare = text.strip_prefix('@').unwrap_or(text);
        let (path, revision) = match bare.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (bare, None),
        };
        let parts: Vec<_> = path.split('/').collect();
        match parts.as_slice() {
            [_] if revision.is_none() => Name::from_text(text).map(Self::Name),
            [host, ..] if !host.contains(['.', ':']) && revision.is_none() => Ok(Self::Path(text.to_owned())),
            [host, org, repo, folder @ ..] if host.contains(['.', ':']) => {
                let plain = |part: &&str| {
                    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
                    !part.is_empty() && !part.starts_with(['-', '.']) && part.bytes().all(allowed)
                };
                let host_is_plain = |host: &str| {
                    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
                    plain(&name) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
                };
                let revision_is_plain = |revision: &str| {
                    let allowed =
                        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'/');
                    !revision.is_empty()
                        && !revision.starts_with('-')
                        && !revision.contains("..")
                        && revision.bytes().all(allowed)
                };
                if !host_is_plain(host) || !parts[1..].iter().all(plain) || !revision.is_none_or(revision_is_plain) {
                    return Err(shape(format!("`{text}` is not a reference")));
                }
                Ok(Self::Remote(Remote {
                    host: (*host).to_owned(),
                    repository: format!("{org}/{}", repo.strip_suffix(".git").unwrap_or(repo)),
                    folder: folder.join("/"),
                    revision: revision.map(str::to_owned),
                }))
            }
            _ => Err(shape(format!("`{text}` is not a reference"))),
        }
    }

    fn text_schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

impl Remote {
    /// Returns the address that git clones.
    pub fn url(&self) -> String {
        format!("https://{}/{}", self.host, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Path(path) => f.write_str(path),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if !self.folder.is_empty() {
            write!(f, "/{}", self.folder)?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_say_what_they_are_by_their_form() {
        for (text, want) in [
            ("nodejs", "Name"),
            ("team.nodejs", "Name"),
            ("./x", "Path"),
            ("../x", "Path"),
            ("/x", "Path"),
            ("candy/x", "Path"),
            ("github.com/o/r", "Remote"),
            ("@github.com/o/r/candy/x@v1.0", "Remote"),
            ("localhost:3000/o/r", "Remote"),
            ("github.com/o", "error"),
            ("github.com/o/r@--upload-pack=x", "error"),
            ("github.com/o/../r", "error"),
            ("github.com/-o/r", "error"),
            ("x@v1", "error"),
            ("ftp://x/y/z", "error"),
            ("", "error"),
        ] {
            let got = match Reference::from_text(text) {
                Ok(Reference::Name(_)) => "Name",
                Ok(Reference::Path(_)) => "Path",
                Ok(Reference::Remote(_)) => "Remote",
                Err(_) => "error",
            };
            assert_eq!(got, want, "{text}");
        }
        let Ok(Reference::Remote(remote)) = Reference::from_text("@github.com/o/r.git/candy/x@v1") else { panic!() };
        assert_eq!(remote.url(), "https://github.com/o/r");
        assert_eq!(remote.to_string(), "github.com/o/r/candy/x@v1");
    }
}
