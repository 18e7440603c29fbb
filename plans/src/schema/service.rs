//! Services.

use super::values::Duration;
use crate::read::{Map, Spanned, choice, record};

record! {
    /// A service: one of the candy's own (`exec`), or one that a package brings (`use_packaged`).
    pub struct Service {
        /// Names the service within the candy.
        pub name: Spanned<String>,
        /// The unit that a package brings.
        pub use_packaged: Option<Spanned<String>>,
        /// The command line; `%(ENV_HOME)s` is the user's home.
        pub exec: Option<Spanned<String>>,
        /// Variables for the service.
        pub env: Map<Spanned<String>>,
        /// When it is started again.
        pub restart: Option<Restart>,
        /// The folder it starts in.
        pub working_directory: Option<Spanned<String>>,
        /// The user it runs as.
        pub user: Option<Spanned<String>>,
        /// Units it starts after.
        pub after: Vec<Spanned<String>>,
        /// Units it starts before.
        pub before: Vec<Spanned<String>>,
        /// The unit that wants it at boot.
        pub wanted_by: Vec<Spanned<String>>,
        /// Where its output goes: `journal`, `null`, or `file:PATH`.
        pub stdout: Option<Spanned<String>>,
        /// How long it may take to stop.
        pub stop_timeout: Option<Spanned<Duration>>,
        /// The signal that stops it.
        pub stop_signal: Option<Spanned<String>>,
        /// Whose service it is.
        pub scope: Option<Scope>,
        /// Whether it is enabled and started.
        pub enable: Option<bool>,
        /// Overrides for a packaged unit.
        pub overrides: Option<Overrides>,
        /// The place in supervisord's start order.
        pub priority: Option<i32>,
        /// Whether supervisord starts it.
        pub autostart as "autostart" | "auto_start": Option<bool>,
        /// How long it must run to count as started, in seconds (supervisord).
        pub start_sec: Option<Duration>,
        /// How often a start is tried (supervisord).
        pub start_retry: Option<u32>,
        /// The exit codes that are expected (supervisord).
        pub exit_code: Option<String>,
    }
}

record! {
    /// Overrides for a packaged unit, written as a drop-in.
    pub struct Overrides {
        /// Variables.
        pub env: Map<Spanned<String>>,
        /// Units it starts after.
        pub after: Vec<Spanned<String>>,
        /// The command line instead of the package's.
        pub exec: Option<Spanned<String>>,
    }
}

choice! {
    /// When a service is started again.
    pub enum Restart {
        /// Never.
        No = "no" | "false" | "never",
        /// After it failed.
        OnFailure = "on-failure",
        /// Always.
        Always = "always" | "true",
        /// Always, except when someone stopped it.
        UnlessStopped = "unless-stopped",
    }
}

choice! {
    /// Whose service it is.
    pub enum Scope {
        /// The machine's.
        System = "system",
        /// The deploying user's.
        User = "user",
    }
}
