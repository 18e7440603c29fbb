//! From candy files to an InstallPlan.

pub mod diagnostic;
pub mod source;
mod read;
pub mod schema;
mod yaml;
