//! A candy's file.

use super::container::{
    Alias, Apk, ArtifactSpec, DataSpec, ExtractSpec, Hook, LocalPackage, RouteSpec, SecretSpec, Security, Volume,
};
use super::contract::{McpProvide, Requirement};
use super::package::{DistroSection, PackageEntry};
use super::reference::Reference;
use super::service::Service;
use super::shell::ShellInit;
use super::step::Step;
use super::values::{CalVer, Name, Port};
use crate::read::{Map, Spanned, choice, record};

record! {
    /// A candy: one layer of a machine's software.
    pub struct Candy {
        /// Names the candy, as its folder does.
        pub name: Spanned<Name>,
        /// The version by date, `YYYY.DDD.HHMM`.
        pub version: Spanned<CalVer>,
        /// What the candy is for; its first line stands in lists.
        pub description: Spanned<String>,
        /// How far the candy can be relied on.
        pub status: Option<Status>,
        /// Candies that must come before this one.
        pub require: Vec<Spanned<Reference>>,
        /// Candies that this one is composed of.
        pub candy: Vec<Spanned<Reference>>,
        /// Packages on every distribution.
        pub package: Vec<Spanned<PackageEntry>>,
        /// What differs by distribution: a name, `name-version`, several with commas, or a family (deb, rpm, pac, apk).
        pub distro: Map<DistroSection>,
        /// Variables for login shells. PATH is extended with `path_append`.
        pub env: Map<Spanned<String>>,
        /// Folders appended to PATH.
        pub path_append: Vec<Spanned<String>>,
        /// Values for `${NAME}` in the fields of steps. Command bodies are never rewritten.
        pub var: Map<Spanned<String>>,
        /// Ports that the candy's services listen on.
        pub port: Vec<Spanned<Port>>,
        /// Ports of the container's loopback made reachable from outside it.
        pub port_relay: Vec<Spanned<u16>>,
        /// The host name under which a reverse proxy offers the candy's service.
        pub route: Option<RouteSpec>,
        /// Folders that outlive a container.
        pub volume: Vec<Volume>,
        /// Services.
        pub service: Vec<Spanned<Service>>,
        /// What shells run when they start.
        pub shell: Option<ShellInit>,
        /// Whether the machine reboots after the candy.
        pub reboot: bool,
        /// Commands offered on the host of a container.
        pub alias: Vec<Alias>,
        /// What a container of the candy may do and use.
        pub security: Option<Security>,
        /// Secrets that a container of the candy is given.
        pub secret: Vec<SecretSpec>,
        /// Folders of the candy that fill a volume.
        pub data: Vec<DataSpec>,
        /// Files taken out of another image.
        pub extract: Vec<ExtractSpec>,
        /// Bodies run after the services are enabled, and before the candy is removed.
        pub hook: Option<Hook>,
        /// Devices of a VM's domain.
        pub libvirt: Vec<serde_json::Value>,
        /// Files brought back to the controller.
        pub artifact: Vec<ArtifactSpec>,
        /// Which container engine the candy's services need.
        pub engine: Option<Spanned<String>>,
        /// Variables offered to other deploys.
        pub env_provide: Map<String>,
        /// Variables the candy cannot do without.
        pub env_require: Vec<Spanned<Requirement>>,
        /// Variables the candy takes if they are offered.
        pub env_accept: Vec<Spanned<Requirement>>,
        /// Secrets the candy cannot do without.
        pub secret_require: Vec<Spanned<Requirement>>,
        /// Secrets the candy takes if they are there.
        pub secret_accept: Vec<Spanned<Requirement>>,
        /// MCP servers offered to other deploys.
        pub mcp_provide: Vec<McpProvide>,
        /// MCP servers the candy cannot do without.
        pub mcp_require: Vec<Spanned<Requirement>>,
        /// MCP servers the candy takes if they are offered.
        pub mcp_accept: Vec<Spanned<Requirement>>,
        /// What the candy brings that others may ask for by kind.
        pub capability: Vec<String>,
        /// What some candy must bring.
        pub requires_capability: Vec<Spanned<String>>,
        /// Android apps.
        pub apk: Vec<Apk>,
        /// Package files of the candy's own.
        pub localpkg: Vec<LocalPackage>,
        /// Steps and checks, in order.
        pub plan: Vec<Step>,
    }
}

choice! {
    /// How far a candy can be relied on.
    pub enum Status {
        /// It works.
        Working = "working",
        /// It is being tried.
        Testing = "testing",
        /// It is known not to work.
        Broken = "broken",
    }
}

impl Candy {
    /// Returns the first line of the description.
    pub fn summary(&self) -> &str {
        self.description.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
    }
}
