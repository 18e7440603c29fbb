//! What a candy does and asserts, one step at a time.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map as JsonMap, Value as Json, json};

use super::check::{CHECK_VERBS, CheckSpec};
use super::matcher::Texts;
use super::package::PackageEntry;
use super::values::{Duration, Mode, Sha256, SourcePath};
use crate::diagnostic::{Diagnostic, suggestion};
use crate::read::schema::Object;
use crate::read::{Definitions, Fields, FromText, FromYaml, Map, Problem, Reader, Spanned, choice, listing, record};
use crate::source::Span;
use crate::yaml::Node;

/// One step: an intent, which is a sentence, and one verb.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The sentence; its place stands for the step in messages.
    pub title: Spanned<String>,
    /// What any step may say of itself.
    pub common: StepCommon,
    /// What the step does or asserts.
    pub kind: StepKind,
}

/// What a step does or asserts.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// It does something.
    Run(Box<Run>),
    /// It asserts something.
    Check(Box<CheckSpec>),
    /// It is for an agent, or for a candy that includes others' steps; carried.
    Carried {
        /// The intent.
        intent: Intent,
        /// Its other keys.
        fields: Map<Json>,
    },
}

record! {
    /// What any step may say of itself.
    pub struct StepCommon {
        /// Names the step within its candy.
        pub id: Option<Spanned<String>>,
        /// Where the step has a meaning; everywhere where nothing is said.
        pub context: Vec<Spanned<StepContext>>,
        /// A remark.
        pub comment: Option<String>,
        /// Distributions on which the step is left out.
        pub exclude_distros as "exclude_distros" | "exclude_distro": Texts,
    }
}

choice! {
    /// Why a step is there.
    pub enum Intent {
        /// It does something.
        Run = "run",
        /// It asserts something.
        Check = "check",
        /// An agent is to do something.
        AgentRun = "agent-run",
        /// An agent is to judge something.
        AgentCheck = "agent-check",
        /// It stands for steps of elsewhere.
        Include = "include",
    }
}

choice! {
    /// Where a step has a meaning.
    pub enum StepContext {
        /// While an image is built.
        Build = "build",
        /// While a plan is applied.
        Deploy = "deploy",
        /// While services run.
        Runtime = "runtime",
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

            fn to_json(&self) -> serde_json::Result<Json> {
                match self { $( Self::$variant(record) => serde_json::to_value(record), )+ }
            }
        }

        fn run_schemas(definitions: &mut Definitions) -> Vec<Json> {
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

impl Step {
    /// Tells whether the step has a meaning only while services run.
    pub fn is_runtime_only(&self) -> bool {
        let contexts = &self.common.context;
        !contexts.is_empty() && contexts.iter().all(|context| context.value == StepContext::Runtime)
    }
}

impl FromYaml for Step {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let span = fields.head();
        let (intent, title) = take_intent(&mut fields, cx)?;
        let common = StepCommon::take(&mut fields, cx);
        let kind = match intent {
            Intent::Run => take_run(&mut fields, span, cx).map(|run| StepKind::Run(Box::new(run))),
            Intent::Check => CheckSpec::take(&mut fields, span, cx).map(|check| StepKind::Check(Box::new(check))),
            Intent::AgentRun | Intent::AgentCheck | Intent::Include => {
                let rest = fields.rest();
                let carried =
                    rest.iter().map(|(key, value)| (Spanned::new(key.text.to_string(), key.span), value.to_json()));
                Some(StepKind::Carried { intent, fields: carried.collect() })
            }
        };
        Some(Self { title: title?, common: common?, kind: kind? })
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let mut kinds = run_schemas(definitions);
        kinds.extend(CheckSpec::schemas(definitions));
        let agents = [Intent::AgentRun, Intent::AgentCheck, Intent::Include];
        kinds.push(step_schema(definitions, &agents, |_| {}, true));
        json!({"anyOf": kinds})
    }
}

/// Describes the steps of some intents that have these properties.
pub(super) fn step_schema(
    definitions: &mut Definitions,
    intents: &[Intent],
    properties: impl FnOnce(&mut Object<'_>),
    open: bool,
) -> Json {
    let mut object = Object::new(definitions);
    properties(&mut object);
    StepCommon::properties(&mut object);
    for intent in intents {
        object
            .properties
            .insert(intent.to_string(), json!({"type": "string", "description": "A sentence for people."}));
    }
    if let [intent] = intents {
        object.required.push(intent.as_str().into());
    }
    let mut schema = object.finish(open);
    if intents.len() > 1 {
        schema["anyOf"] = intents.iter().map(|intent| json!({"required": [intent.as_str()]})).collect();
    }
    schema
}

const INTENTS: [Intent; 5] = [Intent::Run, Intent::Check, Intent::AgentRun, Intent::AgentCheck, Intent::Include];

/// Takes the one key that says why the step is there. The sentence may be wrong where the intent is right.
fn take_intent(fields: &mut Fields<'_, '_>, cx: &mut Reader<'_>) -> Option<(Intent, Option<Spanned<String>>)> {
    let head = fields.head();
    let mut found = INTENTS.iter().filter_map(|intent| Some((*intent, fields.entry(&[intent.as_str()])?)));
    let first = found.next();
    let second = found.next();
    drop(found);
    match (first, second) {
        (Some((intent, (_, title))), None) => Some((intent, Spanned::read(title, cx))),
        (Some((_, (one, _))), Some((_, (two, _)))) => {
            let message = format!("a step has one intent, and this one has `{}` and `{}`", one.text, two.text);
            let finding = Diagnostic::error(message).at(cx.place(two.span)).related(cx.place(one.span), "first here");
            cx.push(finding.hint("make two steps of it"))
        }
        _ => {
            let words: Vec<_> = INTENTS.iter().map(|intent| intent.as_str()).collect();
            let rest = fields.rest();
            let hint = rest.iter().find_map(|(key, _)| suggestion(&key.text, words.iter().copied()));
            let hint = hint.unwrap_or_else(|| format!("say why it is there with one of {}", listing(&words)));
            cx.error(head, Problem::new("the step has no intent", hint))
        }
    }
}

fn take_run(fields: &mut Fields<'_, '_>, head: Span, cx: &mut Reader<'_>) -> Option<Run> {
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

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let (intent, keys) = match &self.kind {
            StepKind::Run(run) => (Intent::Run, run.to_json()),
            StepKind::Check(check) => (Intent::Check, check.to_json()),
            StepKind::Carried { intent, fields } => (*intent, serde_json::to_value(fields)),
        };
        let mut all = JsonMap::from_iter([(intent.to_string(), Json::from(self.title.as_str()))]);
        for part in [keys, serde_json::to_value(&self.common)] {
            if let Json::Object(part) = part.map_err(S::Error::custom)? {
                all.extend(part);
            }
        }
        all.serialize(serializer)
    }
}
