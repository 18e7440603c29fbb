//! Container images: layers, layouts, registries, and how an image is built.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layer`] | what a layer says, entry by entry; how it is written and read |

pub mod build;
pub mod layer;
pub mod sandbox;
