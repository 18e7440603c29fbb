//! A project's file and a machine's file.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::box_::BoxSpec;
use super::candy::Candy;
use super::deploy::{Deploy, LocalTemplate, Sidecar};
use super::k8s::K8sSpec;
use super::reference::Reference;
use super::values::CalVer;
use super::vm::VmSpec;
use crate::read::{Definitions, FromYaml, Map, Reader, Spanned, record};
use crate::yaml::{Node, Value};

record! {
    /// A project, or what one machine adds to it.
    pub struct Project {
        /// The version by date, `YYYY.DDD.HHMM`.
        pub version: Option<Spanned<CalVer>>,
        /// Other projects whose entities are used here.
        pub import: Vec<Spanned<Import>>,
        /// Folders in which candies are looked for; `candy` where nothing is said.
        pub discover: Option<Vec<Discover>>,
        /// What holds where an entity says nothing.
        pub defaults: Option<Defaults>,
        /// Candies declared in place.
        pub candy: Map<Spanned<Candy>>,
        /// Boxes.
        pub box_ as "box": Map<Spanned<BoxSpec>>,
        /// Machines.
        pub vm: Map<Spanned<VmSpec>>,
        /// Clusters.
        pub k8s: Map<Spanned<K8sSpec>>,
        /// Templates for this machine.
        pub local: Map<Spanned<LocalTemplate>>,
        /// Sidecars.
        pub sidecar: Map<Spanned<Sidecar>>,
        /// Deploys, by `name` or `name/instance`.
        pub deploy: Map<Spanned<Deploy>>,
    }
}

record! {
    /// A folder in which candies are looked for.
    pub struct Discover {
        /// The folder.
        pub path: Spanned<String>,
        /// Whether folders in it are looked through, too; one level where not.
        pub recursive: bool,
    }
}

record! {
    /// What holds where an entity says nothing.
    pub struct Defaults {
        /// The base image of boxes.
        pub base: Option<Spanned<String>>,
        /// The registry that images are pushed to.
        pub registry: Option<Spanned<String>>,
        /// The tag of images.
        pub tag: Option<Spanned<String>>,
        /// Platforms of images.
        pub platform: Vec<String>,
        /// Images that the builders run in, by builder.
        pub builder: Map<Spanned<String>>,
        /// The user in images.
        pub user: Option<Spanned<String>>,
        /// The container engine.
        pub engine: Option<Spanned<String>>,
    }
}

/// Another project: a path or a repository, with or without an alias for its names.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// What its names are prefixed with, as in `alias.name`.
    pub alias: Option<Spanned<String>>,
    /// Where it is.
    pub reference: Spanned<Reference>,
}

impl FromYaml for Import {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => match entries.as_slice() {
                [(alias, reference)] => {
                    let alias = Spanned::new(alias.text.to_string(), alias.span);
                    Some(Self { alias: Some(alias), reference: Spanned::read(reference, cx)? })
                }
                _ => cx.error(node.span, "an import has one alias"),
            },
            _ => Some(Self { alias: None, reference: Spanned::read(node, cx)? }),
        }
    }

    fn schema(_: &mut Definitions) -> Json {
        let one = json!({"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "string"}});
        json!({"oneOf": [{"type": "string"}, one]})
    }
}

impl Serialize for Import {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.alias {
            None => self.reference.serialize(serializer),
            Some(alias) => serializer.collect_map([(&alias.value, &self.reference.value)]),
        }
    }
}
