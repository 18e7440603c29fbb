//! How long steps took here before, to say how long they may take now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use charly_ir::message::{Change, Diff};

/// What is known of a place. It is kept here, not there, and may be thrown away at any time.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    file: Option<PathBuf>,
    /// Milliseconds, by `candy/step`.
    known: BTreeMap<String, u64>,
    /// The steps of the run under way that have not ended yet, by their number.
    due: BTreeMap<u32, String>,
    changed: bool,
}

impl Timings {
    /// The most steps that are remembered of a place.
    const MOST: usize = 5000;

    /// Reads what is known of a place. What cannot be read is not known.
    pub(crate) fn of(cache: &Path, place: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "@.-".contains(c) { c } else { '_' };
        let name: String = place.chars().map(plain).take(100).collect();
        let file = cache.join("timings").join(format!("{name}.json"));
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: Some(file), known: known.unwrap_or_default(), ..Self::default() }
    }

    /// Learns what is about to be done.
    pub(crate) fn planned(&mut self, diff: &Diff) {
        let due = diff.steps.iter().filter(|step| !matches!(step.change, Change::Keep | Change::Skip));
        let key = |undo: bool, name: String| if undo { format!("-{name}") } else { name };
        self.due = due
            .map(|step| (step.index, key(step.change == Change::Remove, format!("{}/{}", step.candy, step.id))))
            .collect();
    }

    /// Learns how long a step took.
    pub(crate) fn ended(&mut self, index: u32, took_ms: u64) {
        let Some(step) = self.due.remove(&index) else { return };
        if self.known.len() < Self::MOST || self.known.contains_key(&step) {
            // What was measured last weighs as much as all before it: machines change.
            let known = self.known.entry(step).or_insert(took_ms);
            *known = u64::midpoint(*known, took_ms);
            self.changed = true;
        }
    }

    /// Returns how long what is left may take; none where a step of it was never seen.
    pub(crate) fn left(&self) -> Option<Duration> {
        let times: Option<Vec<u64>> = self.due.values().map(|step| self.known.get(step).copied()).collect();
        times.map(|times| Duration::from_millis(times.iter().sum()))
    }

    /// Remembers. Where that cannot be done, nothing is lost but a guess.
    pub(crate) fn keep(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        let Some(folder) = file.parent() else { return };
        let Ok(bytes) = serde_json::to_vec(&self.known) else { return };
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::NamedTempFile::new_in(folder))
            .and_then(|mut part| std::io::Write::write_all(&mut part, &bytes).map(|()| part));
        if let Ok(part) = written {
            part.persist(file).ok();
        }
        self.changed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_ir::message::StepDiff;

    fn diff(steps: &[(&str, Change)]) -> Diff {
        let step = |(index, (id, change)): (u32, &(&str, Change))| StepDiff {
            index,
            candy: "c".into(),
            id: (*id).into(),
            title: String::new(),
            kind: "write".into(),
            scope: "user".into(),
            gate: None,
            change: *change,
            details: vec![],
        };
        Diff { steps: (0..).zip(steps).map(step).collect(), ..Diff::default() }
    }

    #[test]
    fn what_was_seen_once_can_be_guessed_the_next_time() {
        let cache = tempfile::tempdir().unwrap();
        let steps = [("a", Change::Add), ("b", Change::Change), ("k", Change::Keep)];
        let mut first = Timings::of(cache.path(), "ssh:me@host:22");
        first.planned(&diff(&steps));
        assert_eq!(first.left(), None);
        first.ended(0, 1000);
        first.ended(1, 3000);
        first.ended(7, 9);
        assert_eq!(first.left(), Some(Duration::ZERO));
        first.keep();

        let mut second = Timings::of(cache.path(), "ssh:me@host:22");
        second.planned(&diff(&steps));
        assert_eq!(second.left(), Some(Duration::from_secs(4)));
        second.ended(0, 2000);
        assert_eq!(second.left(), Some(Duration::from_secs(3)));
        second.planned(&diff(&[("a", Change::Remove)]));
        assert_eq!(second.left(), None, "undoing is another thing");
        assert_eq!(Timings::of(cache.path(), "elsewhere").known.len(), 0);
    }
}
