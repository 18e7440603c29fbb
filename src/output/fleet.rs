//! Watches several runs at once: one line each, and a table at the end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use charly_ir::message::{CheckResult, Diff, Done, Event, Outcome};
use charly_target_core::target::Decision;
use charly_target_core::{Notice, Observer};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Printer, Reached, Tally, clean, seconds};
use crate::exit::{Exit, Failure};

/// The lines of all runs.
#[derive(Debug)]
pub(crate) struct Fleet {
    lines: MultiProgress,
    printer: Printer,
    width: usize,
}

/// One run's line.
#[derive(Debug)]
pub(crate) struct FleetLine {
    bar: ProgressBar,
    printer: Printer,
    name: String,
    began: Instant,
    titles: BTreeMap<u32, String>,
    /// How far it came.
    pub(crate) reached: Reached,
    /// How its checks came out.
    pub(crate) checks: Tally,
}

/// What became of one run.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The deploy, as the user calls it.
    pub(crate) name: String,
    /// What its engine said last, or why there was no such word.
    pub(crate) result: Result<Done, Failure>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Fleet {
    /// Makes room for the lines of some names.
    pub(crate) fn new(printer: Printer, names: &[String]) -> Self {
        let visible = io::stderr().is_terminal() && !printer.quiet && !printer.is_json();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        Self { lines: MultiProgress::with_draw_target(target), printer, width }
    }

    /// Begins a line.
    pub(crate) fn line(&self, name: &str) -> FleetLine {
        let bar = self.lines.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{name:<width$}", width = self.width));
        bar.set_message("connecting");
        bar.enable_steady_tick(Duration::from_millis(100));
        let (name, printer) = (name.to_owned(), self.printer);
        let (titles, reached, checks) = (BTreeMap::new(), Reached::default(), Tally::default());
        FleetLine { bar, printer, name, began: Instant::now(), titles, reached, checks }
    }
}

impl FleetLine {
    /// Ends the line.
    pub(crate) fn end(self, result: Result<Done, Failure>) -> Ended {
        let word = match &result {
            Ok(_) => "done",
            Err(failure) => failure.exit.word(),
        };
        self.bar.finish_with_message(word);
        if self.bar.is_hidden() {
            self.printer.say(format_args!("{}: {word}", self.name));
        }
        Ended { name: self.name, result, took: self.began.elapsed() }
    }
}

impl Ended {
    /// Returns how it ended.
    pub(crate) fn exit(&self) -> Exit {
        self.result.as_ref().map_or_else(|failure| failure.exit, |_| Exit::Done)
    }

    /// Returns its row of the table.
    pub(crate) fn row(&self) -> Vec<String> {
        let counts = match &self.result {
            Ok(Done { changed, unchanged, removed, .. }) => {
                let counts = [(changed, "changed"), (removed, "taken away"), (unchanged, "unchanged")];
                let counts = counts.iter().filter(|(count, _)| **count > 0);
                counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
            }
            Err(_) => String::new(),
        };
        let word = if self.result.is_ok() { "done" } else { self.exit().word() };
        vec![self.name.clone(), word.to_owned(), seconds(self.took), counts]
    }
}

impl Observer for FleetLine {
    fn diff(&mut self, diff: &Diff) {
        self.bar.set_message(format!("{} steps are looked at", diff.steps.len()));
    }

    /// Nobody is asked: several questions at once would be answered by the wrong one.
    fn decide(&mut self, _: &Diff) -> Decision {
        Decision::Abort
    }

    fn event(&mut self, event: Event) {
        self.reached.follow(&event);
        match event {
            Event::RunStarted { steps } => self.bar.set_length(u64::from(steps)),
            Event::StepStarted { index, candy, title, .. } => {
                let title = format!("{}: {}", clean(&candy), clean(&title).replace('\n', " "));
                let (at, of) = (self.bar.position(), self.bar.length().unwrap_or_default());
                self.bar.set_message(format!("{at}/{of} {title}"));
                self.titles.insert(index, title);
            }
            Event::StepFinished { index, outcome, .. } => {
                self.bar.inc(1);
                let title = self.titles.remove(&index).unwrap_or_default();
                if let Outcome::Failed(problem) = outcome {
                    self.bar.suspend(|| {
                        self.printer.say(format_args!("{}: {title}: {}", self.name, clean(&problem.what)));
                    });
                }
            }
            Event::Warning { text } => {
                self.bar.suspend(|| self.printer.say(format_args!("{}: warning: {}", self.name, clean(&text))));
            }
            Event::Rebooting { .. } => self.bar.set_message("rebooting"),
            Event::Checked { title, result, .. } => match result {
                CheckResult::Passed => self.checks.passed += 1,
                CheckResult::Skipped { .. } => self.checks.skipped += 1,
                CheckResult::Failed { .. } => {
                    self.checks.failed += 1;
                    self.bar.suspend(|| self.printer.say(format_args!("{}: FAIL {}", self.name, clean(&title))));
                }
            },
            Event::Recovered { .. } | Event::Output { .. } | Event::Bytes { .. } => {}
        }
    }

    fn cancelling(&mut self, _: u32) {
        self.bar.set_message("interrupted: it ends after this step");
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Delivering { .. } => self.bar.set_message("the engine is sent"),
            Notice::Sending { done, total } if total > 0 => {
                self.bar.set_message(format!("{} % of its files are sent", done * 100 / total));
            }
            Notice::Waiting { what } if !what.is_empty() => self.bar.set_message(format!("waiting for {what}")),
            Notice::Sending { .. } | Notice::Waiting { .. } | Notice::Back { .. } => {}
        }
    }
}
