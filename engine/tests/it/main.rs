//! The engine on temporary roots: what it applies it can take away, wherever it is cut off.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod basics;
mod crash;
mod gone;
mod image;
mod kit;
mod laws;
mod old;
mod reboot;
