//! What a candy does: the verbs of `run` steps and their modifiers.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::check::CHECK_VERBS;
use super::package::PackageEntry;
use super::step::{Intent, StepCommon, step_schema};
use super::values::{Duration, Mode, Sha256, SourcePath};
use crate::diagnostic::{Diagnostic, suggestion};
use crate::read::{Definitions, Fields, FromText, Map, Problem, Reader, Spanned, choice, listing, record};
use crate::source::Span;

macro_rules! run_verbs {
    ($( $variant:ident($record:ident) = $verb:literal, )+) => {
        /// A verb that does something.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Run {
            $(
                #[doc = concat!("`", $verb, "`")]
                $variant($record),
            )+
        }

        /// The verbs that do something.
        pub(crate) const RUN_VERBS: &[&str] = &[$($verb),+];

        impl Run {
            /// Reads the verb and its modifiers. Returns the keys that belong to them, too.
            fn take(
                verb: &str,
                fields: &mut Fields<'_, '_>,
                cx: &mut Reader<'_>,
            ) -> (Option<Self>, &'static [&'static str]) {
                match verb {
                    $( $verb => ($record::take(fields, cx).map(Self::$variant), $record::KEYS), )+
                    _ => (None, &[]),
                }
            }

            /// Returns the verb and its modifiers as they are written.
            pub(super) fn to_json(&self) -> serde_json::Result<Json> {
                match self { $( Self::$variant(record) => serde_json::to_value(record), )+ }
            }
        }

        /// Describes the steps that do something, one verb after the other.
        pub(super) fn run_schemas(definitions: &mut Definitions) -> Vec<Json> {
            vec![$( step_schema(definitions, &[Intent::Run], $record::properties, false), )+]
        }
    };
}

run_verbs! {
    Command(CommandStep) = "command",
    Mkdir(MkdirStep) = "mkdir",
    Copy(CopyStep) = "copy",
    Write(WriteStep) = "write",
    Link(LinkStep) = "link",
    Download(DownloadStep) = "download",
    Setcap(SetcapStep) = "setcap",
    Build(BuildStep) = "build",
    Package(PackageStep) = "package",
    Service(ServiceStep) = "service",
}

record! {
    /// Runs a shell body.
    pub struct CommandStep {
        /// The body; it is never rewritten.
        pub command: Spanned<String>,
        /// On whose behalf: root, `${USER}`, a name, a uid or `uid:gid`.
        pub run_as: Option<Spanned<RunAs>>,
        /// Folders kept between builds of an image.
        pub cache: Option<Json>,
        /// Variables for the body.
        pub env: Map<Spanned<String>>,
        /// Secrets for the body: variable and secret.
        pub secret: Map<Spanned<String>>,
        /// Paths that the body makes and that are removed with the candy.
        pub uninstall: Vec<Spanned<String>>,
        /// Paths whose presence says that the body need not run again.
        pub creates: Vec<Spanned<String>>,
        /// The longest it may run.
        pub timeout: Option<Duration>,
    }
}

