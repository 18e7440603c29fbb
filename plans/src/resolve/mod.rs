//! From references to candies in order, with the files they need at hand.

mod fingerprint;
mod found;
pub(crate) mod git;
mod order;
mod walk;

pub use fingerprint::Fingerprint;
pub use found::Found;
pub(crate) use found::sources;
pub use walk::{LayerRef, Resolved, ResolvedCandy, Sources};
