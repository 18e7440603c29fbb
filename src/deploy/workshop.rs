//! Who builds what npm, cargo and the like make of candies, and the boxes they do it in.

use charly_ir::message::Problem;
use charly_target_core::Builders;
use charly_target_core::artifact::Wanted;
use charly_target_oci::builder::{Room, Rooms, Said, Settings, Workshop};

use crate::context::Context;
use crate::exit::{Cause, Failure};
use crate::output::{Format, Printer, clean};
use crate::verb::boxes;

/// Finds the boxes that builders run in, and builds those that are not there.
#[derive(Debug)]
struct Boxes(Context);

/// Returns who builds.
pub(crate) fn workshop(cx: &Context) -> Box<dyn Builders> {
    let settings =
        Settings { sandbox: cx.sandbox(), folder: cx.builders(), host: cx.host(), interrupts: cx.interrupts.clone() };
    let printer = cx.printer;
    // A box is built beside a run that has output of its own.
    let quiet = printer.quiet || printer.is_json();
    let beside = cx.with_printer(Printer { format: Format::Table, quiet, ..printer });
    Box::new(Workshop::new(settings, Box::new(Boxes(beside)), move |said| match said {
        Said::Begun(kind, candy) => printer.say(format_args!("building {} with {kind}", clean(candy))),
        Said::Line(line) if printer.verbose => printer.say(format_args!("  {}", clean(line))),
        Said::Line(_) => {}
    }))
}

impl Rooms for Boxes {
    fn room(&mut self, wanted: &Wanted<'_>) -> Result<Room, Problem> {
        boxes::room(&self.0, wanted).map_err(|failure| problem(failure, wanted))
    }
}

/// Says that a builder has no box. Why is told as in any other run.
fn problem(failure: Failure, wanted: &Wanted<'_>) -> Problem {
    let kind = wanted.builder.kind;
    let why = match failure.cause {
        Cause::Problem(why) => why,
        Cause::Findings(found) => {
            Problem::new(found.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; "))
        }
        Cause::NobodyReads => Problem::new("nobody reads what is printed"),
    };
    let mut problem = Problem::new(format!("the {kind} builder for {} has no box", wanted.os));
    problem.because = std::iter::once(why.what).chain(why.because).collect();
    problem.hint = why.hint;
    problem
}
