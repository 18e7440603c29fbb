//! Applies an InstallPlan to a root, beside the ledger that remembers it.
//!
//! The way of the data: a [`session`] takes a plan from a controller; [`worker`] lowers each step to the things it wants,
//! compares them with the venue and the [`ledger`], writes its intents down and makes the things so; [`resource`] knows how each
//! sort of thing is looked at, made and put back; [`tree`] is how paths are reached.
//!
//! Invariants: the root is injected, nothing here assumes that it is the machine's own. No network but a registry on loopback
//! while an [`image`] is delivered, no YAML, no name resolution but through the venue's own programs. One thread does the work. Nothing is changed on the venue before its
//! intent, with what was there before, is durable in the ledger.

pub mod accounts;
pub mod caps;
pub mod check;
pub mod environment;
pub mod facts;
pub mod image;
pub mod ledger;
pub mod packages;
pub mod process;
pub mod ready;
pub mod reboot;
pub mod session;
pub mod tree;

mod encoding;
mod identity;
mod lookup;
mod resource;
mod tool;
mod venue;
mod worker;

pub use venue::Side;
