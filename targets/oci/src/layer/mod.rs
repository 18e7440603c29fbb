//! Layers: archives of what an image adds to the one below.
//!
//! | module | what it holds |
//! |---|---|
//! | [`entry`] | one thing that a layer says about one path |
//! | [`mod@write`] | layers, written so that equal entries give equal bytes |
//! | [`read`] | layers of others, read with suspicion |
//! | [`mod@list`] | what a layer says in the end, path by path |
//! | [`tree`] | layers merged, by what they say alone |
//! | [`mod@unpack`] | one layer as a lower folder of an overlay |
//! | [`upper`] | an overlay's upper folder as a layer's entries |
//! | [`mod@merge`] | several layers as one |
//! | [`ahead`] | decompression in a thread of its own |
//! | [`compress`] | compression by several workers |
//! | [`error`] | why a layer cannot be written, read or unpacked |

pub mod ahead;
pub mod compress;
pub mod entry;
pub mod error;
pub mod list;
pub mod merge;
pub mod read;
pub mod tree;
pub mod unpack;
pub mod upper;
pub mod write;

pub use ahead::Ahead;
pub use compress::Compression;
pub use entry::{Entry, Kind};
pub use error::LayerError;
pub use list::list;
pub use merge::merge;
pub use read::{LayerReader, Limits, decompress};
pub use tree::Tree;
pub use unpack::{OverlayXattrs, Skipped, unpack};
pub use write::{Layer, LayerWriter};
