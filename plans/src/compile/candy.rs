//! One candy, compiled: the state that all its parts share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use charly_ir::facts::Facts;
use charly_ir::plan::Venue as StepVenue;
use charly_ir::plan::{Action, CandyPlan, Command, Gate, Phase, Scope, Step};
use charly_ir::{Digest, Text};

use super::distro::Names;
use super::expand::{self, Variables};
use super::services::Units;
use super::{Options, carried, checks, packages, repos, services, shell, steps};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::load::{Blob, LoadedCandy};
use crate::read::Problem;
use crate::resolve::{Resolved, ResolvedCandy};
use crate::schema::{Candy, Requirement, Spanned};
use crate::source::Span;

/// What all candies of a compilation share.
pub(super) struct Venue<'a> {
    pub(super) facts: &'a Facts,
    pub(super) options: &'a Options,
    pub(super) names: Names,
    pub(super) units: Units,
    /// Every variable that some candy exports.
    exported: BTreeSet<&'a str>,
}

/// One candy being compiled.
pub(super) struct Context<'a> {
    pub(super) venue: &'a Venue<'a>,
    pub(super) resolved: &'a ResolvedCandy,
    pub(super) loaded: &'a LoadedCandy,
    pub(super) candy: &'a Candy,
    pub(super) variables: Variables<'a>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
    /// Values for the variables that the candy requires or accepts.
    pub(super) given: BTreeMap<String, Text>,
    /// Secrets for the candy's commands: variable and secret.
    pub(super) secrets: BTreeMap<String, String>,
    /// Folders of programs that builders bring.
    pub(super) built: Vec<Text>,
    found: Diagnostics,
    steps: Vec<Step>,
    /// How often each id was asked for.
    ids: HashMap<String, usize>,
}

impl<'a> Venue<'a> {
    pub(super) fn new(facts: &'a Facts, options: &'a Options, resolved: &'a Resolved) -> Self {
        let exported = resolved.candies.iter().flat_map(|candy| candy.loaded.candy.env.iter());
        Self {
            facts,
            options,
            names: Names::of(facts),
            units: Units::of(resolved),
            exported: exported.map(|(name, _)| name.as_str()).collect(),
        }
    }
}

/// Compiles a candy.
pub(super) fn compile<'a>(
    resolved: &'a ResolvedCandy,
    venue: &'a Venue<'a>,
) -> (CandyPlan, BTreeMap<Digest, Blob>, Diagnostics) {
    let loaded = &*resolved.loaded;
    let candy = &loaded.candy;
    let mut cx = Context {
        venue,
        resolved,
        loaded,
        candy,
        variables: Variables::of(loaded, &venue.facts.arch),
        blobs: BTreeMap::new(),
        given: BTreeMap::new(),
        secrets: BTreeMap::new(),
        built: Vec::new(),
        found: Diagnostics::default(),
        steps: Vec::new(),
        ids: HashMap::new(),
    };
    cx.meet_requirements();
    repos::compile(&mut cx);
    packages::compile(&mut cx);
    steps::compile(&mut cx);
    shell::compile(&mut cx);
    services::compile(&mut cx);
    carried::compile_unsupported(&mut cx);
    cx.compile_hooks();
    if candy.reboot {
        cx.add("reboot", "reboot", Scope::System, None, Phase::Finish, Action::Reboot);
    }
    let checks = checks::compile(&mut cx);
    let artifacts = carried::artifacts(&mut cx);
    let Context { mut steps, blobs, found, .. } = cx;
    // Within a phase the author's order stands.
    steps.sort_by_key(|step| step.phase);
    let secrets = steps.iter().flat_map(carried::secrets_of).collect();
    let mut requires: Vec<_> = resolved.needs().map(str::to_owned).collect();
    requires.sort();
    requires.dedup();
    let plan = CandyPlan {
        name: loaded.name().to_owned(),
        version: candy.version.to_string(),
        summary: candy.summary().to_owned(),
        requires,
        steps,
        checks,
        artifacts,
        secrets,
        runtime: carried::runtime(candy),
    };
    (plan, blobs, found)
}

