//! From candy files to an InstallPlan.

pub mod compile;
pub mod diagnostic;
pub mod load;
mod read;
pub mod resolve;
pub mod schema;
pub mod source;
mod template;
mod validate;
mod yaml;

pub use template::candy_template;
pub use validate::{validate_documents, validate_text};
