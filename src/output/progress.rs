//! Watches a run: a bar on a terminal, a line a step elsewhere, a JSON line an event where that is asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use charly_ir::message::{CheckResult, Detail, Diff, Event, Outcome, Problem};
use charly_ir::plan::Gate;
use charly_target_core::target::Decision;
use charly_target_core::{Interrupts, Notice, Observer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Line, PlanView, Printer, Question, Timings, ask, checked, clean, gate_reason, seconds};
use crate::exit::{Exit, Failure};

/// How many lines of a step's output are shown when it fails.
const TAIL: usize = 20;

/// The longest line of output that is kept.
const MAX_LINE: usize = 400;

/// Watches one run and answers for its user.
#[derive(Debug)]
pub(crate) struct Progress {
    printer: Printer,
    interrupts: Interrupts,
    policy: Policy,
    bar: ProgressBar,
    titles: BTreeMap<u32, String>,
    undoing: BTreeSet<u32>,
    tail: VecDeque<String>,
    /// Whether the last line of the tail has not ended yet.
    open_line: bool,
    timings: Timings,
    reached: Reached,
    /// What was about to change.
    pub(crate) diff: Option<Diff>,
    /// How many checks there were.
    pub(crate) checks: Tally,
    /// Why the run was not to go on, or its events could not be written.
    failure: Option<Failure>,
}

/// How many steps of a run have ended, and of how many, once it has begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reached(Option<(u32, u32)>);

impl Reached {
    /// Learns of an event.
    pub(crate) fn follow(&mut self, event: &Event) {
        match (event, &mut self.0) {
            (Event::RunStarted { steps }, reached) => *reached = Some((0, *steps)),
            (Event::StepFinished { .. }, Some((done, _))) => *done += 1,
            _ => {}
        }
    }

    /// Says how far a run came that broke off, and what to do about it; nothing where none had begun.
    pub(crate) fn hint(self) -> Option<String> {
        let (done, of) = self.0?;
        Some(format!("{done} of {of} steps are done for certain; the same command goes on where the run ended"))
    }
}

/// How checks came out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// Which questions are answered before they are asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Every question is answered yes.
    pub(crate) yes: bool,
    /// These gates are open.
    pub(crate) gates: BTreeSet<Gate>,
    /// Asked before anything else, where something changes.
    pub(crate) confirm: Option<String>,
    /// The plan is shown by whoever asked for it.
    pub(crate) silent_diff: bool,
}

