//! What is wrong with a document, where, and what to do about it.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use crate::source::Place;

/// The most findings that are kept of one document. Whoever has more has sent the wrong file.
const MOST_PER_DOCUMENT: usize = 200;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing can be done with the document.
    Error,
    /// Something is carried that charly does not know.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// What to do next.
    pub hint: Option<String>,
    /// Other places that matter, and why.
    pub related: Vec<(Place, String)>,
}

/// All findings of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostic {
    /// Makes an error that has no place yet.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), place: None, hint: None, related: Vec::new() }
    }

    /// Makes a warning that has no place yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Points at another place that matters.
    #[must_use]
    pub fn related(mut self, place: Place, why: impl Into<String>) -> Self {
        self.related.push((place, why.into()));
        self
    }

    /// Renders the finding with its excerpts, for a terminal that does or does not show colours.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        if let Some(place) = &self.place {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                self.related.iter().partition(|(other, _)| Arc::ptr_eq(&other.source, &place.source));
            let window = Window::around(std::iter::once(place).chain(here.iter().map(|(other, _)| other)));
            let mut primary = window.snippet(place).annotation(AnnotationKind::Primary.span(window.shown(place)));
            for (other, why) in here {
                primary = primary.annotation(AnnotationKind::Context.span(window.shown(other)).label(why.as_str()));
            }
            group = group.element(primary);
            for (other, why) in elsewhere {
                let window = Window::around(std::iter::once(other));
                let context = AnnotationKind::Context.span(window.shown(other)).label(why.as_str());
                group = group.element(window.snippet(other).annotation(context));
            }
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// Returns the line of the source in which the finding stands.
    pub fn excerpt(&self) -> Option<&str> {
        let place = self.place.as_ref()?;
        let text = place.source.text();
        let at = place.range().start;
        let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
        text[start..].lines().next()
    }
}

impl Diagnostics {
    /// Tells whether there is an error among the findings.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Tells whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the findings, in the order of the documents and of the text within each.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// Renders every finding, with an empty line between two.
    pub fn render(&self, colour: bool) -> String {
        let rendered: Vec<_> = self.0.iter().map(|finding| finding.render(colour)).collect();
        rendered.join("\n\n")
    }

    /// Returns the value if no finding is an error; all findings otherwise.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if !self.has_errors() => Ok(value),
            _ => Err(self),
        }
    }

    /// Drops findings that are there already.
    pub fn dedup(&mut self) {
        let mut seen = HashSet::new();
        self.0.retain(|finding| {
            let place = finding.place.as_ref().map(|place| (Arc::as_ptr(&place.source), place.span));
            seen.insert((place, finding.message.clone()))
        });
    }

    /// Tells whether there are more errors than anybody reads, so that looking for more is a waste.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() > MOST_PER_DOCUMENT
    }

    pub(crate) fn push(&mut self, finding: Diagnostic) {
        self.0.push(finding);
    }

    /// Adds findings.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Diagnostic>) {
        self.0.extend(findings);
    }

    /// Puts findings of one document in the order of its text, and drops those that nobody would read.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by_key(|finding| finding.place.as_ref().map(|place| place.span));
        if self.0.len() > MOST_PER_DOCUMENT {
            let dropped = self.0.len() - MOST_PER_DOCUMENT;
            self.0.truncate(MOST_PER_DOCUMENT);
            self.0.push(Diagnostic::error(format!("and {dropped} more in this document")));
        }
    }
}

/// Returns the known word that was probably meant.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| strsim::damerau_levenshtein(word, candidate);
    let best = known.into_iter().min_by_key(near)?;
    // A third of the word may be wrong; beyond that a suggestion is noise. One letter is too short to guess from.
    (word.len() > 1 && near(&best) <= word.chars().count().div_ceil(3)).then_some(best)
}

/// Returns a hint that names the word probably meant, if there is one.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    did_you_mean(word, known).map(|known| format!("did you mean `{known}`?"))
}

/// The lines of a source that a rendering needs. Long documents are not searched again for every finding.
struct Window {
    lines: Range<usize>,
}

impl Window {
    fn around<'p>(places: impl Iterator<Item = &'p Place>) -> Self {
        let (mut start, mut end) = (usize::MAX, 0);
        for place in places {
            let (text, at) = (place.source.text(), place.range().start);
            start = start.min(text[..at].rfind('\n').map_or(0, |newline| newline + 1));
            end = end.max(text[at..].find('\n').map_or(text.len(), |length| at + length));
        }
        Self { lines: start.min(end)..end }
    }

    fn snippet<'p>(&self, place: &'p Place) -> Snippet<'p, annotate_snippets::Annotation<'p>> {
        let text = place.source.text();
        let line = text[..self.lines.start].matches('\n').count() + 1;
        Snippet::source(&text[self.lines.clone()]).line_start(line).path(place.source.name())
    }

    /// Returns the bytes to underline: those of the first line, since what is meant is almost always a word in it.
    fn shown(&self, place: &Place) -> Range<usize> {
        let range = place.range();
        let first_line = place.source.text()[range.clone()].lines().next().map_or(0, str::len);
        let start = range.start - self.lines.start;
        start..start + first_line
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(finding: Diagnostic) -> Self {
        Self(vec![finding])
    }
}

impl fmt::Display for Diagnostic {
    /// Writes `file:line:column: message`, without the excerpt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct At<'a> {
            file: &'a str,
            line: usize,
            column: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Finding<'a> {
            severity: Severity,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<At<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            excerpt: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            related: Vec<At<'a>>,
        }
        fn at<'a>(place: &'a Place, message: Option<&'a str>) -> At<'a> {
            let (line, column) = place.line_column();
            At { file: place.source.name(), line, column, message }
        }
        let finding = Finding {
            severity: self.severity,
            message: &self.message,
            at: self.place.as_ref().map(|place| at(place, None)),
            excerpt: self.excerpt(),
            hint: self.hint.as_deref(),
            related: self.related.iter().map(|(place, why)| at(place, Some(why))).collect(),
        };
        finding.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_stay_near() {
        let known = ["package", "plan", "path_append"];
        for (word, want) in [("pakage", Some("package")), ("plna", Some("plan")), ("zzz", None), ("p", None)] {
            assert_eq!(did_you_mean(word, known), want, "{word}");
        }
    }
}
