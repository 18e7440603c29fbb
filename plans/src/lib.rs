//! From candy files to an InstallPlan.

pub mod compile;
pub mod diagnostic;
pub mod source;
pub mod load;
mod read;
pub mod resolve;
pub mod schema;
mod yaml;
