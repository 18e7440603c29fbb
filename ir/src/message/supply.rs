//! What is handed over in a run: images, manifests of downloads, and what the engine lacks of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::SecretValue;
use crate::digest::Digest;

/// Make container storage hold an image.
///
/// Nothing of it but its id crosses before the engine has found that it is not there as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deliver {
    /// Its id: the digest of its configuration, which names its layers.
    pub image: Digest,
    /// What it is called there: registry, path and tag.
    pub name: String,
    /// Whether it goes to the login user's own storage, rather than root's.
    pub rootless: bool,
    /// What `sudo` is told, where it asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_password: Option<SecretValue>,
}

/// An image but for its layers, whose digests in the manifest are those of their uncompressed archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The configuration, byte for byte.
    pub config: String,
}

/// What a step that fetches something places, known only after the controller fetched it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The step's global number.
    pub step: u32,
    /// The members, folders before what lies in them.
    pub members: Vec<Member>,
}

/// One thing that a fetching step places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its path below the step's folder; empty for the step's own path.
    ///
    /// A repository has no folder: its member [`Self::REPO_KEY`] is the key, ready to be placed, and [`Self::REPO_FILE`]
    /// the configuration file or the package that its URL gives.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberKind {
    /// A regular file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder.
    Dir {
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: String,
    },
}

/// What the engine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Need {
    /// Global numbers of steps whose manifests are wanted.
    pub manifests: Vec<u32>,
    /// Blobs that are wanted.
    pub blobs: Vec<Digest>,
    /// Whether the image that is to be delivered is wanted, but for its layers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image: bool,
    /// How many bytes of some of these blobs are there already, from a conversation that was cut off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub have: BTreeMap<Digest, u64>,
}

impl Member {
    /// The path of a repository's key.
    pub const REPO_KEY: &str = "key";
    /// The path of a repository's configuration file or package.
    pub const REPO_FILE: &str = "file";
}
