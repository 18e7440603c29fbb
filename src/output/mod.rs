//! What the program says: data on standard output, everything else on standard error.

mod clean;
mod fleet;
mod json;
mod plan;
mod printer;
mod progress;
mod prompt;
mod report;
mod summary;
mod timings;
mod transfer;

pub(crate) use clean::clean;
pub(crate) use fleet::{Ended, Fleet, FleetLine};
pub(crate) use json::Line;
pub(crate) use plan::{PlanView, gate_reason};
pub(crate) use printer::{Format, Printer};
pub(crate) use progress::{Policy, Progress, Reached, Tally, bytes};
pub(crate) use prompt::{Question, ask, ask_secret, can_ask};
pub(crate) use report::{calver, columns, counted, state_word, when};
pub(crate) use summary::{Summary, checked, seconds};
pub(crate) use timings::Timings;
pub(crate) use transfer::transfer_bar;
