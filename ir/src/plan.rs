//! The InstallPlan: candies in dependency order, each with its typed steps.
//!
//! A plan is data: it serializes to the same bytes for the same sources and venue facts. What only the venue knows is a
//! [`Text`] token, file contents are blobs named by digest, secrets are references by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::digest::Digest;
use crate::facts::PackageManager;
use crate::text::Text;

/// The format number of the plans this crate writes. An engine refuses a newer one.
pub const FORMAT: u32 = 1;

/// What is to be there on a venue: one entry a candy, dependencies first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallPlan {
    /// [`FORMAT`] of the charly that compiled the plan.
    pub format: u32,
    /// The operating system it was compiled for, as [`Os::tag`](crate::facts::Os::tag) writes it.
    pub os: String,
    /// The architecture it was compiled for, as `uname -m` writes it.
    pub arch: String,
    /// The candies; whatever an entry requires stands before it.
    pub candies: Vec<CandyPlan>,
}

/// One candy, compiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandyPlan {
    /// The candy's name, unique in the plan.
    pub name: String,
    /// Its version, CalVer `YYYY.DDD.HHMM`.
    pub version: String,
    /// The first line of its description.
    pub summary: String,
    /// The names of the candies in this plan that it requires or is composed of.
    pub requires: Vec<String>,
    /// Its steps, in the order they are carried out.
    pub steps: Vec<Step>,
    /// Its checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Files to bring back to the controller once the steps are done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The secrets its steps refer to. Values never enter a plan.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Run-time and container fields, carried for the venues that use them: ports, volumes, routes, security and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtime: BTreeMap<String, serde_json::Value>,
}

/// One step of a candy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Names the step within its candy. It follows from what the step acts on, not from its place, so that a step moved
    /// in the file stays the same step.
    pub id: String,
    /// A sentence for people: the author's, or one made from the action.
    pub title: String,
    /// On whose behalf the step acts.
    pub scope: Scope,
    /// Where the step is carried out.
    #[serde(default, skip_serializing_if = "Venue::is_host")]
    pub venue: Venue,
    /// The permission it needs beyond the command itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Its place within the candy.
    pub phase: Phase,
    /// What it does.
    pub action: Action,
}

/// Where an image says what ran when it was built.
const MARKS_IN_IMAGE: &str = "/usr/lib/opencharly/ran";

/// On whose behalf a step acts, which decides who carries it out and whose ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The machine: carried out by root.
    System,
    /// The deploying user, in its own home.
    User,
    /// The deploying user's shell start-up files.
    UserProfile,
    /// Another user, named as in `run_as`: a name, a number, or `uid:gid`. Root's ledger remembers it, a process of that
    /// user carries it out.
    Other(String),
}

/// Where a step is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Venue {
    /// On the venue itself.
    #[default]
    HostNative,
    /// In a builder's container on the controller.
    ContainerBuilder,
    /// Nowhere: it has no meaning on this kind of venue.
    Skip,
}

/// A permission that a step needs beyond the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Adding a package repository and the key it is trusted by.
    AllowRepoChanges,
    /// Running an author's command as root.
    AllowRootTasks,
    /// Enabling and starting services.
    WithServices,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AllowRepoChanges, Self::AllowRootTasks, Self::WithServices];
}

/// The order of steps within a candy. Steps of one phase keep their author's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Package repositories.
    Repositories,
    /// Packages.
    Packages,
    /// Artifacts of builders.
    Builders,
    /// The author's own steps.
    Configure,
    /// Environment and shell start-up.
    Shell,
    /// Services.
    Services,
    /// What runs after all else, such as hooks and a reboot.
    Finish,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Installs packages through the venue's manager.
    SystemPackages(Packages),
    /// Adds a package repository and its key.
    RepoChange(Repo),
    /// Ships what a builder made on the controller.
    Builder(Builder),
    /// One of the author's own verbs.
    Op(Op),
    /// Places one generated file.
    File(Placement),
    /// Enables a unit that a package brought.
    ServicePackaged(PackagedService),
    /// Writes and enables a unit of the candy's own.
    ServiceCustom(CustomService),
    /// Exports variables and extends PATH for login shells.
    ShellHook(ShellHook),
    /// Adds a snippet to one shell's start-up.
    ShellSnippet(ShellSnippet),
    /// Runs a body when the candy is taken away, before anything else of it is undone.
    RemovalHook(Command),
    /// Carries what no engine does, with the reason.
    Unsupported {
        /// What is asked for, such as `apk` or `localpkg`.
        what: String,
        /// Why it is not done, and what would do it.
        reason: String,
    },
    /// Reboots the venue and continues; skipped where nothing before it changed.
    Reboot,
}

