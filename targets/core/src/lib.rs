//! The controller's side of every target.
//!
//! | module | what it holds |
//! |---|---|
//! | [`target`] | [`DeployTarget`] and [`Lifecycle`], the traits that `charly bundle` dispatches on |
//! | [`venue`] | [`EngineVenue`]: whoever can start an engine and carry bytes is a [`DeployTarget`] |
//! | [`registry`] | names of kinds of targets, and their factories |
//! | [`wire`] | the client's side of one conversation with an engine, without any I/O of its own |
//! | [`supply`] | what an engine is given when it needs something |
//! | [`fetch`] | downloads: fetched once, checked, cached, unpacked safely |
//! | [`artifact`] | what builder steps place, and who makes it |
//! | [`executor`] | [`DeployExecutor`]: how the controller reaches a machine outside the engine's protocol |
//! | [`engine`], [`deliver`] | the engine's program, carried inside this one, and put where it can be started |
//! | [`distribution`] | what can be made from a distribution's packages, and this machine's mirror of them |
//! | [`pipe`] | carries bytes between a client and an engine that was started here |
//!
//! Invariant: nothing here prints, or reads the environment or a home folder.

pub mod artifact;
pub mod deliver;
pub mod distribution;
pub mod engine;
pub mod executor;
pub mod fetch;
pub mod interrupt;
pub mod pipe;
pub mod registry;
pub mod supply;
pub mod target;
pub mod venue;
pub mod wire;

pub use artifact::{Artifact, Builders};
pub use executor::DeployExecutor;
pub use interrupt::Interrupts;
pub use registry::Registry;
pub use supply::{Blob, Supply};
pub use target::{DeployTarget, Lifecycle, Notice, Observer, Order, Recipe, TargetError};
pub use venue::EngineVenue;

/// An error of whoever called, carried through unchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
