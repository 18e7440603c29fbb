//! Machines over SSH, and virtual machines.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ssh`] | names of machines, `~/.ssh/config`, host keys, one connection and what is done over it |
//! | [`machine`] | virtual machines: their disks, their first boot, their life |
//!
//! Invariant: nothing here prints, or reads the environment or a home folder.

pub mod machine;
pub mod ssh;
