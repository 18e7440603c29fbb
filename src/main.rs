//! The command line.
//!
//! | module | what it holds |
//! |---|---|
//! | `cli` | what can be typed |
//! | `verb` | what it does, one file a verb |
//! | `deploy` | what a deploy is to hold, put together from files, ledger and command line |
//! | `digests` | digests of a project's files, remembered between commands |
//! | `output` | plans, progress, lists, JSON lines, questions |
//! | `context` | folders and the environment, read once |
//! | `exit` | how the program ends |

mod cli;
mod context;
mod deploy;
mod digests;
#[cfg(test)]
mod docs;
mod exit;
mod output;
mod verb;

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use charly_ir::message::Problem;
use charly_plans::diagnostic::Diagnostic;
use charly_target_core::Interrupts;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::{Cause, Exit, Failure};
use crate::output::{Format, Line, Printer, clean};

fn main() -> ExitCode {
    let Cli { globals, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return usage(&error).into();
        }
    };
    let printer = Printer { format: globals.format, quiet: globals.quiet, verbose: globals.verbose };
    let outcome = interrupts().and_then(|interrupts| verb.run(|| Context::new(&globals, interrupts)));
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => told(printer, failure).into(),
    }
}

/// Tells what is wrong with the command line, or what was asked about it.
fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // Whoever asked for help and left has got it.
        error.print().ok();
        return Exit::Done;
    }
    let arguments: Vec<_> = std::env::args().collect();
    let is_json = arguments.iter().any(|argument| argument == "--format=json")
        || arguments.windows(2).any(|pair| pair == ["--format", "json"]);
    let hint = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) if cli::is_bundle_verb(word) => Some(format!("write `charly bundle {word}`")),
        _ => None,
    };
    if is_json {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hint = hint.or_else(|| Some("`--help` shows what can be written".to_owned()));
        let printer = Printer { format: Format::Json, quiet: false, verbose: false };
        return told(printer, Failure::new(Exit::Usage, Problem { what, because: Vec::new(), hint }));
    }
    error.print().ok();
    if let Some(hint) = hint {
        let cyan = AnsiColor::Cyan.on_default().bold();
        Printer::complain(format_args!("{cyan}hint{cyan:#}: {hint}"));
    }
    Exit::Usage
}

/// Counts interrupts from now on. Whoever insists three times is not kept waiting.
fn interrupts() -> Result<Interrupts, Failure> {
    let interrupts = Interrupts::default();
    let raised = interrupts.clone();
    #[expect(clippy::exit, reason = "the main thread may be waiting for a server that says nothing")]
    let handler = move || {
        raised.raise();
        if raised.count() > 2 {
            std::process::exit(Exit::Interrupted as i32);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::error(Exit::Failed, error))?;
    Ok(interrupts)
}

/// Tells why a verb did not do what was asked, and returns how the program ends.
fn told(printer: Printer, Failure { exit, cause }: Failure) -> Exit {
    let silent = matches!(cause, Cause::NobodyReads);
    let written = if printer.is_json() && !silent { json(printer, exit, &cause) } else { Ok(()) };
    if !printer.is_json() {
        match &cause {
            Cause::Problem(problem) => complain(problem),
            Cause::Findings(findings) => mistakes(findings),
            Cause::NobodyReads => {}
        }
    }
    match written {
        Err(Failure { cause: Cause::NobodyReads, .. }) | Ok(()) => exit,
        Err(failure) => failure.exit,
    }
}

fn json(printer: Printer, exit: Exit, cause: &Cause) -> Result<(), Failure> {
    match cause {
        Cause::Problem(problem) => printer.line(&Line::Error(problem))?,
        Cause::Findings(findings) => findings.iter().try_for_each(|finding| printer.line(&Line::Finding(finding)))?,
        Cause::NobodyReads => {}
    }
    printer.line(&Line::result(exit, None))
}

/// Prints mistakes in documents, with their excerpts; one that is in no document as any other error.
pub(crate) fn mistakes(findings: &[Diagnostic]) {
    for (index, finding) in findings.iter().enumerate() {
        if index > 0 {
            Printer::complain("");
        }
        let Diagnostic { message, hint, place, .. } = finding;
        match place {
            Some(_) => Printer::complain(finding.render(Printer::coloured())),
            None => complain(&Problem { what: message.clone(), because: Vec::new(), hint: hint.clone() }),
        }
    }
}

/// Prints an error: what, why from near to far, and what to do next.
pub(crate) fn complain(Problem { what, because, hint }: &Problem) {
    let (red, cyan) = (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default().bold());
    let dim = Style::new().dimmed();
    Printer::complain(format_args!("{red}error{red:#}: {}", clean(what)));
    for why in because {
        Printer::complain(format_args!("  {dim}because{dim:#}: {}", clean(why).replace('\n', "\n    ")));
    }
    if let Some(hint) = hint {
        Printer::complain(format_args!("{cyan}hint{cyan:#}: {}", clean(hint)));
    }
}
