//! One connection to a machine, and what is done over it.
//!
//! | module | what it holds |
//! |---|---|
//! | `address`, `config`, `known_hosts` | what people write: names of machines, ssh_config(5), known hosts; pure |
//! | `route` | the way to a machine, from all of that and the command line |
//! | `connection`, `host_key`, `auth` | one connection: nothing is said to a machine whose key is not known |
//! | `login` | whether a machine that has just started lets anybody in |
//! | `shell` | a shell to talk to, there or in a container that runs there |
//! | `bootstrap`, `session` | starts an engine, sends it there first if it must, and carries its bytes |
//! | `venue`, `reboot`, `ready` | the machine as a target, and its way through a reboot |
//! | `executor` | scripts and files, outside of the engine's protocol |

mod address;
mod auth;
mod bootstrap;
mod config;
mod connection;
mod error;
mod executor;
mod host_key;
mod known_hosts;
mod login;
mod pattern;
mod place;
mod ready;
mod reboot;
mod route;
mod session;
mod settings;
mod shell;
mod unlocked;
mod venue;

pub use address::{Address, AddressError, AddressFault};
pub use config::{Agent, Asked, ConfigError, ConfigFile, HostConfig, Reader, Scope, Surroundings, resolve};
pub use error::ConnectError;
pub use executor::SshExecutor;
pub use known_hosts::{KnownHosts, KnownKey, Verdict, cure_changed, cure_unknown};
pub(crate) use login::lets_in;
pub use place::{Note, Place};
pub use route::{Hop, IdentityFile, Way, way};
pub use settings::{Asker, Delivery, Limits, Nobody, Settings, Wishes};
pub use shell::{Inside, InsideError};
pub use unlocked::Unlocked;
pub use venue::Machine;
