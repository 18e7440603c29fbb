//! The client's side of one conversation with an engine, without any I/O of its own.
//!
//! [`Client`] is fed the bytes an engine wrote and asked for the bytes to write to it. Whoever moves them, a poll loop over
//! two pipes or an asynchronous SSH channel, knows nothing of the protocol; and tests need neither.

mod client;
mod decoder;
mod error;
mod outgoing;
mod pace;
mod squeeze;

pub use client::{Answer, Client};
pub use error::ClientError;

#[cfg(test)]
mod tests;
