//! The documents, typed: a candy's file, a project's file, a machine's file.
//!
//! Every type is declared as a table of its keys. Reading collects all mistakes of a document in one run; the JSON schema
//! in `docs/schema` follows from the same tables.

mod box_;
mod candy;
mod check;
mod container;
mod contract;
mod deploy;
mod document;
mod json;
mod k8s;
mod matcher;
mod package;
mod project;
mod reference;
mod rules;
mod run;
mod secret;
mod service;
mod shell;
mod step;
mod values;
mod vm;

pub use box_::*;
pub use candy::*;
pub use check::*;
pub use container::*;
pub use contract::*;
pub use deploy::*;
pub use document::*;
pub use json::json_schema;
pub use k8s::*;
pub use matcher::*;
pub use package::*;
pub use project::*;
pub use reference::*;
pub use run::*;
pub use secret::*;
pub use service::*;
pub use shell::*;
pub use step::*;
pub use values::*;
pub use vm::*;

pub use crate::read::{Map, Spanned};
