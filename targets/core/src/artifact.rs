//! What builder steps place: made on the controller, for one path on one kind of venue.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use charly_ir::Digest;
use charly_ir::message::{Member, Problem};
use charly_ir::plan::Builder;

use crate::fetch::Content;

/// Makes what builder steps place.
pub trait Builders: Debug + Send {
    /// Returns what a step places, made before or now.
    fn artifact(&mut self, wanted: &Wanted<'_>) -> Result<Artifact, Problem>;
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The candy that asks for it.
    pub candy: &'a str,
    /// What it is made by, and of.
    pub builder: &'a Builder,
    /// The path that it is made for.
    pub to: &'a str,
    /// The operating system that it is made for, as [`Os::tag`](charly_ir::facts::Os::tag) writes it.
    pub os: &'a str,
    /// The architecture, as `uname -m` writes it.
    pub arch: &'a str,
    /// The bytes of the builder's inputs.
    pub inputs: &'a BTreeMap<Digest, Content>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// What is to be placed, folders before what lies in them.
    pub members: Vec<Member>,
    /// The folder that the files' bytes lie in, by digest.
    pub files: PathBuf,
}