impl Context<'_> {
    /// Adds a step under an id made unique within the candy.
    pub(super) fn add(
        &mut self,
        id: &str,
        title: &str,
        scope: Scope,
        gate: Option<Gate>,
        phase: Phase,
        action: Action,
    ) {
        let id = self.unique(id);
        let title = title.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        let venue = match action {
            Action::Builder(_) => StepVenue::ContainerBuilder,
            Action::Unsupported { .. } => StepVenue::Skip,
            _ => StepVenue::HostNative,
        };
        self.steps.push(Step { id, title, scope, venue, gate, phase, action });
    }

    /// Returns the id, with a number where it is taken.
    pub(super) fn unique(&mut self, id: &str) -> String {
        let mut unique = id.to_owned();
        while let Some(taken) = self.ids.get_mut(&unique) {
            *taken += 1;
            unique = format!("{id}#{taken}");
        }
        self.ids.insert(unique.clone(), 1);
        unique
    }

    pub(super) fn error(&mut self, span: Span, problem: impl Into<Problem>) {
        let Problem { message, hint } = problem.into();
        let finding = Diagnostic { hint, ..Diagnostic::error(message).at(self.loaded.place(span)) };
        self.found.push(finding);
    }

    pub(super) fn warning(&mut self, span: Span, problem: impl Into<Problem>) {
        let Problem { message, hint } = problem.into();
        let finding = Diagnostic { hint, ..Diagnostic::warning(message).at(self.loaded.place(span)) };
        self.found.push(finding);
    }

    /// Refuses what the venue cannot take; or carries it as a step without effect, where that is wanted.
    pub(super) fn incompatible(&mut self, what: &str, span: Span, problem: Problem) {
        if self.venue.options.skip_incompatible {
            self.unsupported(what, &problem.message);
        } else {
            self.error(span, problem);
        }
    }

    /// Carries something that no engine does here.
    pub(super) fn unsupported(&mut self, what: &str, reason: &str) {
        let action = Action::Unsupported { what: what.to_owned(), reason: reason.to_owned() };
        self.add(&format!("unsupported:{what}"), reason, Scope::System, None, Phase::Configure, action);
    }

    /// Replaces the variables in a field. Mistakes are found at the very variable.
    pub(super) fn expand(&mut self, field: &Spanned<String>) -> Option<Spanned<String>> {
        match self.variables.expand(field) {
            Ok(text) => Some(Spanned::new(text, field.span)),
            Err((range, problem)) => {
                self.error(expand::part_of(self.loaded, field, range), problem);
                None
            }
        }
    }

    /// Reads a field as a path.
    pub(super) fn path(&mut self, field: &Spanned<String>) -> Option<Text> {
        let text = self.expand(field)?;
        match expand::path(&text) {
            Ok(path) => Some(Text::new(path)),
            Err(problem) => {
                self.error(field.span, problem);
                None
            }
        }
    }

    /// Reads fields as paths.
    pub(super) fn paths(&mut self, fields: &[Spanned<String>]) -> Vec<Text> {
        fields.iter().filter_map(|field| self.path(field)).collect()
    }

    /// Returns the values and secrets of what the candy requires and accepts, or says what is missing.
    fn meet_requirements(&mut self) {
        let candy = self.candy;
        let demanded = candy.env_require.iter().map(|need| (need, true));
        for (need, demanded) in demanded.chain(candy.env_accept.iter().map(|need| (need, false))) {
            let Requirement { name, description, default, .. } = &need.value;
            let value = self.venue.options.env.get(&name.value).or(default.as_ref().map(|value| &value.value));
            match value {
                Some(value) => {
                    self.given.insert(name.value.clone(), expand::home_in_value(value));
                }
                None if demanded && !self.venue.exported.contains(name.as_str()) => {
                    let message = missing("variable", name, description.as_deref());
                    let hint = format!("give it with `-e {}=…`, or for good in the deploy's `env`", name.value);
                    self.error(name.span, Problem::new(message, hint));
                }
                None => {}
            }
        }
        let demanded = candy.secret_require.iter().map(|need| (need, true));
        for (need, demanded) in demanded.chain(candy.secret_accept.iter().map(|need| (need, false))) {
            let Requirement { name, description, key, .. } = &need.value;
            let secret = key.as_ref().map_or(&name.value, |key| &key.value);
            if [secret, &name.value].iter().any(|known| self.venue.options.secrets.contains(*known)) {
                self.secrets.insert(name.value.clone(), secret.clone());
            } else if demanded {
                let message = missing("secret", name, description.as_deref());
                self.error(name.span, Problem::new(message, secret_hint(secret)));
            }
        }
    }

    /// Hooks run for the candy's services, so as whoever runs the first of them.
    fn compile_hooks(&mut self) {
        let Some(hook) = &self.candy.hook else { return };
        let scope = self.candy.service.first().map_or(Scope::System, |service| services::scope(service));
        let gate = (scope == Scope::System).then_some(Gate::AllowRootTasks);
        let command = |cx: &Self, body: &Spanned<String>| Command {
            body: body.value.clone(),
            env: cx.given.clone(),
            secrets: cx.secrets.clone(),
            uninstall: Vec::new(),
            creates: Vec::new(),
            timeout_s: None,
        };
        if let Some(body) = &hook.post_enable {
            let action = Action::Op(charly_ir::plan::Op::Command(command(self, body)));
            self.add(
                "hook:post-enable",
                "run the hook after services are enabled",
                scope.clone(),
                gate,
                Phase::Finish,
                action,
            );
        }
        if let Some(body) = &hook.pre_remove {
            let action = Action::RemovalHook(command(self, body));
            self.add("hook:pre-remove", "keep the hook for before the removal", scope, gate, Phase::Finish, action);
        }
    }
}

/// Says how a secret is given.
pub(super) fn secret_hint(name: &str) -> String {
    format!("give it with `--secret {name}=env:VARIABLE` or `=file:PATH`, or for good in the deploy's `secret`")
}

fn missing(what: &str, name: &str, description: Option<&str>) -> String {
    match description {
        Some(description) => format!("nobody gives the {what} `{name}`: {description}"),
        None => format!("nobody gives the {what} `{name}`"),
    }
}

/// Returns a word made of a sentence, for an id that people can type.
pub(super) fn slug(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if out.len() >= 40 {
            break;
        }
        match letter {
            letter if letter.is_ascii_alphanumeric() => out.push(letter.to_ascii_lowercase()),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.trim_end_matches('-').to_owned()
}
