//! Container images: layers, layouts, registries, and how an image is built.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layer`] | what a layer says, entry by entry; how it is written and read |
//! | `podman` | images of this machine's podman |
//! | [`serve`] | an image as a machine is served it, whatever it is kept in |

pub mod layer;
mod podman;
pub mod serve;
