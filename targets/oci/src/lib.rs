//! Container images: layers, layouts, registries, and how an image is built.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layer`] | what a layer says, entry by entry; how it is written and read |
//! | [`source`] | images from and to layouts, archives and registries |
//! | [`store`] | the images of this machine, in a folder that other tools can read |
//! | [`build`] | how an image comes of a plan, one layer a candy |
//! | [`builder`] | what builder steps place, made in a box of its own |
//! | [`sandbox`] | where the steps run that must run |
//! | `podman` | images of this machine's podman |
//! | `private` | folders that nobody but their user enters |
//! | [`space`] | how much of the disk all that takes |
//! | [`serve`] | an image as a machine is served it, whatever it is kept in |

pub mod build;
pub mod builder;
pub mod layer;
mod podman;
mod private;
pub mod sandbox;
pub mod serve;
pub mod source;
pub mod space;
pub mod store;
#[cfg(test)]
mod tests;

pub use oci_spec::image::{Config, Descriptor};
