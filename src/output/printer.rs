//! Where output goes.

use std::fmt::Display;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use charly_plans::diagnostic::{Diagnostic, Severity};
use serde::Serialize;

use super::json::Line;
use crate::exit::{Cause, Exit, Failure};

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document a line.
    Json,
}

/// Prints, in one form, with or without colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Printer {
    /// Tells whether output is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints data for people.
    #[expect(clippy::unused_self, reason = "what is printed where is the printer's business")]
    pub(crate) fn data(self, text: impl Display) -> Result<(), Failure> {
        Self::stdout(format_args!("{text}"))
    }

    /// Prints one line of JSON.
    pub(crate) fn line(self, line: &Line<'_>) -> Result<(), Failure> {
        self.document(line)
    }

    /// Prints one JSON document on a line of its own.
    #[expect(clippy::unused_self, reason = "what is printed where is the printer's business")]
    pub(crate) fn document(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::error(Exit::Failed, error))?;
        Self::stdout(format_args!("{text}\n"))
    }

    /// Says something to the person at the terminal, unless there is to be silence.
    pub(crate) fn say(self, text: impl Display) {
        if !self.quiet && !self.is_json() {
            Self::complain(text);
        }
    }

    /// Shows findings that stop nobody.
    pub(crate) fn findings<'d>(self, found: impl IntoIterator<Item = &'d Diagnostic>) -> Result<(), Failure> {
        for finding in found.into_iter().filter(|finding| finding.severity == Severity::Warning) {
            if self.is_json() {
                self.line(&Line::Finding(finding))?;
            } else {
                self.say(finding.render(Self::coloured()));
            }
        }
        Ok(())
    }

    /// Says something that must be said.
    pub(crate) fn complain(text: impl Display) {
        let mut stderr = AutoStream::auto(io::stderr()).lock();
        // Where nobody hears it, nobody can be told.
        writeln!(stderr, "{text}").ok();
    }

    /// Tells whether standard error shows colours.
    pub(crate) fn coloured() -> bool {
        AutoStream::choice(&io::stderr()) != ColorChoice::Never
    }

    fn stdout(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        let mut stdout = AutoStream::auto(io::stdout()).lock();
        stdout.write_fmt(text).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { exit: Exit::Done, cause: Cause::NobodyReads },
            _ => Failure::error(Exit::Failed, anyhow::Error::new(error).context("the output cannot be written")),
        })
    }
}
