//! YAML text to a tree whose every node knows where it stands.
//!
//! Typed values are read from the tree, not from the parser, so that one mistake does not hide the next: a syntax error
//! ends a document, everything else is collected.

mod node;
mod parse;

pub(crate) use node::{Key, Node, Value};
pub(crate) use parse::parse;
