//! The things that steps own: how each is looked at, made so, and put back.

pub(crate) mod block;
mod caps;
mod command;
mod linger;
mod packages;
pub(crate) mod path;
mod secret;
mod unit;
mod veil;

use std::time::Duration;

use charly_ir::Digest;
use charly_ir::message::{Apply, Detail, Event, Kept};
use charly_ir::plan::Step;

pub(crate) use block::restore as block_restore_at;
pub(crate) use command::run_hook;
pub(crate) use packages::{Desk, look as look_at_packages, preview as preview_packages};
pub(crate) use secret::{keyed_digest, restore_secret, secret_node};
pub(crate) use unit::{refresh as refresh_unit, reload as reload_units};

use crate::ledger::{BlockState, Entry, Ledger, Resource, State};
use crate::tree::Node;
use crate::venue::Venue;
use crate::worker::{Spool, Task, WorkError};

/// A thing as a step wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    /// The thing.
    pub resource: Resource,
    /// Its state.
    pub state: State,
    /// Where a file's content comes from.
    pub source: Source,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// There is no content.
    None,
    /// The plan itself.
    Bytes(Vec<u8>),
    /// Bytes sent beside the plan.
    Blob {
        /// Their digest.
        digest: Digest,
        /// Their number.
        size: u64,
    },
}

/// What a look at a thing showed.
#[derive(Debug)]
pub(crate) struct Looked {
    /// How it differs from what is wanted; absent where it does not.
    pub difference: Option<String>,
    /// Whether there is nothing at all.
    pub absent: bool,
}

/// What is at hand while a thing is made so.
pub(crate) struct Effect<'a> {
    pub venue: &'a Venue,
    pub ledger: &'a mut Ledger,
    pub apply: &'a Apply,
    pub task: &'a Task,
    pub spool: &'a Spool,
    pub sink: &'a mut dyn FnMut(Event),
    pub limit: Duration,
}

/// What is at hand while a thing is put back.
pub(crate) struct Undo<'a> {
    pub venue: &'a Venue,
    pub ledger: &'a mut Ledger,
    pub index: u32,
    pub purge: bool,
    pub sink: &'a mut dyn FnMut(Event),
}

/// What putting a thing back came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What was left behind on purpose.
    pub kept: Vec<Kept>,
    /// What went.
    pub details: Vec<Detail>,
    /// What it is from now on, where it does not go whole.
    pub remainder: Option<State>,
}

impl Want {
    /// Wants a thing that has no content to be fetched.
    pub(crate) fn new(resource: Resource, state: State) -> Self {
        Self { resource, state, source: Source::None }
    }
}

/// Compares a thing with what is wanted, touching nothing.
pub(crate) fn look(
    venue: &Venue,
    want: &Want,
    key: &dyn Fn() -> Result<Vec<u8>, WorkError>,
) -> Result<Looked, WorkError> {
    match (&want.resource, &want.state) {
        (_, State::Anything) => Ok(Looked { difference: None, absent: false }),
        (Resource::Path(path), State::Secret { keyed, mode, uid, gid }) => {
            secret::look(venue, path, *keyed, (*mode, *uid, *gid), key)
        }
        (Resource::Path(path), State::Node(node)) => {
            let actual = path::glance(venue, path)?;
            let difference = (!actual.agrees(node)).then(|| actual.difference(node));
            Ok(Looked { difference, absent: actual == Node::Absent })
        }
        (Resource::Block { path, tag }, State::Block(block)) => {
            let actual = block::observe(venue, path, tag)?;
            let difference = (actual != *block).then(|| "its lines differ".to_owned());
            Ok(Looked { difference, absent: !matches!(actual, BlockState::Text(_)) })
        }
        (Resource::Caps(path), State::Caps(caps)) => caps::look(venue, path, caps.as_deref()),
        (Resource::Unit { user, name }, State::Unit(want)) => unit::look(venue, *user, name, want),
        (Resource::Linger(user), State::On(on)) => Ok(linger::look(venue, user, *on)),
        (resource, _) => Err(WorkError::Plan(format!("`{resource}` cannot be in that state"))),
    }
}

