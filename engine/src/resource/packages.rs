//! What package steps bring.

use charly_ir::message::Problem;
use charly_ir::plan::Step;

use super::{Effect, Looked, Report, Undo};
use crate::ledger::{Entry, Resource, State};
use crate::venue::Venue;
use crate::worker::WorkError;

pub(super) fn look(_venue: &Venue, _step: &Step) -> Result<Looked, WorkError> {
    Err(missing())
}

pub(super) fn before(_venue: &Venue) -> Result<serde_json::Value, WorkError> {
    Err(missing())
}

pub(super) fn converge(_effect: &mut Effect<'_>, _resource: &Resource) -> Result<(), WorkError> {
    Err(missing())
}

pub(super) fn restore(_undo: &mut Undo<'_>, _resource: &Resource, _entry: &Entry) -> Result<Report, WorkError> {
    Err(missing())
}

pub(super) fn drift(_venue: &Venue, _want: &State) -> Result<Option<String>, WorkError> {
    Ok(None)
}

pub(super) fn brought(_state: &State, _name: &str) -> bool {
    false
}

fn missing() -> WorkError {
    WorkError::Program(Box::new(Problem::new("packages are not driven yet")))
}
