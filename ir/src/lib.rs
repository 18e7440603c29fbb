//! Holds what crosses the wire between a controller and the engine on a venue.
//!
//! The controller compiles candies to an [`InstallPlan`](plan::InstallPlan); the engine applies it. Both sides link this
//! crate and neither links the other, so the controller carries no installer and the engine no YAML.
//!
//! | module | what it holds |
//! |---|---|
//! | [`plan`] | the InstallPlan: candies in dependency order, each with its typed steps |
//! | [`check`] | what a candy asserts about a venue, and the matchers it uses |
//! | [`facts`] | what an engine says about its venue, unasked, when it starts |
//! | [`ready`] | what of a venue's start is not over |
//! | [`text`] | strings with tokens that only the venue can resolve, such as `{{.Home}}` |
//! | [`message`] | requests, replies and events |
//! | [`frame`] | how messages and blob bytes are laid out on a pipe |
//! | [`digest`] | SHA-256 digests |
//! | [`stamp`] | what tells whether a file was written to |
//! | `resolve`, `shell` | what plans become where nothing is left to the venue: tokens replaced, shell code written out |
//!
//! Invariant: nothing here does I/O beyond reading and writing frames on the streams it is handed.

pub mod boot;
pub mod check;
pub mod digest;
pub mod facts;
pub mod frame;
pub mod message;
pub mod plan;
pub mod ready;
mod resolve;
mod shell;
pub mod stamp;
pub mod text;

pub use digest::Digest;
pub use shell::{STANDARD_PATH, asked_interpreter};
pub use stamp::Stamp;
pub use text::Text;
