//! Downloads: fetched by the controller, checked, cached, unpacked safely.
//!
//! A venue is given bytes, never URLs, so that every venue of a recipe gets the same ones and needs no way out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cache`] | one URL's bytes, fetched once, resumed where a transfer broke off |
//! | [`unpack`] | archives, turned into a manifest and blobs without a path ever leaving its folder |
//! | [`key`] | repository keys, in the form their readers take |
//! | [`PlanSupply`] | all of it, for the steps of one plan |

mod cache;
mod error;
mod http;
mod key;
mod supply;
mod unpack;

pub use cache::{Fetched, Fetcher};
pub use error::FetchError;
pub use supply::{Content, PlanSupply};
pub use unpack::{Limits, UnpackError};

#[cfg(test)]
mod tests;
