//! Runs the real program in real guests: what it adds is there, and what it takes away leaves nothing.
//!
//! Every test boots a fresh Debian machine, takes an inventory of all of it, lets charly work on it as its users would,
//! and compares. Where there is no lab (see `tests/lab`) each test says so and is skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod beside;
mod boxes;
mod builders;
mod candies;
mod commands;
mod cuts;
mod executors;
mod faults;
mod fleets;
mod identities;
mod images;
mod keeping;
mod kit;
mod layers;
mod lives;
mod machines;
mod places;
mod promises;
mod ready;
mod reboots;
mod remote;
mod skills;