/// Returns the state a thing is in, as a ledger remembers it.
pub(crate) fn found(venue: &Venue, resource: &Resource, want: &State, step: &Step) -> Result<State, WorkError> {
    Ok(match resource {
        Resource::Path(path) => State::Node(path::observe(venue, path)?),
        Resource::Block { path, tag } => State::Block(block::observe(venue, path, tag)?),
        Resource::Caps(path) => State::Caps(caps::observe(venue, path)?),
        Resource::Unit { user, name } => State::Unit(unit::observe(venue, *user, name)?),
        Resource::Linger(user) => State::On(linger::observe(venue, user)),
        Resource::Packages(_) => State::Packages(packages::before(venue, step)?),
        Resource::Command(_) => want.clone(),
    })
}

/// Makes a thing so that is no path.
pub(crate) fn converge(effect: &mut Effect<'_>, want: &Want) -> Result<(), WorkError> {
    match (&want.resource, &want.state) {
        (Resource::Block { path, tag }, State::Block(BlockState::Text(text))) => {
            Ok(block::converge(effect.venue, path, tag, text)?)
        }
        (Resource::Caps(path), State::Caps(caps)) => caps::converge(effect.venue, path, caps.as_deref()),
        (Resource::Unit { user, name }, State::Unit(want)) => unit::converge(effect, *user, name, want),
        (Resource::Linger(user), State::On(on)) => linger::converge(effect.venue, user, *on),
        (Resource::Packages(_), _) => packages::converge(effect, &want.resource),
        (Resource::Command(_), _) => command::converge(effect, want),
        (resource, _) => Err(WorkError::Plan(format!("`{resource}` cannot be in that state"))),
    }
}

/// Puts a thing back that is no path and no block.
pub(crate) fn restore(undo: &mut Undo<'_>, resource: &Resource, entry: &Entry) -> Result<Report, WorkError> {
    match (resource, &entry.before.state) {
        (Resource::Caps(path), State::Caps(before)) => {
            caps::converge(undo.venue, path, before.as_deref()).map(|()| Report::default())
        }
        (Resource::Unit { user, name }, State::Unit(before)) => unit::restore(undo, *user, name, before),
        (Resource::Linger(user), State::On(false)) => {
            linger::converge(undo.venue, user, false).map(|()| Report::default())
        }
        (Resource::Packages(_), _) => packages::restore(undo, resource, entry),
        _ => Ok(Report::default()),
    }
}

/// Takes a block out; says why where it is left.
pub(crate) fn block_restore(
    venue: &Venue,
    resource: &Resource,
    entry: &Entry,
) -> Result<Option<&'static str>, WorkError> {
    match resource {
        Resource::Block { path, tag } => Ok(block_restore_at(venue, path, tag, entry)?),
        _ => Ok(None),
    }
}

/// Tells how a thing differs from what its claims want, by the ledger alone.
pub(crate) fn drift(venue: &Venue, resource: &Resource, entry: &Entry) -> Result<Option<String>, WorkError> {
    if entry.found.is_some() {
        return Ok(Some("a run that was cut off left it half done".to_owned()));
    }
    match (resource, &entry.want) {
        (_, State::Anything) => Ok(None),
        (Resource::Packages(_), want) => packages::drift(venue, want),
        (Resource::Path(path), State::Node(want)) => {
            let actual = path::glance(venue, path)?;
            Ok((!actual.agrees(want)).then(|| actual.difference(want)))
        }
        (Resource::Path(path), State::Secret { .. }) => {
            let actual = path::observe(venue, path)?;
            Ok((!matches!(actual, Node::File { .. })).then(|| format!("it is {}", actual.what())))
        }
        (Resource::Block { path, tag }, State::Block(want)) => Ok(match block::observe(venue, path, tag)? {
            actual if actual == *want => None,
            BlockState::Text(_) => Some("its lines differ".to_owned()),
            _ => Some("it is gone".to_owned()),
        }),
        (Resource::Caps(path), State::Caps(want)) => Ok(caps::look(venue, path, want.as_deref())?.difference),
        (Resource::Unit { user, name }, State::Unit(want)) => Ok(unit::look(venue, *user, name, want)?.difference),
        (Resource::Linger(user), State::On(on)) => Ok(linger::look(venue, user, *on).difference),
        _ => Ok(None),
    }
}

/// Tells whether a package transaction brought a package.
pub(crate) fn brought_package(state: &State, name: &str) -> bool {
    packages::brought(state, name)
}
