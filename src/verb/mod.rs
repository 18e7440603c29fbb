//! What can be done, one file a verb.

pub(crate) mod boxes;
pub(crate) mod bundle;
pub(crate) mod candy;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod drift;
pub(crate) mod man;
pub(crate) mod skill;
pub(crate) mod ssh_config;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod vm;
pub(crate) mod why;
