//! From references to candies in order, with the files they need at hand.

pub(crate) mod git;
mod order;
mod walk;

pub(crate) use walk::sources;
pub use walk::{LayerRef, Resolved, ResolvedCandy, Sources};
