//! One connection to a machine, and what is done over it.
//!
//! | module | what it holds |
//! |---|---|
//! | `route` | the way to a machine: from a name and ssh_config(5) to hosts, users and keys |
//! | `connection`, `host_key`, `auth` | one connection: nothing is said to a machine whose key is not known |
//! | `bootstrap`, `session` | starts an engine, sends it there first if it must, and carries its bytes |
//! | `venue`, `reboot`, `ready` | the machine as a target, and its way through a reboot |
//! | `executor` | scripts and files, outside of the engine's protocol |

mod auth;
mod bootstrap;
mod connection;
mod error;
mod executor;
mod host_key;
mod known;
mod ready;
mod reboot;
mod route;
mod session;
mod settings;
mod venue;

pub use error::ConnectError;
pub use executor::SshExecutor;
pub use route::{Hop, IdentityFile};
pub use settings::{Asker, Delivery, Limits, Nobody, Settings, Wishes};
pub use venue::Machine;
