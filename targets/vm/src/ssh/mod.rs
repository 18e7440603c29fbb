//! One connection to a machine, and what is done over it.

mod address;
mod config;
mod known_hosts;
mod pattern;
mod place;

pub use address::{Address, AddressError, AddressFault};
pub use config::{Agent, Asked, ConfigError, ConfigFile, HostConfig, Reader, Scope, Surroundings, resolve};
pub use known_hosts::{KnownHosts, KnownKey, Verdict, cure_changed, cure_unknown};
pub use place::{Note, Place};
