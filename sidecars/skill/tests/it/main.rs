//! Tests of the real program, over real connections.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod deployment;
mod faults;
mod fuzz;
mod hostile;
mod lifecycle;
mod policy;
mod sandbox;
mod soak;
mod support;
