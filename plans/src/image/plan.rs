//! A plan for a host, turned into one for an image.

use std::collections::BTreeMap;

use charly_ir::facts::User;
use charly_ir::plan::{
    Action, CandyPlan, Command, Content, CustomService, InstallPlan, Op, Phase, Placement, Scope, Shell, ShellHook,
    ShellSnippet, Step, Venue,
};
use charly_ir::text::Tokens;
use charly_ir::{STANDARD_PATH, Text};
use serde_json::json;

use crate::compile::Supervisor;
use crate::compile::supervisord::PROGRAMS;
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A plan for an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// The plan: without tokens, and with no step on behalf of a user who is not named.
    pub plan: InstallPlan,
    /// The variables that every process of a container has.
    pub env: BTreeMap<String, String>,
    /// The folders that are appended to its PATH.
    pub path: Vec<String>,
    /// What is left to whoever runs a container.
    pub notes: Vec<String>,
}

/// Where the file lies that an image's supervisord starts with.
pub const SUPERVISORD: &str = "/etc/charly/supervisord.conf";

/// Turns a plan for a host into one for an image whose user is known.
///
/// What needs a running machine is left out: reboots, hooks around services, the start of a unit. What runs leaves a mark, by
/// which a later deploy in a machine made of the image knows that it ran. What a host keeps in rc files stands in `/etc/profile.d`, and in the variables of the image. `path` has the folders that the base appended to PATH.
pub fn for_image(
    plan: InstallPlan,
    user: &User,
    supervisor: Supervisor,
    path: Vec<String>,
) -> Result<ImagePlan, Diagnostics> {
    let InstallPlan { format, os, arch, candies } = plan;
    let tokens = user.tokens();
    let mut image = ImagePlan {
        plan: InstallPlan { format, os, arch, candies: Vec::with_capacity(candies.len()) },
        env: BTreeMap::new(),
        path,
        notes: Vec::new(),
    };
    let mut found = Diagnostics::default();
    for mut candy in candies {
        let steps = std::mem::take(&mut candy.steps);
        // A command finds what the candies before its own brought, as it does on a host.
        let before = std::iter::once(STANDARD_PATH.to_owned()).chain(image.path.iter().cloned());
        let path = (!image.path.is_empty()).then(|| before.collect::<Vec<_>>().join(":"));
        let mut cx = Context { tokens: &tokens, user, supervisor, path, image: &mut image, candy, found: &mut found };
        for step in steps {
            cx.convert(step);
        }
        let candy = cx.candy;
        image.plan.candies.push(candy);
    }
    if supervisor == Supervisor::Supervisord {
        image.plan.candies.push(supervisord());
    }
    if found.has_errors() { Err(found) } else { Ok(image) }
}

struct Context<'a> {
    tokens: &'a Tokens,
    user: &'a User,
    supervisor: Supervisor,
    /// PATH for commands, where it is more than the standard one.
    path: Option<String>,
    image: &'a mut ImagePlan,
    candy: CandyPlan,
    found: &'a mut Diagnostics,
}

