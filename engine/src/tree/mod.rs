//! Reads and changes paths below a root.
//!
//! Every operation works on a folder's descriptor and a name in it, found by a [walk](root) that the venue's other users
//! cannot lead astray. Whatever replaces something is made beside it and renamed over it.

mod node;
mod place;
mod root;

pub(crate) use node::is_nothing;
pub use node::{Node, glance, observe, open_file};
pub use place::{Content, Placed, make_dir, make_link, place_file, remove, remove_tree, sweep};
pub use root::{Root, Spot, Trust};

use std::io;

/// A path operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{path}`")]
pub struct TreeError {
    /// What was tried.
    pub doing: &'static str,
    /// The path, as the venue sees it.
    pub path: String,
    /// Why it failed.
    pub source: io::Error,
}

impl TreeError {
    pub(crate) fn new(doing: &'static str, path: &str, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.to_owned(), source: source.into() }
    }
}

/// Tells whether a path is one that charly may own: absolute, normalized, not the root, without NUL.
pub fn is_ownable(path: &str) -> bool {
    path.len() > 1
        && path.len() < 4096
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() < 256)
        })
}

/// Returns the folder a path lies in.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}
