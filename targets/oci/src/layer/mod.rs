//! Layers: archives of what an image adds to the one below.
//!
//! | module | what it holds |
//! |---|---|
//! | [`entry`] | one thing that a layer says about one path |

pub mod entry;

pub use entry::{Entry, Kind};
