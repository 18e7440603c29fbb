//! What a candy does and asserts, one step at a time.

use serde::{Serialize, Serializer};
use serde_json::{Map as JsonMap, Value as Json, json};

use super::check::CheckSpec;
use super::matcher::Texts;
use super::run::{Run, run_schemas, take_run};
use crate::diagnostic::{Diagnostic, suggestion};
use crate::read::schema::Object;
use crate::read::{Definitions, Fields, FromYaml, Map, Problem, Reader, Spanned, choice, listing, record};
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
