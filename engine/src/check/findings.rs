//! What an attempt found, put so that a person sees what was wanted and what was there.

use std::error::Error;
use std::fmt::Display;

/// The longest value shown, in characters.
const VALUE_CAP: usize = 400;
/// The longest evidence, in characters.
const EVIDENCE_CAP: usize = 4096;

/// The ways in which the venue differs from what is wanted.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<String>);

/// Why an attempt ended without findings.
#[derive(Debug)]
pub(super) enum Halt {
    /// The check has no answer here, for this reason.
    Skip(String),
    /// The check does not hold, for this reason.
    Fail(String),
}

impl Findings {
    /// Adds a sentence.
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        self.0.push(sentence.into());
    }

    /// Adds that one value was wanted and another found, where they differ.
    pub(super) fn equal<T: PartialEq + Display>(&mut self, what: &str, wanted: Option<T>, found: &T) {
        if let Some(wanted) = wanted.filter(|wanted| wanted != found) {
            self.add(format!("{what}: wanted `{wanted}`, found `{found}`"));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_evidence(self) -> String {
        cap(self.0.join("; "))
    }
}

/// Shows a value from the venue on one line: control characters escaped, cut where it is long.
pub(super) fn quote(value: &str) -> String {
    let mut out = String::from("`");
    for (at, c) in value.chars().enumerate() {
        if at == VALUE_CAP {
            return format!("{out}…` ({} bytes in all)", value.len());
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// Shows an error with the chain of its sources.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn cap(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(EVIDENCE_CAP) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_on_one_short_line() {
        for (value, want) in [
            ("", "``".to_owned()),
            ("a\nb\t\u{1b}[31mé", "`a\\nb\\t\\u{1b}[31mé`".to_owned()),
            (&"é".repeat(401), format!("`{}…` (802 bytes in all)", "é".repeat(400))),
            (&"é".repeat(400), format!("`{}`", "é".repeat(400))),
        ] {
            assert_eq!(quote(value), want);
        }
    }

    #[test]
    fn evidence_is_capped() {
        let mut findings = Findings::default();
        findings.equal("x", Some(1), &1);
        findings.equal("x", None, &1);
        assert!(findings.is_empty());
        findings.equal("x", Some(1), &2);
        findings.add("é".repeat(4096));
        let evidence = findings.into_evidence();
        assert!(evidence.starts_with("x: wanted `1`, found `2`; é"), "{evidence}");
        assert_eq!(evidence.chars().count(), EVIDENCE_CAP + 1);
    }
}