/// The author's own verbs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Runs a shell body.
    Command(Command),
    /// Makes a folder with this mode.
    Mkdir {
        /// The folder.
        path: Text,
        /// Its permission bits.
        mode: u32,
    },
    /// Places a file of the candy's folder.
    Copy(Placement),
    /// Places a file with content given in place.
    Write(Placement),
    /// Makes a symbolic link.
    Link {
        /// The link.
        path: Text,
        /// What it points to, kept as it is.
        target: Text,
    },
    /// Places what a URL gives.
    Download(Download),
    /// Sets file capabilities.
    Setcap {
        /// The file.
        path: Text,
        /// The capabilities as setcap(8) reads them; empty strips them.
        caps: String,
    },
}

/// A file to be placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// Where.
    pub path: Text,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Content,
}

/// The content of a file to be placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Text given in the plan; its tokens are resolved on the venue.
    Text(Text),
    /// Bytes sent beside the plan, placed as they are.
    Blob {
        /// Their digest.
        digest: Digest,
        /// Their number.
        size: u64,
    },
    /// The value of a secret. The file's mode may grant nothing to group and others.
    Secret(String),
}

/// A shell body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The body, exactly as written: `~` and `$HOME` expand where it runs.
    pub body: String,
    /// Variables set for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
    /// Secrets set as variables for it: variable to secret name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Paths that the body makes and that are removed when the step is undone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninstall: Vec<Text>,
    /// Paths whose presence, beside the journal, says that the body need not run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<Text>,
    /// Bounds its run, in seconds. Absent: the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
}

/// What a URL gives, and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Download {
    /// The URL; the controller fetches it.
    pub url: String,
    /// The digest its bytes must have. Absent: the first fetch decides, and the ledger remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// What to do with the bytes.
    pub extract: Extract,
    /// The members to take, by path or by file name, `*` and `?` allowed. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// How many leading path components to drop from each member.
    pub strip_components: u32,
    /// The folder for members, or the path of the file itself where nothing is extracted.
    pub to: Text,
    /// Permission bits for what is placed. Absent: the archive's, or 0644 where nothing is extracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Variables set for a script.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
    /// Paths that are removed when the step is undone, beyond those it placed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninstall: Vec<Text>,
}

/// What to do with downloaded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extract {
    /// Place them as one file.
    None,
    /// Unpack a gzip-compressed tar archive.
    TarGz,
    /// Unpack an xz-compressed tar archive.
    TarXz,
    /// Unpack a zstd-compressed tar archive.
    TarZst,
    /// Unpack a zip archive.
    Zip,
    /// Run them as a shell script.
    Sh,
}

/// Packages to be installed in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// The manager.
    pub manager: PackageManager,
    /// The packages' names, sorted, each once.
    pub install: Vec<String>,
    /// Packages that the transaction must not bring in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Options for the manager, as the candy gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Module streams to enable first (dnf alone).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Files of packages on the venue, or their URLs, that are installed instead of a repository's (dnf and pacman alone).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A package repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repo {
    /// The manager it is for.
    pub manager: PackageManager,
    /// Its name, which names its files too.
    pub name: String,
    /// Where it comes from.
    pub source: RepoSource,
}

/// Where a repository comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepoSource {
    /// Configuration written from the candy's own fields.
    Written {
        /// The configuration file.
        file: Placement,
        /// The key it is trusted by, fetched by the controller, and where it is placed.
        key: Option<RepoKey>,
    },
    /// A configuration file fetched by the controller and placed as it is.
    Fetched {
        /// Its URL.
        url: String,
        /// Where it is placed.
        path: Text,
        /// The key it is trusted by.
        key: Option<RepoKey>,
    },
    /// A Copr project, enabled by dnf's own plug-in.
    Copr {
        /// The project, `owner/project`.
        project: String,
        /// The configuration file that the plug-in writes.
        path: Text,
    },
    /// A package that carries the configuration, such as a `-release` RPM, fetched by the package manager.
    Package {
        /// Its URL.
        url: String,
        /// Its name once it is installed.
        package: String,
    },
}

/// A repository's signing key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepoKey {
    /// Its URL.
    pub url: String,
    /// Where it is placed; an armoured key is placed in binary form where the path ends in `.gpg`.
    pub path: Text,
}

