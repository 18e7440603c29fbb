//! Tests of the crate from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod compiled;
mod corpus;
mod images;
mod laws;
mod malformed;
mod project;
mod schema;
mod shipped;
mod venues;
