//! What a run came to.

use std::fmt;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use charly_ir::message::{CheckResult, Done, Kept};

use super::clean;

/// Displays what a run changed, what it left behind, and how to undo it.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) done: &'a Done,
    pub(crate) took: Duration,
    /// The command that undoes it.
    pub(crate) undo: Option<&'a str>,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { verdict: _, changed, unchanged, removed, kept } = self.done;
        for Kept { subject, reason } in kept {
            writeln!(f, "kept {}: {}", clean(subject), clean(reason))?;
        }
        let parts = [(changed, "changed"), (removed, "taken away"), (unchanged, "unchanged")];
        let parts: Vec<_> = parts.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let what = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
        let green = AnsiColor::Green.on_default().bold();
        write!(f, "{green}done{green:#} in {}: {what}", seconds(self.took))?;
        if let Some(undo) = self.undo.filter(|_| *changed > 0) {
            write!(f, "\nundo it with `{undo}`")?;
        }
        Ok(())
    }
}

/// Writes a time as people read it.
pub(crate) fn seconds(took: Duration) -> String {
    match took.as_secs() {
        0..10 => format!("{:.1} s", took.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Writes the line of an evaluated check.
pub(crate) fn checked(candy: &str, title: &str, result: &CheckResult) -> String {
    let (green, red, dim) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default().bold(), Style::new().dimmed());
    let (candy, title) = (clean(candy), clean(title));
    let indented = |text: &str| clean(text).trim_end().replace('\n', "\n        ");
    match result {
        CheckResult::Passed => format!("{green}ok  {green:#}  {candy}: {title}"),
        CheckResult::Failed { evidence } => {
            format!("{red}FAIL{red:#}  {candy}: {title}\n        {}", indented(evidence))
        }
        CheckResult::Skipped { reason } => format!("{dim}skip{dim:#}  {candy}: {title} ({})", indented(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_ir::message::Verdict;

    #[test]
    fn a_summary_says_how_to_undo() {
        let kept = vec![Kept { subject: "~/.vimrc".into(), reason: "edited since".into() }];
        let done = Done { verdict: Verdict::Ok, changed: 3, unchanged: 1, removed: 0, kept };
        let took = Duration::from_millis(1234);
        let text = Summary { done: &done, took, undo: Some("charly bundle del local") }.to_string();
        assert_eq!(
            clean(&text),
            "kept ~/.vimrc: edited since\ndone in 1.2 s: 3 changed, 1 unchanged\nundo it with `charly bundle del local`"
        );
        let nothing = Done::verdict(Verdict::Ok);
        let text = Summary { done: &nothing, took: Duration::from_secs(150), undo: Some("x") }.to_string();
        assert_eq!(clean(&text), "done in 2 min 30 s: nothing to do");
    }

    #[test]
    fn evidence_stands_below_its_check() {
        let failed = CheckResult::Failed { evidence: "wanted a\nfound b\n".into() };
        assert_eq!(clean(&checked("c", "t", &failed)), "FAIL  c: t\n        wanted a\n        found b");
        assert_eq!(clean(&checked("c", "t", &CheckResult::Passed)), "ok    c: t");
    }
}