impl Progress {
    /// Watches for a user.
    pub(crate) fn new(printer: Printer, interrupts: Interrupts, policy: Policy) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg} {prefix:.dim}") {
            bar.set_style(style);
        }
        Self {
            printer,
            interrupts,
            policy,
            bar,
            titles: BTreeMap::new(),
            undoing: BTreeSet::new(),
            tail: VecDeque::new(),
            open_line: false,
            timings: Timings::default(),
            reached: Reached::default(),
            diff: None,
            checks: Tally::default(),
            failure: None,
        }
    }

    /// Says how long things may take, from how long they took.
    pub(crate) fn with_timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// Returns how far the run came.
    pub(crate) fn reached(&self) -> Reached {
        self.reached
    }

    /// Takes the bar away and returns why the run was not to go on, if it was not.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.timings.keep();
        self.failure.take().map_or(Ok(()), Err)
    }

    fn emit(&mut self, line: &Line<'_>) {
        if let Err(failure) = self.printer.line(line) {
            // Nobody reads any more: the run goes on, for stopping it would help nobody.
            self.failure.get_or_insert(failure);
        }
    }

    fn say(&self, text: &str) {
        if !self.printer.quiet {
            self.bar.suspend(|| Printer::complain(text));
        }
    }

    fn started(&mut self, steps: u32) {
        if steps > 0 {
            self.bar.set_length(u64::from(steps));
            self.bar.set_position(0);
            self.guess();
            self.visible();
        }
    }

    /// Says how long what is left may take, where that is worth saying.
    fn guess(&self) {
        let left = self.timings.left().filter(|left| left.as_secs() > 1);
        self.bar.set_prefix(left.map(|left| format!("about {} left", seconds(left))).unwrap_or_default());
    }

    /// Shows the bar, where there is somebody to see it.
    fn visible(&mut self) {
        if io::stderr().is_terminal() && !self.printer.quiet && !self.printer.is_json() && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
    }

    /// Shows how much of something is on its way, where it is worth a look.
    fn moving(&mut self, what: &str, done: u64, total: u64) {
        const WORTH: u64 = 1 << 20;
        if total >= WORTH {
            self.visible();
            self.bar.set_message(format!("{what}: {} of {}", bytes(done), bytes(total)));
        }
    }

    fn finished(&mut self, index: u32, outcome: &Outcome, details: &[Detail], took_ms: u64) {
        let title = self.titles.remove(&index).unwrap_or_default();
        let undo = self.undoing.remove(&index);
        self.bar.inc(1);
        self.guess();
        let took = seconds(Duration::from_millis(took_ms));
        let (green, red, dim) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default(), Style::new().dimmed());
        let line = match outcome {
            Outcome::Changed if undo => format!("  {red}-{red:#} {title}  {dim}{took}{dim:#}"),
            Outcome::Changed => format!("  {green}+{green:#} {title}  {dim}{took}{dim:#}"),
            Outcome::Unchanged if self.printer.verbose => format!("  {dim}= {title}{dim:#}"),
            Outcome::Unchanged => return,
            Outcome::Skipped { reason } => format!("  {dim}· {title}: {}{dim:#}", clean(reason)),
            Outcome::Failed(problem) => {
                let tail: Vec<_> = self.tail.iter().map(|line| format!("      | {line}\n")).collect();
                format!("{}  {red}✗{red:#} {title}: {}", tail.concat(), clean(&problem.what))
            }
        };
        self.say(&line);
        if self.printer.verbose {
            for Detail { what, subject, note, .. } in details {
                let note = note.as_ref().map(|note| format!("  {}", clean(note))).unwrap_or_default();
                self.say(&format!("      {} {}{note}", clean(what), clean(subject)));
            }
        }
    }

    fn output(&mut self, index: u32, text: &str) {
        for piece in clean(text).split_inclusive('\n') {
            let line = piece.trim_end_matches('\n');
            match self.tail.back_mut() {
                Some(last) if self.open_line => last.push_str(line),
                _ => self.tail.push_back(line.to_owned()),
            }
            if let Some(last) = self.tail.back_mut()
                && let Some((at, _)) = last.char_indices().nth(MAX_LINE)
            {
                last.truncate(at);
            }
            self.open_line = !piece.ends_with('\n');
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
            if let Some(last) = self.tail.back().filter(|last| !last.trim().is_empty()) {
                if self.printer.verbose && !self.open_line {
                    self.say(&format!("      | {last}"));
                }
                let title = self.titles.get(&index).map_or("", String::as_str);
                self.bar.set_message(format!("{title}  {last}"));
            }
        }
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::Recovered { run: _, deploy, what } => {
                self.say(&format!("recovered `{}`: {}", clean(deploy), clean(what)));
            }
            Event::RunStarted { steps } => self.started(*steps),
            Event::StepStarted { index, candy, id: _, title, undo } => {
                let title = format!("{}: {}", clean(candy), clean(title).replace('\n', " "));
                self.bar.set_message(title.clone());
                self.titles.insert(*index, title);
                if *undo {
                    self.undoing.insert(*index);
                }
                self.tail.clear();
                self.open_line = false;
            }
            Event::Output { index, text, stderr: _ } => self.output(*index, text),
            Event::StepFinished { index, outcome, details, took_ms } => {
                self.finished(*index, outcome, details, *took_ms);
            }
            Event::Bytes { done, total } => {
                let mebi = |bytes: u64| bytes >> 20;
                if mebi(*total) > 0 {
                    self.bar.set_message(format!("{} of {} MiB", mebi(*done), mebi(*total)));
                }
            }
            Event::Checked { candy, id: _, title, result, took_ms: _ } => {
                self.say(&checked(candy, title, result));
            }
            Event::Rebooting { boot: _ } => self.say("  rebooting"),
            Event::Warning { text } => {
                let yellow = AnsiColor::Yellow.on_default().bold();
                self.say(&format!("{yellow}warning{yellow:#}: {}", clean(text)));
            }
        }
    }

    /// Asks for what is not answered yet; an error where nobody can be asked, or the answer is no.
    fn permission(&self, diff: &Diff) -> Result<BTreeSet<Gate>, Failure> {
        let Policy { yes, gates, confirm, silent_diff: _ } = &self.policy;
        let closed: Vec<_> = diff.gates.difference(gates).copied().collect();
        if *yes || diff.steps.is_empty() || (closed.is_empty() && confirm.is_none()) {
            return Ok(diff.gates.clone());
        }
        let flags: Vec<_> = closed.iter().map(|gate| gate.flag()).collect();
        let reasons: Vec<_> = closed.iter().map(|gate| gate_reason(*gate)).collect();
        let question = match confirm {
            None => format!("This {}. Go on?", list(&reasons)),
            Some(confirm) if reasons.is_empty() => confirm.clone(),
            Some(confirm) => format!("This {}. {confirm}", list(&reasons)),
        };
        let answer = if self.printer.is_json() { None } else { ask(&Question(&question), &self.interrupts) };
        let refused = |what: String, hint: String| Err(Failure::new(Exit::Refused, Problem::new(what).hint(hint)));
        match answer {
            Some(true) => Ok(diff.gates.clone()),
            Some(false) => {
                refused("not confirmed, and nothing was touched".into(), "`-y` answers every question".into())
            }
            None if flags.is_empty() => {
                refused("nobody can be asked, and nothing was touched".into(), "confirm it with `-y`".into())
            }
            None => {
                let hint = format!("allow it with `{}`, or everything with `-y`", flags.join(" "));
                let because = format!("it {}", list(&reasons));
                let problem = Problem::new("nobody can be asked, and nothing was touched").because(because).hint(hint);
                Err(Failure::new(Exit::Refused, problem))
            }
        }
    }
}

