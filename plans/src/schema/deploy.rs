//! Deploys: what is wanted where; sidecars and templates.

use serde_json::Value as Json;

use super::container::{Security, Volume};
use super::reference::Reference;
use super::secret::SecretSource;
use super::values::{Duration, EnvName};
use crate::read::{Map, Spanned, choice, record};

record! {
    /// A deploy: what is wanted on one venue.
    pub struct Deploy {
        /// What the deploy is for.
        pub description: Option<String>,
        /// What kind of venue it is; follows from the other keys where nothing is said.
        pub target: Option<Spanned<TargetKind>>,
        /// The box that a pod runs.
        pub box_ as "box" | "image": Option<Spanned<String>>,
        /// The machine.
        pub vm: Option<Spanned<String>>,
        /// Another machine than this one, reached over SSH: `user@host:port`, or an alias of `~/.ssh/config`.
        pub host: Option<Spanned<String>>,
        /// Names under which it is meant together with others, as `@NAME`.
        pub group: Vec<Spanned<String>>,
        /// The template for this machine.
        pub local: Option<Spanned<String>>,
        /// The cluster.
        pub k8s: Option<Spanned<String>>,
        /// The candies.
        pub candy as "candy" | "add_candy": Vec<Spanned<Reference>>,
        /// Variables.
        pub env: Map<Spanned<String>>,
        /// A file of variables.
        pub env_file: Option<Spanned<String>>,
        /// Ports, `host:container` or one for both.
        pub port: Vec<Spanned<String>>,
        /// Folders that outlive a container.
        pub volume: Vec<DeployVolume>,
        /// Secrets, and where their values are.
        pub secret: Vec<DeploySecret>,
        /// Sidecars, with what this deploy changes about them.
        pub sidecar as "sidecar" | "sidecars": Map<Sidecar>,
        /// What a container may do and use.
        pub security: Option<Security>,
        /// Container networks beyond charly's own.
        pub network: Option<Spanned<String>>,
        /// The number of times to run it (k8s), and how.
        pub kubernetes: Option<KubernetesDeploy>,
        /// How it is reached from elsewhere.
        pub tunnel: Option<Json>,
        /// Deploys inside this one: pods in a machine.
        pub nested: Map<Spanned<Deploy>>,
        /// Whether it may be thrown away without asking.
        pub disposable: bool,
        /// Whether it starts with its host, and what else happens to it.
        pub lifecycle: Option<Json>,
        /// It lives for a while only.
        pub ephemeral: Option<Ephemeral>,
    }
}

record! {
    /// A secret of a deploy.
    pub struct DeploySecret {
        /// Names the secret.
        pub name: Spanned<String>,
        /// Where charly reads its value when it is needed: `env:VARIABLE`, or `file:PATH` from the project's folder or `~/`.
        pub from: Option<Spanned<SecretSource>>,
        /// The file it is mounted as.
        pub target: Option<Spanned<String>>,
        /// The variable it is given as.
        pub env: Option<Spanned<EnvName>>,
    }
}

choice! {
    /// The kinds of venues.
    pub enum TargetKind {
        /// This machine.
        Local = "local" | "host",
        /// A container, or several in a pod.
        Pod = "pod" | "container",
        /// A virtual machine, or any machine over SSH.
        Vm = "vm",
        /// A Kubernetes cluster.
        K8s = "k8s",
        /// An Android device.
        Android = "android",
    }
}

record! {
    /// A folder that outlives a container, as one deploy has it.
    pub struct DeployVolume {
        /// The volume's name.
        pub name: Spanned<String>,
        /// How it is kept.
        pub kind as "type" | "kind": Option<VolumeKind>,
        /// The folder on the host.
        pub host: Option<Spanned<String>>,
        /// Where it is mounted.
        pub path: Option<Spanned<String>>,
    }
}

