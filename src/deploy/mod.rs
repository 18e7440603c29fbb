//! What a deploy is to hold, put together from files, ledger and command line.

mod compose;
mod env;
mod recipe;
mod secret;
mod target;

pub(crate) use compose::{Ask, Layers, absolute};
pub(crate) use recipe::{DeployRecipe, Wishes, run_id};
pub(crate) use secret::SecretSource;
pub(crate) use target::{declared, target};