impl Observer for Progress {
    fn diff(&mut self, diff: &Diff) {
        if self.printer.is_json() {
            if !self.policy.silent_diff {
                self.emit(&Line::Diff(diff));
            }
        } else if !self.policy.silent_diff {
            self.printer.say(PlanView { diff, verbose: self.printer.verbose });
        }
        self.timings.planned(diff);
        self.diff = Some(diff.clone());
    }

    fn decide(&mut self, diff: &Diff) -> Decision {
        match self.permission(diff) {
            Ok(gates) => Decision::Proceed(gates),
            Err(failure) => {
                self.failure = Some(failure);
                Decision::Abort
            }
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Checked { result, .. } = &event {
            match result {
                CheckResult::Passed => self.checks.passed += 1,
                CheckResult::Failed { .. } => self.checks.failed += 1,
                CheckResult::Skipped { .. } => self.checks.skipped += 1,
            }
        }
        self.reached.follow(&event);
        if let Event::StepFinished { index, took_ms, .. } = &event {
            self.timings.ended(*index, *took_ms);
        }
        if self.printer.is_json() {
            self.emit(&Line::Event(&event));
        } else {
            self.told(&event);
        }
    }

    fn notice(&mut self, notice: Notice) {
        if self.printer.is_json() {
            return;
        }
        match notice {
            Notice::Delivering { done, total } if done == total => {
                self.say(&format!("  the engine was not there yet, and was sent ({})", bytes(total)));
            }
            Notice::Delivering { done, total } => self.moving("sending the engine", done, total),
            Notice::Sending { done, total } => self.moving("sending", done, total),
            Notice::Waiting { what } if what.is_empty() => self.bar.set_message(""),
            Notice::Waiting { what } => {
                self.visible();
                self.bar.set_message(format!("waiting for {what}"));
                if self.bar.is_hidden() {
                    self.say(&format!("  waiting for {what}"));
                }
            }
            Notice::Back { took_ms } => {
                let took = seconds(Duration::from_millis(took_ms));
                self.say(&format!("  it is back after {took}"));
            }
        }
    }

    fn cancelling(&mut self, count: u32) {
        if self.printer.is_json() {
            self.emit(&Line::Cancelling(count));
        } else if count == 1 {
            self.say("interrupted: the run ends after this step; once more kills it");
        } else {
            self.say("interrupted again: what runs is killed; once more stops waiting");
        }
    }
}

/// Writes a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// Joins clauses as a sentence does.
fn list(parts: &[&str]) -> String {
    match parts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Cause;
    use crate::output::Format;
    use charly_ir::message::{Change, StepDiff};

    fn progress(policy: Policy) -> Progress {
        let printer = Printer { format: Format::Json, quiet: true, verbose: false };
        Progress::new(printer, Interrupts::default(), policy)
    }

    fn diff(gates: &[Gate]) -> Diff {
        let step = StepDiff {
            index: 0,
            candy: "c".into(),
            id: "i".into(),
            title: "t".into(),
            kind: "write".into(),
            scope: "user".into(),
            gate: None,
            change: Change::Add,
            details: vec![],
        };
        Diff { steps: vec![step], gates: gates.iter().copied().collect(), ..Diff::default() }
    }

    fn permitted(policy: Policy, gates: &[Gate]) -> Result<(), Option<String>> {
        progress(policy).permission(&diff(gates)).map(|_| ()).map_err(|failure| match failure.cause {
            Cause::Problem(problem) if failure.exit == Exit::Refused => problem.hint,
            cause => panic!("{cause:?}"),
        })
    }

    #[test]
    fn where_nobody_can_be_asked_the_flags_are_named() {
        use Gate::{AllowRepoChanges, AllowRootTasks, WithServices};
        let open = |gates: &[Gate]| Policy { gates: gates.iter().copied().collect(), ..Policy::default() };
        assert_eq!(permitted(Policy::default(), &[]), Ok(()));
        assert_eq!(permitted(Policy { yes: true, ..Policy::default() }, &[WithServices]), Ok(()));
        assert_eq!(permitted(open(&[WithServices, AllowRootTasks]), &[WithServices]), Ok(()));
        let hint = "allow it with `--allow-repo-changes --with-services`, or everything with `-y`";
        assert_eq!(
            permitted(open(&[AllowRootTasks]), &[WithServices, AllowRepoChanges, AllowRootTasks]),
            Err(Some(hint.into()))
        );
        let confirm = Policy { confirm: Some("Really?".into()), ..Policy::default() };
        assert_eq!(permitted(confirm.clone(), &[]), Err(Some("confirm it with `-y`".into())));
        assert_eq!(permitted(Policy { yes: true, ..confirm }, &[]), Ok(()));
    }

    #[test]
    fn the_tail_of_a_flood_is_short_and_safe() {
        let mut progress = progress(Policy::default());
        for n in 0..1000 {
            progress.output(0, &format!("li\x1b[31mne {n}\npart"));
            progress.output(0, "ial\n");
        }
        progress.output(0, &"x".repeat(100_000));
        assert_eq!(progress.tail.len(), TAIL);
        let tail: Vec<_> = progress.tail.iter().map(String::as_str).collect();
        assert_eq!(tail[TAIL - 3..TAIL - 1], ["line 999", "partial"]);
        assert_eq!(tail[TAIL - 1].len(), MAX_LINE);
    }

    #[test]
    fn clauses_are_joined() {
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }
}
