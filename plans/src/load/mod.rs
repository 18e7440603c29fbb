//! From folders to documents: a project, what it imports, what the machine adds, and the shipped candies.

mod candy;
mod digests;
mod folder;
mod lookup;
mod project;
mod workspace;

pub use candy::{LoadedCandy, Origin};
pub use digests::Digests;
pub use folder::{Blob, Folder, SourceFile};
pub use workspace::{Declared, DeployEntry, Settings, Workspace};

pub(crate) use candy::{shown_from, unreadable};
pub(crate) use folder::{FoundFile, digested, find_build_sources, find_sources};
