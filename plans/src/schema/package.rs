//! Packages and repositories, by distribution.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::read::{Definitions, FromYaml, Reader, Spanned, record};
use crate::yaml::{Node, Value};

record! {
    /// What a candy needs on some distributions.
    pub struct DistroSection {
        /// Packages, together with those of every less specific section.
        pub package: Vec<Spanned<PackageEntry>>,
        /// Packages that less specific sections name and that are not wanted here.
        pub without: Vec<Spanned<String>>,
        /// Repositories.
        pub repo: Option<Vec<Spanned<RepoSpec>>>,
        /// Copr projects, `owner/project`.
        pub copr: Option<Vec<Spanned<String>>>,
        /// Options for the package manager.
        pub option: Option<Vec<Spanned<String>>>,
        /// Packages that the transaction must not bring in.
        pub exclude: Option<Vec<Spanned<String>>>,
        /// Module streams to enable first.
        pub module: Option<Vec<Spanned<String>>>,
        /// Packages of the Arch user repository.
        pub aur: Option<AurSection>,
    }
}

record! {
    /// Packages of the Arch user repository.
    pub struct AurSection {
        /// The packages.
        pub package: Vec<Spanned<PackageEntry>>,
        /// Packages that these take the place of.
        pub replace: Vec<Spanned<String>>,
        /// Options for the package manager.
        pub option: Vec<String>,
    }
}

record! {
    /// A package repository.
    pub struct RepoSpec {
        /// Names the repository, and its files.
        pub name: Option<Spanned<String>>,
        /// The repository's address, or that of its configuration file.
        pub url: Option<Spanned<String>>,
        /// A package that carries the configuration.
        pub rpm: Option<Spanned<String>>,
        /// The address of the key it is trusted by.
        pub key as "key" | "gpgkey": Option<Spanned<String>>,
        /// The suite, such as `trixie` (deb).
        pub suite: Option<Spanned<String>>,
        /// The components, separated by spaces (deb).
        pub components: Option<Spanned<String>>,
    }
}

/// A package, with or without the reason it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEntry {
    /// The package's name.
    pub name: String,
    /// Why it is there.
    pub description: Option<String>,
}

record! {
    /// A package with the reason it is there.
    pub struct ExplainedPackage {
        /// The package's name.
        pub name: String,
        /// Why it is there.
        pub description: Option<String>,
    }
}

impl FromYaml for PackageEntry {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            let ExplainedPackage { name, description } = ExplainedPackage::read(node, cx)?;
            return Some(Self { name, description });
        }
        let name = String::read(node, cx)?;
        // What looks like an option would reach the manager as one.
        if name.starts_with('-') || name.contains(char::is_whitespace) {
            return cx.error(node.span, format!("`{name}` is not the name of a package"));
        }
        Some(Self { name, description: None })
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({"oneOf": [String::schema(definitions), ExplainedPackage::schema(definitions)]})
    }
}

impl Serialize for PackageEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self { name, description: None } => serializer.serialize_str(name),
            Self { name, description } => {
                ExplainedPackage { name: name.clone(), description: description.clone() }.serialize(serializer)
            }
        }
    }
}
