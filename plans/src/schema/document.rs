//! A whole document: which kind it is, and how it is read.

use std::sync::Arc;

use super::candy::Candy;
use super::project::Project;
use super::rules;
use crate::diagnostic::Diagnostics;
use crate::read::{Fields, FromYaml, Reader, record};
use crate::source::Source;
use crate::yaml::{self, Node, Value};

record! {
    /// A candy's file.
    pub struct CandyDocument {
        /// The candy.
        pub candy: Candy,
    }
}

/// What a `charly.yml` holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One candy: `candy:` has a name of its own.
    Candy(Box<Candy>),
    /// A project, or what a machine adds to one.
    Project(Box<Project>),
}

/// Reads a `charly.yml` of either kind.
///
/// The findings are those of the document by itself: whether what it refers to exists is not asked.
pub fn parse(source: &Arc<Source>) -> (Option<Document>, Diagnostics) {
    read(source, |node, cx| {
        if is_candy(node) {
            read_candy(node, cx).map(|candy| Document::Candy(Box::new(candy)))
        } else {
            read_project(node, cx).map(|project| Document::Project(Box::new(project)))
        }
    })
}

/// Reads a candy's file.
pub fn parse_candy(source: &Arc<Source>) -> (Option<Candy>, Diagnostics) {
    read(source, read_candy)
}

/// Reads a project's or a machine's file. An empty one is a project without entities.
pub fn parse_project(source: &Arc<Source>) -> (Option<Project>, Diagnostics) {
    read(source, read_project)
}

fn read<T>(
    source: &Arc<Source>,
    typed: impl FnOnce(&Node<'_>, &mut Reader<'_>) -> Option<T>,
) -> (Option<T>, Diagnostics) {
    let mut found = Diagnostics::default();
    let value = yaml::parse(source, &mut found).and_then(|node| typed(&node, &mut Reader::new(source, &mut found)));
    found.sort();
    (value, found)
}

fn read_candy(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Candy> {
    let CandyDocument { candy } = CandyDocument::read(node, cx)?;
    rules::check_candy(&candy, cx);
    Some(candy)
}

fn read_project(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Project> {
    let project = if node.is_null() { Project::take(&mut Fields::default(), cx)? } else { Project::read(node, cx)? };
    rules::check_project(&project, cx);
    Some(project)
}

/// Tells a candy's file from a project that declares candies in place, where each is a mapping under its name.
fn is_candy(node: &Node<'_>) -> bool {
    let Some(candy) = node.get("candy") else { return false };
    let text = |key: &str| matches!(candy.get(key).map(|node| &node.value), Some(Value::Scalar { .. }));
    text("name") || text("version") || text("description")
}