choice! {
    /// How a volume is kept.
    pub enum VolumeKind {
        /// By the container engine.
        Volume = "volume" | "named",
        /// In a folder of the host.
        Bind = "bind",
        /// Encrypted, in a folder of the host.
        Encrypted = "encrypted",
    }
}

record! {
    /// A deploy that lives for a while only.
    pub struct Ephemeral {
        /// How long.
        pub ttl: Option<Duration>,
        /// Whether it stays when something failed.
        pub keep_on_failure: bool,
        /// How its instances are named. Refused: a machine has one instance, and a name of its own.
        pub naming_pattern: Option<Spanned<String>>,
    }
}

record! {
    /// A sidecar: a container beside another one. A template, or what a deploy changes about it.
    pub struct Sidecar {
        /// What it does.
        pub description: Option<String>,
        /// Its image.
        pub image: Option<Spanned<String>>,
        /// The kind it builds on.
        pub kind: Option<Spanned<String>>,
        /// Its variables.
        pub env: Map<Spanned<String>>,
        /// Its parameters; an empty one must be given by the deploy.
        pub parameter: Map<Spanned<String>>,
        /// Its secrets.
        pub secret: Vec<SidecarSecret>,
        /// Its volumes.
        pub volume: Vec<Volume>,
        /// What it may do and use.
        pub security: Option<Security>,
        /// The tailnet it joins (tailscale).
        pub tailnet: Option<Spanned<String>>,
        /// Its name there (tailscale).
        pub hostname: Option<Spanned<String>>,
        /// Its tags there (tailscale).
        pub tags: Vec<String>,
        /// `kernel` or `userspace` (tailscale).
        pub mode: Option<SidecarMode>,
        /// The exit node (tailscale).
        pub exit_node: Option<String>,
        /// Whether names are looked up in the tailnet (tailscale).
        pub accept_dns: Option<bool>,
        /// What it offers to the tailnet (tailscale).
        pub serve: Vec<Serve>,
        /// The volume of its state.
        pub state: Option<String>,
        /// The secret it authenticates with.
        pub authkey: Option<String>,
        /// What the others wait for.
        pub gate: Option<SidecarGate>,
    }
}

choice! {
    /// How a sidecar reaches the network.
    pub enum SidecarMode {
        /// Through a device of the kernel.
        Kernel = "kernel",
        /// In user space.
        Userspace = "userspace",
    }
}

choice! {
    /// What other containers wait for.
    pub enum SidecarGate {
        /// Nothing.
        None = "none",
        /// That it runs.
        Started = "started",
        /// That it says it is well.
        Healthy = "healthy",
    }
}

record! {
    /// A sidecar's secret.
    pub struct SidecarSecret {
        /// Names the secret.
        pub name: Spanned<String>,
        /// The variable in the container.
        pub env: Option<Spanned<EnvName>>,
        /// The variable on the host; `{{.Parameter.NAME}}` is a parameter.
        pub env_from: Option<Spanned<String>>,
        /// What it is for.
        pub description: Option<String>,
    }
}

record! {
    /// A port that a sidecar offers.
    pub struct Serve {
        /// The port there.
        pub listen: Spanned<u16>,
        /// What is spoken.
        pub proto: Option<String>,
        /// Where it leads.
        pub target: Spanned<String>,
        /// Whether the whole internet may come.
        pub funnel: bool,
    }
}

record! {
    /// How a deploy runs on a cluster.
    pub struct KubernetesDeploy {
        /// The kind of workload; follows from the candies where nothing is said.
        pub workload: Option<String>,
        /// The namespace.
        pub namespace: Option<String>,
        /// How many run.
        pub replicas: Option<u32>,
        /// The schedule of a CronJob.
        pub schedule: Option<String>,
        /// Anything else.
        pub extra: Option<Json>,
    }
}

record! {
    /// A template for this machine.
    pub struct LocalTemplate {
        /// What it is for.
        pub description: Option<String>,
        /// The candies.
        pub candy: Vec<Spanned<Reference>>,
        /// Variables.
        pub env: Map<Spanned<String>>,
    }
}
