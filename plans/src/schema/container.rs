//! Run-time and container fields: carried in the plan for the venues that use them.

use super::values::{EnvName, Mode, SourcePath};
use crate::read::{Spanned, record};

record! {
    /// The host name under which a reverse proxy offers a service.
    pub struct RouteSpec {
        /// The host name.
        pub host: Spanned<String>,
        /// The service's port.
        pub port: Spanned<u16>,
    }
}

record! {
    /// A folder that outlives a container.
    pub struct Volume {
        /// Names the volume within its deploy.
        pub name: Spanned<String>,
        /// Where it is mounted.
        pub path: Spanned<String>,
    }
}

record! {
    /// A command offered on the host of a container.
    pub struct Alias {
        /// Its name.
        pub name: Spanned<String>,
        /// What runs in the container.
        pub command: Spanned<String>,
    }
}

record! {
    /// What a container may do and use.
    pub struct Security {
        /// Whether it may do everything.
        pub privileged: Option<bool>,
        /// The cgroup namespace, `host` or `private`.
        pub cgroupns: Option<String>,
        /// Capabilities beyond the default ones.
        pub cap_add: Vec<String>,
        /// Devices.
        pub devices as "devices" | "device": Vec<String>,
        /// Security options of the engine.
        pub security_opt: Vec<String>,
        /// The IPC namespace.
        pub ipc_mode: Option<String>,
        /// The size of /dev/shm.
        pub shm_size: Option<String>,
        /// Further groups.
        pub group_add: Vec<String>,
        /// Mounts from the host.
        pub mount: Vec<String>,
        /// The most memory it may use.
        pub memory_max: Option<String>,
        /// The memory beyond which it is slowed down.
        pub memory_high: Option<String>,
        /// The most swap it may use.
        pub memory_swap_max: Option<String>,
        /// The CPUs it may use.
        pub cpus: Option<String>,
    }
}

record! {
    /// A secret that a container is given.
    pub struct SecretSpec {
        /// Names the secret.
        pub name: Spanned<String>,
        /// The file it is mounted as.
        pub target: Option<Spanned<String>>,
        /// The variable it is given as.
        pub env: Option<Spanned<EnvName>>,
    }
}

record! {
    /// A folder of the candy that fills a volume.
    pub struct DataSpec {
        /// The folder.
        pub src: Spanned<SourcePath>,
        /// The volume.
        pub volume: Spanned<String>,
        /// The folder in the volume.
        pub dest: Option<Spanned<String>>,
    }
}

record! {
    /// Files taken out of another image.
    pub struct ExtractSpec {
        /// The image.
        pub source as "source" | "image" | "from": Spanned<String>,
        /// The path in it.
        pub path as "path" | "src": Spanned<String>,
        /// Where it goes.
        pub dest as "dest" | "to": Spanned<String>,
    }
}

record! {
    /// Bodies run around a candy's life.
    pub struct Hook {
        /// Run after the services are enabled.
        pub post_enable: Option<Spanned<String>>,
        /// Run before the candy is removed.
        pub pre_remove: Option<Spanned<String>>,
    }
}

record! {
    /// A file brought back to the controller.
    pub struct ArtifactSpec {
        /// Its name.
        pub name: Spanned<String>,
        /// Where it lies on the venue.
        pub path: Spanned<String>,
        /// Its mode on the controller.
        pub mode: Option<Mode>,
        /// How long to wait for it, in seconds.
        pub wait_second: Option<u32>,
        /// Replacements made in it.
        pub rewrite: Vec<Rewrite>,
        /// Where it goes on the controller.
        pub retrieve_to: Spanned<String>,
    }
}

record! {
    /// A replacement in a file.
    pub struct Rewrite {
        /// What is looked for.
        pub find: String,
        /// What takes its place.
        pub replace: String,
    }
}

record! {
    /// An Android app.
    pub struct Apk {
        /// The app's id, fetched from a store.
        pub package: Option<Spanned<String>>,
        /// A file of the project.
        pub apk: Option<Spanned<String>>,
        /// The store.
        pub source: Option<String>,
        /// The architecture.
        pub arch: Option<String>,
        /// The version.
        pub version: Option<String>,
    }
}

record! {
    /// A package file of the candy's own.
    pub struct LocalPackage {
        /// The file, or the folder with its build recipe.
        pub path: Spanned<SourcePath>,
        /// The package's name.
        pub name: Option<String>,
    }
}
