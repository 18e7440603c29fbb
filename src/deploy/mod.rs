//! What a deploy is to hold, put together from files, ledger and command line.

mod compose;
mod env;
mod place;
mod reach;
mod recipe;
mod secret;
mod workshop;

pub(crate) use compose::{Ask, Layers, absolute};
pub(crate) use place::{Place, declared, find, this_machine};
pub(crate) use reach::Reach;
pub(crate) use recipe::{DeployRecipe, Downloads, Outcome as Compiled, Wishes, builders, run_id};
pub(crate) use secret::Secret;
pub(crate) use workshop::workshop;