impl Context<'_> {
    fn convert(&mut self, step: Step) {
        let mark = step.runs().then(|| step.mark_in_image(self.user.uid));
        let before = self.candy.steps.len();
        self.convert_unmarked(step);
        if let (Some(path), Some(ran)) = (mark, self.candy.steps[before..].last().cloned()) {
            self.file(&ran, format!("ran:{}", ran.id), path, String::new());
        }
    }

    fn convert_unmarked(&mut self, step: Step) {
        let Step { id, title, scope, venue, gate, phase, action } = step;
        let scope = match scope {
            // Whoever owns an image's files is known by number: names may be added later.
            Scope::User | Scope::UserProfile if self.user.uid != 0 => {
                Scope::Other(format!("{}:{}", self.user.uid, self.user.gid))
            }
            Scope::User | Scope::UserProfile => Scope::System,
            scope => scope,
        };
        let action = action.resolve(self.tokens);
        if let Some(Content::Secret(name)) = action.placement().map(|file| &file.content) {
            let finding = Diagnostic::error(format!(
                "`{id}` of the candy `{}` would write the secret `{name}` into the image",
                self.candy.name
            ));
            self.found.push(finding.hint("everybody who has an image has all of it; give secrets to its containers"));
            return;
        }
        if let Action::File(_) | Action::Op(Op::Copy(_) | Op::Write(_) | Op::Mkdir { .. } | Op::Link { .. }) = action {
            // Of most plans that is nearly all, and nothing more becomes of it.
            return self.candy.steps.push(Step { id, title, scope, venue, gate, phase, action });
        }
        let step = Step { id, title, scope, venue, gate, phase, action };
        match step.action.clone() {
            Action::ShellHook(hook) => self.shell_hook(&step, &hook),
            Action::ShellSnippet(snippet) => self.shell_snippet(&step, &snippet),
            Action::ServiceCustom(service) => self.custom_service(&step, service),
            Action::ServicePackaged(service) if self.supervisor != Supervisor::Systemd => {
                self.note(&format!("no systemd runs in the image: `{}` is not enabled", service.unit));
            }
            Action::RemovalHook(body) => self.hook("pre_remove", &body),
            Action::Op(Op::Command(body)) if step.phase == Phase::Finish => self.hook("post_enable", &body),
            Action::Op(Op::Command(mut body)) => {
                if let Some(path) = &self.path {
                    body.env.entry("PATH".to_owned()).or_insert_with(|| Text::new(path.clone()));
                }
                self.candy.steps.push(Step { action: Action::Op(Op::Command(body)), ..step });
            }
            Action::Unsupported { what, reason } => self.note(&format!("{what}: {reason}")),
            Action::Reboot => {}
            _ => self.candy.steps.push(step),
        }
    }

    fn note(&mut self, text: &str) {
        let candy = &self.candy.name;
        self.image.notes.push(format!("{candy}: {text}"));
    }

    /// Keeps a hook for whoever runs a container.
    fn hook(&mut self, name: &str, body: &Command) {
        let hooks = self.candy.runtime.entry("hook".to_owned()).or_insert_with(|| json!({}));
        if let Some(hooks) = hooks.as_object_mut() {
            hooks.insert(name.to_owned(), json!(body.body));
        }
    }

    fn push(&mut self, step: &Step, id: String, scope: Scope, action: Action) {
        let title = step.title.clone();
        let (venue, gate, phase) = (Venue::HostNative, step.gate, step.phase);
        self.candy.steps.push(Step { id, title, scope, venue, gate, phase, action });
    }

    fn file(&mut self, step: &Step, id: String, path: String, text: String) {
        let file = Placement { path: Text::new(path), mode: 0o644, content: Content::Text(Text::new(text)) };
        self.push(step, id, Scope::System, Action::File(file));
    }

    fn shell_hook(&mut self, step: &Step, hook: &ShellHook) {
        let resolved = |text: &Text| text.resolve(self.tokens);
        self.image.env.extend(hook.env.iter().map(|(name, value)| (name.clone(), resolved(value))));
        for folder in hook.path_append.iter().map(resolved) {
            if !self.image.path.contains(&folder) {
                self.image.path.push(folder);
            }
        }
        // A login shell's /etc/profile sets PATH anew, so the image's own variables alone would not do.
        let path = format!("/etc/profile.d/charly-{}.sh", self.candy.name);
        self.file(step, step.id.clone(), path, hook.posix(self.tokens));
    }

    fn shell_snippet(&mut self, step: &Step, ShellSnippet { shell, snippet, .. }: &ShellSnippet) {
        let (candy, body) = (&self.candy.name, snippet.as_str().trim_end());
        // Every POSIX shell reads that folder; a snippet is for one of them.
        let guarded = |name: &str, variable: &str| {
            let path = format!("/etc/profile.d/charly-{candy}-{name}.sh");
            (path, format!("if [ -n \"${{{variable}:-}}\" ]; then\n{body}\nfi\n"))
        };
        let (path, text) = match shell {
            Shell::Bash => guarded("bash", "BASH_VERSION"),
            Shell::Zsh => guarded("zsh", "ZSH_VERSION"),
            Shell::Sh => (format!("/etc/profile.d/charly-{candy}-sh.sh"), format!("{body}\n")),
            Shell::Fish => (format!("/etc/fish/conf.d/charly-{candy}.fish"), format!("{body}\n")),
        };
        self.file(step, step.id.clone(), path, text);
    }

    /// Writes the unit and the links that `systemctl enable` would make: nothing need run for them.
    fn custom_service(&mut self, step: &Step, CustomService { unit, file, enable }: CustomService) {
        let (path, text) = (file.path.as_str().to_owned(), file.content.clone());
        self.push(step, step.id.clone(), step.scope.clone(), Action::File(file));
        let (true, Content::Text(text), Some((folder, _))) = (enable, text, path.rsplit_once('/')) else { return };
        let wanted = text.as_str().lines().filter_map(|line| line.strip_prefix("WantedBy="));
        for target in wanted.flat_map(str::split_whitespace) {
            let link = Op::Link {
                path: Text::new(format!("{folder}/{target}.wants/{unit}")),
                target: Text::new(path.clone()),
            };
            self.push(step, format!("enable:{unit}:{target}"), step.scope.clone(), Action::Op(link));
        }
        if let Scope::Other(_) = step.scope {
            let linger = Placement {
                path: Text::new(format!("/var/lib/systemd/linger/{}", self.user.name)),
                mode: 0o644,
                content: Content::Text(Text::default()),
            };
            self.push(step, format!("linger:{unit}"), Scope::System, Action::File(linger));
        }
    }
}

/// Returns what supervisord starts with, as the last thing of an image.
fn supervisord() -> CandyPlan {
    let text = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=/tmp/supervisord.pid\n\n\
         [unix_http_server]\nfile=/tmp/supervisor.sock\nchmod=0700\n\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n\
         [supervisorctl]\nserverurl=unix:///tmp/supervisor.sock\n\n\
         [include]\nfiles={PROGRAMS}/*.conf\n"
    );
    let file = Placement { path: SUPERVISORD.into(), mode: 0o644, content: Content::Text(Text::new(text)) };
    let step = Step {
        id: "supervisord".into(),
        title: "what supervisord starts with".into(),
        scope: Scope::System,
        venue: Venue::HostNative,
        gate: None,
        phase: Phase::Services,
        action: Action::File(file),
    };
    CandyPlan {
        name: "charly-supervisord".into(),
        version: "2026.001.0000".into(),
        summary: "What supervisord starts with".into(),
        requires: Vec::new(),
        steps: vec![step],
        checks: Vec::new(),
        artifacts: Vec::new(),
        secrets: std::collections::BTreeSet::new(),
        runtime: BTreeMap::new(),
    }
}
