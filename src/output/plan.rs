//! A plan as people read it.

use std::collections::BTreeSet;
use std::fmt;

use anstyle::{AnsiColor, Style};
use charly_ir::message::{Change, Detail, Diff, Retrieval, StepDiff};
use charly_ir::plan::Gate;

use super::clean;

/// How many details of a step are shown before the rest is counted.
const SHOWN: usize = 6;

/// Displays what is about to change: grouped by candy, unchanged steps counted only.
#[derive(Debug)]
pub(crate) struct PlanView<'a> {
    pub(crate) diff: &'a Diff,
    /// Shows every step and every detail.
    pub(crate) verbose: bool,
}

impl fmt::Display for PlanView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut candy = None;
        for step in &self.diff.steps {
            if step.change == Change::Keep && !self.verbose {
                continue;
            }
            // A candy that goes away has its own heading, also where another version of it comes.
            let heading = (step.candy.as_str(), step.change == Change::Remove);
            if candy != Some(heading) {
                if candy.is_some() {
                    writeln!(f)?;
                }
                candy = Some(heading);
                let bold = Style::new().bold();
                let note = if heading.1 { " (taken away)" } else { "" };
                writeln!(f, "{bold}{}{bold:#}{note}", clean(&step.candy))?;
            }
            self.step(step, f)?;
        }
        if candy.is_some() {
            writeln!(f)?;
        }
        for Retrieval { path, to } in &self.diff.retrieves {
            writeln!(f, "brings back {} to {}", clean(path), clean(to))?;
        }
        for warning in &self.diff.warnings {
            let style = AnsiColor::Yellow.on_default().bold();
            writeln!(f, "{style}warning{style:#}: {}", clean(warning))?;
        }
        write!(f, "{}", Counts(self.diff))?;
        gates(&self.diff.gates, f)
    }
}

impl PlanView<'_> {
    fn step(&self, step: &StepDiff, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = style(step.change);
        let title = clean(&step.title).replace('\n', " ");
        write!(f, "  {style}{}{style:#} {title}", symbol(step.change))?;
        let whom = match step.scope.as_str() {
            "user" | "user-profile" => None,
            "system" => Some("root".to_owned()),
            other => Some(clean(other)),
        };
        let gate = step.gate.filter(|_| step.change != Change::Keep).map(|gate| gate.flag().to_owned());
        let notes: Vec<_> = whom.into_iter().chain(gate).collect();
        if !notes.is_empty() {
            let dim = Style::new().dimmed();
            write!(f, "  {dim}{}{dim:#}", notes.join(" "))?;
        }
        writeln!(f)?;
        let told = |detail: &&Detail| self.verbose || detail.note.is_some() || !is_implied(detail, step, &title);
        let details: Vec<_> = step.details.iter().filter(told).collect();
        let shown = if self.verbose || details.len() <= SHOWN + 1 { details.len() } else { SHOWN };
        for detail in &details[..shown] {
            Self::detail(detail, f)?;
        }
        if shown < details.len() {
            writeln!(f, "      … {} more; -v shows them", details.len() - shown)?;
        }
        Ok(())
    }

    fn detail(detail: &Detail, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { change, what, subject, note } = detail;
        let (style, dim) = (style(*change), Style::new().dimmed());
        write!(f, "      {style}{}{style:#} {} {}", symbol(*change), clean(what), clean(subject))?;
        if let Some(note) = note {
            let note = clean(note).replace('\n', "\n        ");
            write!(f, "  {dim}{note}{dim:#}")?;
        }
        writeln!(f)
    }
}

/// Tells whether a detail says no more than the step's title, or is a folder on the way to another detail.
fn is_implied(detail: &Detail, step: &StepDiff, title: &str) -> bool {
    let subject = detail.subject.trim_end_matches('/');
    let is_below = |other: &Detail| {
        let rest = other.subject.strip_prefix(subject);
        other.change == detail.change && rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let is_on_the_way = detail.what == "folder" && step.details.iter().any(is_below);
    is_on_the_way || title.split_whitespace().any(|word| word == subject)
}

/// Displays how many steps change, in one line.
struct Counts<'a>(&'a Diff);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |change| self.0.steps.iter().filter(|step| step.change == change).count();
        let kept = count(Change::Keep);
        let parts = [
            (count(Change::Add), "to add"),
            (count(Change::Change), "to change"),
            (count(Change::Remove), "to take away"),
            (count(Change::Unknown), "not known without more rights"),
            (count(Change::Skip), "passed over"),
        ];
        let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        match (parts.as_slice(), kept) {
            ([], 0) => writeln!(f, "nothing to do"),
            ([], 1) => writeln!(f, "nothing to do: its one step is as it should be"),
            ([], kept) => writeln!(f, "nothing to do: all {kept} steps are as they should be"),
            (parts, 0) => writeln!(f, "{}", parts.join(", ")),
            (parts, kept) => writeln!(f, "{}; {kept} unchanged", parts.join(", ")),
        }
    }
}

