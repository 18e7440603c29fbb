//! Names of deploys and of the things they own, as ledgers write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tree::is_ownable;

/// A deploy: whose it is on this venue, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DeployId {
    /// The number of the user who deploys.
    pub uid: u32,
    /// The name the user gave it.
    pub name: String,
}

/// A thing that deploys own: the unit of accounting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Resource {
    /// A file, folder or link.
    Path(String),
    /// The capabilities of a file.
    Caps(String),
    /// A fenced block in a text file.
    Block {
        /// The file.
        path: String,
        /// What the fences name.
        tag: String,
    },
    /// Whether a unit is enabled and active.
    Unit {
        /// True for the user's own manager, false for the machine's.
        user: bool,
        /// The unit's name.
        name: String,
    },
    /// Whether a user's services run while nobody is logged in.
    Linger(String),
    /// What one package step brought.
    Packages(StepName),
    /// That one command ran.
    Command(StepName),
}

/// A step of a deploy's candy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName {
    /// The deploy.
    pub deploy: DeployId,
    /// The candy.
    pub candy: String,
    /// The step's id.
    pub step: String,
}

/// A name that no ledger of this format holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name that charly writes")]
pub struct ParseNameError(String);

impl Resource {
    /// Returns the sort of thing, for people.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Caps(_) => "capabilities",
            Self::Block { .. } => "block",
            Self::Unit { user: false, .. } => "unit",
            Self::Unit { user: true, .. } => "user unit",
            Self::Linger(_) => "linger",
            Self::Packages(_) => "packages",
            Self::Command(_) => "command",
        }
    }

    /// Returns the thing itself, for people.
    pub fn subject(&self) -> &str {
        match self {
            Self::Path(path) | Self::Caps(path) | Self::Block { path, .. } => path,
            Self::Unit { name, .. } | Self::Linger(name) => name,
            Self::Packages(name) | Self::Command(name) => &name.step,
        }
    }
}

impl DeployId {
    /// Returns the name of the deploy's file, without its suffix: letters, digits, `.`, `_` and `-` stay, the rest is escaped.
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.uid, escape(&self.name))
    }
}

/// Makes any text a file name, and different texts different names.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            b'.' if at > 0 => out.push('.'),
            _ => {
                let digits = b"0123456789ABCDEF";
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(|digit| char::from(digits[usize::from(digit)])));
            }
        }
    }
    out
}

impl fmt::Display for DeployId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.name)
    }
}

impl FromStr for DeployId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(uid, name)| Some((uid.parse().ok()?, name)));
        match parsed {
            Some((uid, name)) if !name.is_empty() && !name.contains(['\0', '\n']) => {
                Ok(Self { uid, name: name.to_owned() })
            }
            _ => Err(ParseNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deploy, candy, step } = self;
        write!(f, "{deploy}|{candy}|{step}")
    }
}

impl FromStr for StepName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '|');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(deploy), Some(candy), Some(step)) => {
                Ok(Self { deploy: deploy.parse()?, candy: candy.to_owned(), step: step.to_owned() })
            }
            _ => Err(ParseNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Caps(path) => write!(f, "caps:{path}"),
            Self::Block { path, tag } => write!(f, "block:{path}#{tag}"),
            Self::Unit { user: false, name } => write!(f, "unit:system/{name}"),
            Self::Unit { user: true, name } => write!(f, "unit:user/{name}"),
            Self::Linger(user) => write!(f, "linger:{user}"),
            Self::Packages(step) => write!(f, "packages:{step}"),
            Self::Command(step) => write!(f, "command:{step}"),
        }
    }
}

impl FromStr for Resource {
    type Err = ParseNameError;

    /// Reads a name back. Paths and names are judged as strictly as those of a plan: a ledger is no reason to touch what no
    /// plan could have asked for.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseNameError(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        let path = |path: &str| is_ownable(path).then(|| path.to_owned()).ok_or_else(error);
        match kind {
            "path" => Ok(Self::Path(path(rest)?)),
            "caps" => Ok(Self::Caps(path(rest)?)),
            "block" => {
                let (file, tag) = rest.rsplit_once('#').ok_or_else(error)?;
                Ok(Self::Block { path: path(file)?, tag: tag.to_owned() })
            }
            "unit" => {
                let (manager, name) = rest.split_once('/').ok_or_else(error)?;
                let user = match manager {
                    "user" => true,
                    "system" => false,
                    _ => return Err(error()),
                };
                is_unit_name(name).then(|| Self::Unit { user, name: name.to_owned() }).ok_or_else(error)
            }
            "linger" if is_user_name(rest) => Ok(Self::Linger(rest.to_owned())),
            "packages" => Ok(Self::Packages(rest.parse()?)),
            "command" => Ok(Self::Command(rest.parse()?)),
            _ => Err(error()),
        }
    }
}

/// Tells whether a string can name a unit: what systemd.unit(5) allows, and never an option.
pub(crate) fn is_unit_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !name.is_empty()
        && name.len() < 256
        && !name.starts_with(['-', '.'])
        && name.contains('.')
        && name.chars().all(allowed)
}

/// Tells whether a string can name a user, and never an option.
fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace() && !":/".contains(c))
}

macro_rules! as_strings {
    ($($name:ty),*) => {$(
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )*};
}

as_strings!(DeployId, Resource);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_printing() {
        let deploy = DeployId { uid: 1000, name: "ssh:ann@host:22".into() };
        let step = StepName { deploy: deploy.clone(), candy: "c".into(), step: "write:/a|b".into() };
        for resource in [
            Resource::Path("/etc/x y".into()),
            Resource::Caps("/usr/bin/ping".into()),
            Resource::Block { path: "/home/a#b/.bashrc".into(), tag: "direnv".into() },
            Resource::Unit { user: true, name: "a@b.service".into() },
            Resource::Unit { user: false, name: "ssh.socket".into() },
            Resource::Linger("ann".into()),
            Resource::Packages(step.clone()),
            Resource::Command(step),
        ] {
            assert_eq!(resource.to_string().parse(), Ok(resource));
        }
        assert_eq!(deploy.file_name(), "1000-ssh%3Aann%40host%3A22");
        assert_eq!(escape("../x"), "%2E.%2Fx");
    }

    #[test]
    fn names_that_no_plan_could_have_made_are_refused() {
        for text in [
            "path:/",
            "path:etc",
            "path:/a/../b",
            "caps:",
            "block:/x",
            "unit:system/--now",
            "unit:root/a.service",
            "unit:user/a;b.service",
            "linger:-x",
            "linger:a b",
            "packages:x|y|z",
            "nonsense",
            "",
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text}");
        }
    }
}
