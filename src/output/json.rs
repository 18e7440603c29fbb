//! The lines of `--format json`.

use charly_ir::message::{Diff, Done, Event, Kept, Problem, Verdict};
use charly_plans::diagnostic::Diagnostic;
use serde::Serialize;

use crate::exit::Exit;

/// One line: an object with one key, which says what it is. The last line of every verb is a [`Line::Result`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line<'a> {
    /// What is about to change.
    Diff(&'a Diff),
    /// Something happened.
    Event(&'a Event),
    /// The run was told to end at the next step boundary (1), or to kill what runs (2).
    Cancelling(u32),
    /// A mistake in a document.
    Finding(&'a Diagnostic),
    /// Something went wrong.
    Error(&'a Problem),
    /// One thing of a list.
    Item(serde_json::Value),
    /// How it ended.
    Result(ResultLine<'a>),
}

/// How a verb ended.
#[derive(Debug, Serialize)]
pub(crate) struct ResultLine<'a> {
    /// The exit code.
    exit: u8,
    /// What it stands for.
    outcome: Exit,
    /// The engine's last word, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunLine<'a>>,
}

#[derive(Debug, Serialize)]
struct RunLine<'a> {
    verdict: &'a Verdict,
    changed: u32,
    unchanged: u32,
    removed: u32,
    kept: &'a [Kept],
}

impl<'a> Line<'a> {
    /// Ends a verb.
    pub(crate) fn result(exit: Exit, done: Option<&'a Done>) -> Self {
        let run = done.map(|Done { verdict, changed, unchanged, removed, kept }| RunLine {
            verdict,
            changed: *changed,
            unchanged: *unchanged,
            removed: *removed,
            kept,
        });
        Self::Result(ResultLine { exit: exit as u8, outcome: exit, run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_what_it_is() {
        let done = Done { changed: 2, ..Done::verdict(Verdict::Ok) };
        let line = serde_json::to_string(&Line::result(Exit::Done, Some(&done))).unwrap();
        assert_eq!(
            line,
            r#"{"result":{"exit":0,"outcome":"done","run":{"verdict":"ok","changed":2,"unchanged":0,"removed":0,"kept":[]}}}"#
        );
        let line = serde_json::to_string(&Line::Error(&Problem::new("x").hint("y"))).unwrap();
        assert_eq!(line, r#"{"error":{"what":"x","hint":"y"}}"#);
    }
}