fn gates(gates: &BTreeSet<Gate>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for gate in gates {
        writeln!(f, "needs {}: it {}", gate.flag(), gate_reason(*gate))?;
    }
    Ok(())
}

/// Says what passing a gate means.
pub(crate) fn gate_reason(gate: Gate) -> &'static str {
    match gate {
        Gate::AllowRepoChanges => "changes where the system's packages come from",
        Gate::AllowRootTasks => "runs a candy's own commands as root",
        Gate::WithServices => "enables, starts or stops services",
    }
}

fn symbol(change: Change) -> char {
    match change {
        Change::Keep => '=',
        Change::Add => '+',
        Change::Change => '~',
        Change::Remove => '-',
        Change::Skip => '·',
        Change::Unknown => '?',
    }
}

fn style(change: Change) -> Style {
    match change {
        Change::Keep | Change::Skip => Style::new().dimmed(),
        Change::Add => AnsiColor::Green.on_default(),
        Change::Change => AnsiColor::Yellow.on_default(),
        Change::Remove => AnsiColor::Red.on_default(),
        Change::Unknown => AnsiColor::Cyan.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::clean;

    fn step(candy: &str, title: &str, scope: &str, change: Change, details: Vec<Detail>) -> StepDiff {
        StepDiff {
            index: 0,
            candy: candy.into(),
            id: "id".into(),
            title: title.into(),
            kind: "write".into(),
            scope: scope.into(),
            gate: None,
            change,
            details,
        }
    }

    fn detail(change: Change, what: &str, subject: &str, note: Option<&str>) -> Detail {
        Detail { change, what: what.into(), subject: subject.into(), note: note.map(str::to_owned) }
    }

    fn shown(diff: &Diff, verbose: bool) -> String {
        clean(&PlanView { diff, verbose }.to_string())
    }

    #[test]
    fn a_plan_is_grouped_by_candy() {
        let packages = (1..=9).map(|n| detail(Change::Add, "package", &format!("lib{n} 1.{n}"), None)).collect();
        let gated = StepDiff {
            gate: Some(Gate::WithServices),
            ..step(
                "redis",
                "start redis",
                "system",
                Change::Add,
                vec![detail(Change::Add, "unit", "redis.service", None)],
            )
        };
        let diff = Diff {
            steps: vec![
                step("base", "make ~/bin", "user", Change::Keep, vec![]),
                step("redis", "install 9 packages", "system", Change::Add, packages),
                gated,
                step(
                    "redis",
                    "write ~/.config/redis.conf",
                    "user",
                    Change::Change,
                    vec![
                        detail(
                            Change::Change,
                            "file",
                            "~/.config/redis.conf",
                            Some("edited since; kept in the ledger"),
                        ),
                        detail(Change::Add, "folder", "~/.config/redis.d", None),
                        detail(Change::Change, "folder", "~/.config", None),
                    ],
                ),
                step("old", "write \x1b[2J/etc/x", "as ann", Change::Remove, vec![]),
            ],
            gates: [Gate::WithServices].into(),
            warnings: vec!["an upgrade cannot be undone".into()],
            retrieves: vec![Retrieval { path: "/etc/redis/token".into(), to: "~/token".into() }],
        };
        let want = "\
redis
  + install 9 packages  root
      + package lib1 1.1
      + package lib2 1.2
      + package lib3 1.3
      + package lib4 1.4
      + package lib5 1.5
      + package lib6 1.6
      … 3 more; -v shows them
  + start redis  root --with-services
      + unit redis.service
  ~ write ~/.config/redis.conf
      ~ file ~/.config/redis.conf  edited since; kept in the ledger
      + folder ~/.config/redis.d

old (taken away)
  - write /etc/x  as ann

brings back /etc/redis/token to ~/token
warning: an upgrade cannot be undone
2 to add, 1 to change, 1 to take away; 1 unchanged
needs --with-services: it enables, starts or stops services
";
        assert_eq!(shown(&diff, false), want);
        assert!(shown(&diff, true).starts_with("base\n  = make ~/bin\n\nredis\n"));
        assert!(shown(&diff, true).contains("package lib9 1.9"));
    }

    #[test]
    fn nothing_to_do_is_said() {
        let keep = || step("a", "t", "user", Change::Keep, vec![]);
        let diff = |steps| Diff { steps, ..Diff::default() };
        assert_eq!(shown(&diff(vec![]), false), "nothing to do\n");
        assert_eq!(shown(&diff(vec![keep()]), false), "nothing to do: its one step is as it should be\n");
        assert_eq!(shown(&diff(vec![keep(), keep()]), false), "nothing to do: all 2 steps are as they should be\n");
    }
}
