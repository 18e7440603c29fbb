//! A hardened HTTP server that runs named programs for callers without credentials.
//!
//! It stands beside a program that must hold no secrets, an agent say, and runs *skills* on its behalf: executables of
//! one folder, each with its own credentials, file rules, limits and allowed arguments. `docs/skill-sidecar.md` is the
//! guide.
//!
//! The way of a request through the modules:
//!
//! | step | module |
//! |---|---|
//! | a connection, its limits, the end of the server | `server` |
//! | host, origin, token: before the body is read | `guard`, `caller` |
//! | the routes | `http` |
//! | a name to a program, by handle | `name`, `folder` |
//! | the body | `request` |
//! | what the skill may be given | `manifest`, `pattern` |
//! | a place and a turn | `gate` |
//! | the run: streams, deadline, cancellation | `run`, in a folder of `work` |
//! | the process, its limits and sandbox | `spawn`, `sandbox`, `seccomp` |
//! | what it leaves behind | `orphans`, `supervisor` |
//! | the answer, at once or later | `answer`, `tasks` |
//! | what is written down | `audit` |
//!
//! Invariant: nothing here calls a shell, and nothing a caller sends becomes part of a path, except a [`SkillName`].
//! Invariant: `unsafe` code is in `spawn` alone.

mod answer;
mod audit;
mod caller;
pub mod cli;
mod folder;
mod gate;
mod guard;
mod http;
mod manifest;
mod name;
mod orphans;
mod pattern;
mod refusal;
mod request;
mod run;
mod sandbox;
mod seccomp;
mod server;
mod service;
mod settings;
mod spawn;
mod supervisor;
mod tasks;
mod work;

pub use folder::{Program, ResolveError, SkillFolder};
pub use name::{NameError, SkillName};
pub use request::{Encoding, RequestError, RunRequest, ValueError};
pub use service::ConfigError;
pub use settings::{Limits, Listen, ListenError, SandboxMode, Settings};
