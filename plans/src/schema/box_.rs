//! Boxes: container images.

use super::container::{Security, Volume};
use super::package::{DistroSection, PackageEntry};
use super::reference::Reference;
use crate::read::{Map, Spanned, record};

record! {
    /// A box: a container image, built from a base and candies.
    pub struct BoxSpec {
        /// What the box is for.
        pub description: Option<String>,
        /// What it starts from: another box, an image in a registry, `oci:`, `oci-archive:` or `docker-archive:` and a path,
        /// `bootstrap:` and a release such as `debian-13`, or `scratch`.
        pub base as "base" | "from": Option<Spanned<String>>,
        /// The candies in it.
        pub candy: Vec<Spanned<Reference>>,
        /// Further packages.
        pub package: Vec<Spanned<PackageEntry>>,
        /// What differs by distribution.
        pub distro: Map<DistroSection>,
        /// Variables.
        pub env: Map<Spanned<String>>,
        /// Ports, `host:container` or one for both.
        pub port: Vec<Spanned<String>>,
        /// Folders that outlive a container.
        pub volume: Vec<Volume>,
        /// What runs first, such as `supervisord` or `systemd`.
        pub init: Option<String>,
        /// The command of the image.
        pub command: Vec<String>,
        /// The entry point of the image.
        pub entrypoint: Vec<String>,
        /// The user of the image.
        pub user: Option<Spanned<String>>,
        /// The user's numeric id.
        pub uid: Option<u32>,
        /// The id of the user's group.
        pub gid: Option<u32>,
        /// The user's home folder.
        pub home: Option<Spanned<String>>,
        /// Labels.
        pub label: Map<String>,
        /// Platforms, such as `linux/amd64`.
        pub platform: Vec<String>,
        /// The image's name in a registry.
        pub image: Option<String>,
        /// The image's tag.
        pub tag: Option<String>,
        /// Whether the box boots a machine (bootc).
        pub bootc: bool,
        /// What a container of it may do and use.
        pub security: Option<Security>,
        /// Images that the builders run in, by builder.
        pub builder: Map<Spanned<String>>,
    }
}
