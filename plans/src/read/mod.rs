//! From the tree to typed values, collecting every mistake on the way.
//!
//! A type says once what its keys are, which are mandatory and what they mean ([`record!`], [`choice!`], [`FromText`]).
//! Reading, the hints of "did you mean", writing and the JSON schema all follow from that one table.

mod basic;
mod fields;
mod macros;
pub(crate) mod schema;

use std::sync::Arc;

use serde_json::Value as Json;

pub(crate) use basic::{FromText, Problem};
pub use basic::{Map, Spanned};
pub(crate) use fields::{Fields, listing};
pub(crate) use macros::{choice, record};
pub(crate) use schema::Definitions;

use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::source::{Place, Source, Span};
use crate::yaml::Node;

/// A type that a document's value can be read as.
pub(crate) trait FromYaml: Sized {
    /// Reads a value. Where that cannot be done, the mistake is in the reader's findings and nothing comes back.
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self>;

    /// Returns the value that a missing key stands for; nothing where the key is mandatory.
    fn absent() -> Option<Self> {
        None
    }

    /// Tells whether the value is the one a missing key stands for.
    fn is_absent(&self) -> bool {
        false
    }

    /// Lays another value over this one: what that says holds, where it says nothing this stays.
    fn overlay(&mut self, over: Self) {
        if !over.is_absent() {
            *self = over;
        }
    }

    /// Describes the values that can be read, as JSON schema.
    fn schema(definitions: &mut Definitions) -> Json;
}

/// The document being read, and what was found in it.
#[derive(Debug)]
pub(crate) struct Reader<'d> {
    source: Arc<Source>,
    found: &'d mut Diagnostics,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(source: &Arc<Source>, found: &'d mut Diagnostics) -> Self {
        Self { source: Arc::clone(source), found }
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }

    /// Notes a mistake. `None` comes back, so that a reader can end with it.
    pub(crate) fn error<T>(&mut self, span: Span, problem: impl Into<Problem>) -> Option<T> {
        let Problem { message, hint } = problem.into();
        let finding = Diagnostic { hint, ..Diagnostic::error(message).at(self.place(span)) };
        self.found.push(finding);
        None
    }

    /// Notes a finding as it is. `None` comes back, so that a reader can end with it.
    pub(crate) fn push<T>(&mut self, finding: Diagnostic) -> Option<T> {
        self.found.push(finding);
        None
    }

    /// Tells whether there are more findings than anybody reads, so that looking for more is a waste.
    pub(crate) fn is_full(&self) -> bool {
        self.found.is_full()
    }

    /// Notes something that is carried without being understood.
    pub(crate) fn warning(&mut self, span: Span, problem: impl Into<Problem>) {
        let Problem { message, hint } = problem.into();
        let finding = Diagnostic { hint, ..Diagnostic::warning(message).at(self.place(span)) };
        self.found.push(finding);
    }

    pub(crate) fn wrong_type<T>(&mut self, node: &Node<'_>, wanted: &str) -> Option<T> {
        self.error(node.span, format!("expected {wanted}, found {}", node.describe()))
    }
}

/// Says that a word is none of those known.
pub(crate) fn unknown_word(word: &str, known: &[&str]) -> Problem {
    let hint = suggestion(word, known.iter().copied()).unwrap_or_else(|| format!("it is one of {}", listing(known)));
    Problem::new(format!("`{word}` means nothing here"), hint)
}