record! {
    /// Makes a folder.
    pub struct MkdirStep {
        /// The folder.
        pub mkdir: Spanned<String>,
        /// Its mode; 0755 where nothing is said.
        pub mode: Option<Spanned<Mode>>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Places a file of the candy's folder.
    pub struct CopyStep {
        /// The file, relative to the candy's folder.
        pub copy: Spanned<SourcePath>,
        /// Where it goes.
        pub to: Spanned<String>,
        /// Its mode; 0644 where nothing is said.
        pub mode: Option<Spanned<Mode>>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Places a file with content given here.
    pub struct WriteStep {
        /// Where it goes.
        pub write: Spanned<String>,
        /// Its content.
        pub content: Option<Spanned<String>>,
        /// The secret that is its content.
        pub secret: Option<Spanned<String>>,
        /// Its mode; 0644 where nothing is said, 0600 for a secret.
        pub mode: Option<Spanned<Mode>>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Makes a symbolic link.
    pub struct LinkStep {
        /// The link.
        pub link: Spanned<String>,
        /// What it points to.
        pub target: Spanned<String>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Places what a URL gives.
    pub struct DownloadStep {
        /// The URL.
        pub download: Spanned<String>,
        /// Where it goes.
        pub to: Option<Spanned<String>>,
        /// The SHA-256 that the bytes must have.
        pub sha256: Option<Spanned<Sha256>>,
        /// What is done with the bytes; nothing where nothing is said.
        pub extract: Option<Spanned<Extract>>,
        /// The members to take.
        pub extract_include: Vec<Spanned<String>>,
        /// How many leading parts of the members' paths are dropped.
        pub strip_components: Option<u32>,
        /// The mode of what is placed.
        pub mode: Option<Spanned<Mode>>,
        /// Variables for a script.
        pub env: Map<Spanned<String>>,
        /// Folders kept between builds of an image.
        pub cache: Option<Json>,
        /// Paths that are removed with the candy, beyond those placed.
        pub uninstall: Vec<Spanned<String>>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Sets file capabilities.
    pub struct SetcapStep {
        /// The file.
        pub setcap: Spanned<String>,
        /// The capabilities; none strips them.
        pub caps: Option<Spanned<String>>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Places what the builders made.
    pub struct BuildStep {
        /// Which builders.
        pub build: Spanned<BuildWhat>,
        /// On whose behalf.
        pub run_as: Option<Spanned<RunAs>>,
    }
}

record! {
    /// Installs a package.
    pub struct PackageStep {
        /// The package.
        pub package: Spanned<PackageEntry>,
        /// Its name by distribution.
        pub package_map: Map<String>,
    }
}

record! {
    /// Enables or disables a unit.
    pub struct ServiceStep {
        /// The unit.
        pub service: Spanned<String>,
        /// Whether it is enabled; true where nothing is said.
        pub enabled: Option<bool>,
        /// Whether it runs; as enabled where nothing is said.
        pub running: Option<bool>,
    }
}

choice! {
    /// What is done with downloaded bytes.
    pub enum Extract {
        /// They are placed as one file.
        None = "none",
        /// A gzip-compressed tar archive is unpacked.
        TarGz = "tar.gz" | "tgz",
        /// An xz-compressed tar archive is unpacked.
        TarXz = "tar.xz",
        /// A zstd-compressed tar archive is unpacked.
        TarZst = "tar.zst",
        /// A zip archive is unpacked.
        Zip = "zip",
        /// They are run as a shell script.
        Sh = "sh",
    }
}

choice! {
    /// Which builders.
    pub enum BuildWhat {
        /// All.
        All = "all",
    }
}

/// On whose behalf a step is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// Root.
    Root,
    /// The deploying user, `${USER}`.
    DeployUser,
    /// A name, a uid, or `uid:gid`.
    Other(String),
}

/// Reads what a step does: its one verb, and that verb's modifiers.
pub(super) fn take_run(fields: &mut Fields<'_, '_>, head: Span, cx: &mut Reader<'_>) -> Option<Run> {
    match fields.present(RUN_VERBS).as_slice() {
        [verb] => {
            let (run, keys) = Run::take(&verb.text, fields, cx);
            let known = keys.iter().chain(StepCommon::KEYS).copied();
            std::mem::take(fields).finish(&known, cx);
            run
        }
        [one, two, ..] => {
            let message = format!("a step has one verb, and this one has `{}` and `{}`", one.text, two.text);
            let finding = Diagnostic::error(message).at(cx.place(two.span)).related(cx.place(one.span), "first here");
            cx.push(finding.hint("make two steps of it"))
        }
        [] => {
            if let [verb, ..] = fields.present(CHECK_VERBS).as_slice() {
                let hint = "write `check:` in place of `run:`";
                return cx.error(verb.span, Problem::new(format!("`{}` can only be checked", verb.text), hint));
            }
            let rest = fields.rest();
            let near = rest.iter().find_map(|(key, _)| Some((key, suggestion(&key.text, RUN_VERBS.iter().copied())?)));
            if let Some((key, hint)) = near {
                cx.error(key.span, Problem::new(format!("unknown verb `{}`", key.text), hint))
            } else {
                let hint = format!("the verbs are {}", listing(RUN_VERBS));
                cx.error(head, Problem::new("the step does nothing", hint))
            }
        }
    }
}

impl FromText for RunAs {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let digits = |text: &str| !text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        match text {
            "root" | "0" | "0:0" => return Ok(Self::Root),
            "${USER}" => return Ok(Self::DeployUser),
            _ => {}
        }
        let pair = text.split_once(':').is_some_and(|(uid, gid)| digits(uid) && digits(gid));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let name = text.len() <= 32
            && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.strip_suffix('$').unwrap_or(text).bytes().all(allowed);
        if pair || digits(text) || name {
            return Ok(Self::Other(text.to_owned()));
        }
        let hint = "write `root`, `${USER}`, a name, a uid or `uid:gid`";
        Err(Problem::new(format!("`{text}` is not a user"), hint))
    }

    fn text_schema() -> Json {
        json!({"type": ["string", "integer"]})
    }
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::DeployUser => "${USER}",
            Self::Other(user) => user,
        })
    }
}

impl Serialize for RunAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