/// Artifacts that are built on the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    /// Which builder.
    pub kind: BuilderKind,
    /// The files it builds from: path relative to the candy's folder, and digest.
    pub inputs: BTreeMap<String, Digest>,
    /// Packages named in the candy itself, for the builders that take such (aur).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// The folder that it builds for: what it makes may hold this path, and works nowhere else.
    #[serde(default)]
    pub to: Text,
    /// The image that it runs in, where somebody names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// The builders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuilderKind {
    /// npm, found by `package.json`.
    Npm,
    /// cargo, found by `Cargo.toml`.
    Cargo,
    /// pixi, found by `pixi.toml`, `pyproject.toml` or `environment.yml`.
    Pixi,
    /// uv, found by `uv.lock` or `requirements.txt`.
    Uv,
    /// The AUR, found by a non-empty `aur` section.
    Aur,
}

/// A unit that a package brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackagedService {
    /// The unit's name, with its suffix.
    pub unit: String,
    /// Whether it is enabled and started (true), disabled and stopped (false), or left as the package left it (absent).
    pub enable: Option<bool>,
    /// A drop-in that overrides parts of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_in: Option<Placement>,
}

/// A unit of the candy's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomService {
    /// The unit's name, with its suffix.
    pub unit: String,
    /// The unit file.
    pub file: Placement,
    /// Whether it is enabled and started.
    pub enable: bool,
}

/// Variables and PATH for login shells, written below `env.d` in the user's home and sourced by one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShellHook {
    /// Variables.
    pub env: BTreeMap<String, Text>,
    /// Folders appended to PATH, in order.
    pub path_append: Vec<Text>,
}

/// A snippet for one shell's start-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShellSnippet {
    /// The shell.
    pub shell: Shell,
    /// The snippet, in that shell's language.
    pub snippet: Text,
    /// The place among other snippets: lower first.
    pub priority: i32,
}

/// The shells that snippets are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// Any other POSIX shell, through `~/.profile`.
    Sh,
}

/// A file to bring back to the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Where it lies on the venue.
    pub path: Text,
    /// Its permission bits on the controller.
    pub mode: u32,
    /// How long to wait for it, in seconds.
    pub wait_s: u32,
    /// Replacements made in it, in order: what is found, what replaces it.
    pub rewrite: Vec<(String, String)>,
    /// Where it goes on the controller; `~` is the operator's home.
    pub retrieve_to: String,
}

impl InstallPlan {
    /// Returns a plan that holds nothing.
    pub fn empty(os: impl Into<String>, arch: impl Into<String>) -> Self {
        Self { format: FORMAT, os: os.into(), arch: arch.into(), candies: Vec::new() }
    }

    /// Returns all steps with their candies, in order; the position of a step here is its global number.
    pub fn steps(&self) -> impl Iterator<Item = (&CandyPlan, &Step)> {
        self.candies.iter().flat_map(|candy| candy.steps.iter().map(move |step| (candy, step)))
    }

    /// Returns the digest of the plan's bytes.
    ///
    /// Maps are sorted and structures keep their order, so equal plans have equal bytes.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }

    /// Returns the digests of all blobs the plan refers to, with their sizes in bytes.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let contents = self.steps().filter_map(|(_, step)| step.action.placement()).map(|file| &file.content);
        contents
            .filter_map(|content| match content {
                Content::Blob { digest, size } => Some((*digest, *size)),
                Content::Text(_) | Content::Secret(_) => None,
            })
            .collect()
    }
}

impl CandyPlan {
    /// Returns the digest of its steps: what a venue that carried them out holds. What people read of a step is no part of it.
    pub fn digest(&self) -> Digest {
        let telling = self.steps.iter().map(|step| {
            let Step { id, title: _, scope, venue, gate, phase, action } = step;
            (id, scope, venue, gate, phase, action)
        });
        digest_of(&telling.collect::<Vec<_>>())
    }
}

impl Step {
    /// Returns the digest of what the step asks for: its action and on whose behalf, not its title or place.
    pub fn digest(&self) -> Digest {
        digest_of(&(&self.scope, &self.action))
    }

    /// Tells whether the step runs something, so that nothing but a record says whether it was carried out.
    pub fn runs(&self) -> bool {
        match &self.action {
            Action::Op(Op::Command(_)) => true,
            Action::Op(Op::Download(download)) => download.extract == Extract::Sh,
            Action::RepoChange(repo) => matches!(repo.source, RepoSource::Copr { .. }),
            _ => false,
        }
    }

    /// Returns the file by which an image says that the step ran when it was built, on behalf of a user of this number.
    ///
    /// Its name is all that it says: what the step asks for, and for whom.
    pub fn mark_in_image(&self, uid: u32) -> String {
        let whom = if self.scope.is_system() { String::new() } else { format!("-{uid}") };
        format!("{MARKS_IN_IMAGE}/{}{whom}", self.digest())
    }
}

impl Scope {
    /// Tells whether root's engine carries the step out and its ledger remembers it.
    pub fn is_system(&self) -> bool {
        match self {
            Self::System | Self::Other(_) => true,
            Self::User | Self::UserProfile => false,
        }
    }
}

impl Venue {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands `skip_serializing_if` a reference")]
    fn is_host(&self) -> bool {
        *self == Self::HostNative
    }
}

impl Gate {
    /// Returns the flag of `bundle add` that opens the gate.
    pub fn flag(self) -> &'static str {
        match self {
            Self::AllowRepoChanges => "--allow-repo-changes",
            Self::AllowRootTasks => "--allow-root-tasks",
            Self::WithServices => "--with-services",
        }
    }
}

impl BuilderKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Npm, Self::Cargo, Self::Pixi, Self::Uv, Self::Aur];
}

impl Action {
    /// Returns the kind's name, as the plan's JSON has it; for the author's verbs the verb.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SystemPackages(_) => "system-packages",
            Self::RepoChange(_) => "repo-change",
            Self::Builder(_) => "builder",
            Self::Op(Op::Command(_)) => "command",
            Self::Op(Op::Mkdir { .. }) => "mkdir",
            Self::Op(Op::Copy(_)) => "copy",
            Self::Op(Op::Write(_)) => "write",
            Self::Op(Op::Link { .. }) => "link",
            Self::Op(Op::Download(_)) => "download",
            Self::Op(Op::Setcap { .. }) => "setcap",
            Self::File(_) => "file",
            Self::ServicePackaged(_) => "service-packaged",
            Self::ServiceCustom(_) => "service-custom",
            Self::ShellHook(_) => "shell-hook",
            Self::ShellSnippet(_) => "shell-snippet",
            Self::RemovalHook(_) => "removal-hook",
            Self::Unsupported { .. } => "unsupported",
            Self::Reboot => "reboot",
        }
    }

    /// Returns the file that the action places, where it places exactly one known by content.
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Op(Op::Copy(file) | Op::Write(file)) | Self::File(file) => Some(file),
            Self::ServicePackaged(service) => service.drop_in.as_ref(),
            Self::ServiceCustom(service) => Some(&service.file),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User => f.write_str("user"),
            Self::UserProfile => f.write_str("user-profile"),
            Self::Other(user) => write!(f, "as {user}"),
        }
    }
}

impl fmt::Display for BuilderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npm => "npm",
            Self::Cargo => "cargo",
            Self::Pixi => "pixi",
            Self::Uv => "uv",
            Self::Aur => "aur",
        })
    }
}

fn digest_of(value: &impl Serialize) -> Digest {
    // Every type of this module has string keys and finite numbers, so it always serializes.
    Digest::of_written(|into| serde_json::to_writer(into, value)).expect("plan types serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(action: Action) -> Step {
        Step {
            id: "s".into(),
            title: "t".into(),
            scope: Scope::System,
            venue: Venue::HostNative,
            gate: None,
            phase: Phase::Configure,
            action,
        }
    }

    #[test]
    fn a_steps_digest_follows_what_it_asks_for_alone() {
        let one = step(Action::Reboot);
        let titled = Step { title: "other".into(), id: "x".into(), ..one.clone() };
        let scoped = Step { scope: Scope::Other("ann".into()), ..one.clone() };
        assert_eq!(one.digest(), titled.digest());
        assert_ne!(one.digest(), scoped.digest());
    }

    #[test]
    fn blobs_of_unit_files_are_counted_too() {
        let digest = Digest::of(b"x");
        let file = Placement { path: "/u".into(), mode: 0o644, content: Content::Blob { digest, size: 1 } };
        let service = CustomService { unit: "u.service".into(), file, enable: true };
        let mut plan = InstallPlan::empty("debian-13", "x86_64");
        plan.candies.push(CandyPlan {
            name: "c".into(),
            version: "2026.001.0000".into(),
            summary: String::new(),
            requires: vec![],
            steps: vec![step(Action::ServiceCustom(service))],
            checks: vec![],
            artifacts: vec![],
            secrets: BTreeSet::new(),
            runtime: BTreeMap::new(),
        });
        assert_eq!(plan.blobs(), BTreeMap::from([(digest, 1)]));
        let mut reworded = plan.candies[0].clone();
        reworded.steps[0].title = "other".into();
        assert_eq!(reworded.digest(), plan.candies[0].digest());
        reworded.steps[0].id = "other".into();
        assert_ne!(reworded.digest(), plan.candies[0].digest());
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<InstallPlan>(&text).unwrap(), plan);
    }
}
