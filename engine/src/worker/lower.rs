//! From a step to the things it wants.

use std::collections::BTreeMap;

use charly_ir::message::{Manifest, Member, MemberKind};
use charly_ir::plan::{
    Action, BuilderKind, Content, CustomService, Download, Extract, Op, PackagedService, Placement, Repo, RepoSource,
    Shell, ShellHook, ShellSnippet, Step,
};
use charly_ir::{Digest, Text};

use super::WorkError;
use crate::caps::FileCaps;
use crate::ledger::{BlockState, Resource, State, StepKey, StepName, UnitState};
use crate::resource::{Source, Want, block};
use crate::tree::{self, Node};
use crate::venue::Venue;

/// Gives a secret's value and the digest that a ledger may hold of it.
pub(super) type Secrets<'a> = &'a dyn Fn(&str) -> Result<(Vec<u8>, Digest), WorkError>;

/// What a step comes down to on a venue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lowered {
    /// These things, in the order they are made.
    Wants(Vec<Want>),
    /// It cannot be told before the controller has fetched what the step places.
    NeedsManifest,
    /// This engine cannot carry it out, for this reason.
    Unsupported(String),
    /// Nothing is to be done for it when it is applied.
    Nothing,
    /// The venue is to be rebooted.
    Reboot,
}

/// Lowers a step. Whatever only the venue knows is resolved here.
pub(super) fn lower(
    venue: &Venue,
    owner: (u32, u32),
    key: &StepKey,
    step: &Step,
    manifest: Option<&Manifest>,
    secrets: Secrets<'_>,
) -> Result<Lowered, WorkError> {
    let context = Context { venue, owner, key, secrets };
    let wants = match &step.action {
        Action::Op(Op::Copy(file) | Op::Write(file)) | Action::File(file) => vec![context.file(file)?],
        Action::Op(Op::Mkdir { path, mode }) => vec![context.dir(context.path(path)?, *mode)],
        Action::Op(Op::Link { path, target }) => {
            let target = venue.resolve(target);
            vec![Want::new(Resource::Path(context.path(path)?), State::Node(Node::Link { target }))]
        }
        Action::Op(Op::Setcap { path, caps }) => {
            let caps = FileCaps::parse(caps).map_err(|error| WorkError::Plan(error.to_string()))?;
            let state = State::Caps(caps.map(|caps| crate::encoding::to_base64(&caps.to_bytes())));
            vec![Want::new(Resource::Caps(context.path(path)?), state)]
        }
        Action::Op(Op::Command(command)) => {
            let mut wants = context.leftovers(&command.uninstall)?;
            wants.push(Want::new(Resource::Command(context.name()), State::Ran(step.digest())));
            wants
        }
        Action::Op(Op::Download(download)) => match manifest {
            None => return Ok(Lowered::NeedsManifest),
            Some(manifest) => context.download(step, download, manifest)?,
        },
        Action::RepoChange(repo) => match context.repo(step, repo, manifest)? {
            None => return Ok(Lowered::NeedsManifest),
            Some(wants) => wants,
        },
        Action::SystemPackages(_) => {
            vec![Want::new(Resource::Packages(context.name()), State::Anything)]
        }
        Action::ServiceCustom(service) => context.custom_service(step, service)?,
        Action::ServicePackaged(service) => context.packaged_service(step, service)?,
        Action::ShellHook(hook) => context.shell_hook(hook)?,
        Action::ShellSnippet(snippet) => context.shell_snippet(snippet)?,
        Action::RemovalHook(_) => return Ok(Lowered::Nothing),
        Action::Reboot => return Ok(Lowered::Reboot),
        Action::Builder(builder) => match manifest {
            None => return Ok(Lowered::NeedsManifest),
            Some(manifest) => {
                let mut wants = context.members(&context.path(&builder.to)?, manifest)?;
                // What it places are packages, which are then installed.
                if builder.kind == BuilderKind::Aur {
                    wants.push(Want::new(Resource::Packages(context.name()), State::Anything));
                }
                wants
            }
        },
        Action::Unsupported { what, reason } => return Ok(Lowered::Unsupported(format!("{what}: {reason}"))),
    };
    Ok(Lowered::Wants(wants))
}

struct Context<'a> {
    venue: &'a Venue,
    owner: (u32, u32),
    key: &'a StepKey,
    secrets: Secrets<'a>,
}

impl Context<'_> {
    fn name(&self) -> StepName {
        let StepKey { deploy, candy, step } = self.key.clone();
        StepName { deploy, candy, step }
    }

    fn path(&self, path: &Text) -> Result<String, WorkError> {
        let resolved = self.venue.resolve(path);
        let trimmed = if resolved.len() > 1 { resolved.trim_end_matches('/') } else { &resolved };
        if tree::is_ownable(trimmed) {
            return Ok(trimmed.to_owned());
        }
        Err(WorkError::Plan(format!("`{resolved}` is not an absolute, normalized path")))
    }

    fn file(&self, file: &Placement) -> Result<Want, WorkError> {
        let path = self.path(&file.path)?;
        let (digest, size, source) = match &file.content {
            Content::Text(text) => {
                let bytes = self.venue.resolve(text).into_bytes();
                (Digest::of(&bytes), bytes.len() as u64, Source::Bytes(bytes))
            }
            Content::Blob { digest, size } => (*digest, *size, Source::Blob { digest: *digest, size: *size }),
            Content::Secret(name) => {
                let (bytes, keyed) = (self.secrets)(name)?;
                let (uid, gid) = self.owner;
                let state = State::Secret { keyed, mode: file.mode & 0o700, uid, gid };
                return Ok(Want { resource: Resource::Path(path), state, source: Source::Bytes(bytes) });
            }
        };
        Ok(self.file_want(path, digest, size, file.mode, source))
    }

    fn file_want(&self, path: String, digest: Digest, size: u64, mode: u32, source: Source) -> Want {
        let (uid, gid) = self.owner;
        let node = Node::File { digest, size, mode, uid, gid, xattrs: BTreeMap::new(), mtime_ns: None };
        Want { resource: Resource::Path(path), state: State::Node(node), source }
    }

    fn text(&self, path: String, mode: u32, text: String) -> Want {
        let bytes = text.into_bytes();
        self.file_want(path, Digest::of(&bytes), bytes.len() as u64, mode, Source::Bytes(bytes))
    }

    fn dir(&self, path: String, mode: u32) -> Want {
        let (uid, gid) = self.owner;
        Want::new(Resource::Path(path), State::Node(Node::Dir { mode, uid, gid }))
    }

    /// The paths that a step's own program leaves behind and that go when it is undone.
    fn leftovers(&self, paths: &[Text]) -> Result<Vec<Want>, WorkError> {
        let paths = paths.iter().map(|path| self.path(path));
        paths.map(|path| Ok(Want::new(Resource::Path(path?), State::Anything))).collect()
    }

    fn download(&self, step: &Step, download: &Download, manifest: &Manifest) -> Result<Vec<Want>, WorkError> {
        if download.extract == Extract::Sh {
            let mut wants = self.leftovers(&download.uninstall)?;
            let mut ran = Want::new(Resource::Command(self.name()), State::Ran(step.digest()));
            if let [member] = manifest.members.as_slice()
                && let MemberKind::File { digest, size, .. } = member.kind
            {
                ran.source = Source::Blob { digest, size };
            }
            wants.push(ran);
            return Ok(wants);
        }
        let base = self.path(&download.to)?;
        let mut wants = self.members(&base, manifest)?;
        wants.extend(
            self.leftovers(&download.uninstall)?
                .into_iter()
                .filter(|leftover| {
                    // What the manifest places is known exactly, and that is more than `uninstall` could say.
                    !wants.iter().any(|want| want.resource == leftover.resource)
                })
                .collect::<Vec<_>>(),
        );
        Ok(wants)
    }

    fn members(&self, base: &str, manifest: &Manifest) -> Result<Vec<Want>, WorkError> {
        let place = |path: &str| {
            let path = if path.is_empty() { base.to_owned() } else { format!("{base}/{path}") };
            if tree::is_ownable(&path) { Ok(path) } else { Err(WorkError::Plan(format!("`{path}` is not a path"))) }
        };
        let mut wants = Vec::with_capacity(manifest.members.len());
        for member in &manifest.members {
            let path = place(&member.path)?;
            wants.push(match &member.kind {
                MemberKind::File { digest, size, mode } => {
                    self.file_want(path, *digest, *size, *mode, Source::Blob { digest: *digest, size: *size })
                }
                // A folder that is there already is not the archive's to change.
                MemberKind::Dir { .. } if self.venue.root.is_folder(&path) => continue,
                MemberKind::Dir { mode } => self.dir(path, *mode),
                MemberKind::Link { target } => {
                    Want::new(Resource::Path(path), State::Node(Node::Link { target: target.clone() }))
                }
            });
        }
        Ok(wants)
    }

    fn repo(&self, step: &Step, repo: &Repo, manifest: Option<&Manifest>) -> Result<Option<Vec<Want>>, WorkError> {
        let fetched = |name: &str, path: &Text| {
            let member = manifest.and_then(|manifest| manifest.members.iter().find(|member| member.path == name));
            let MemberKind::File { digest, size, .. } = member?.kind else { return None };
            let source = Source::Blob { digest, size };
            Some(self.path(path).map(|path| self.file_want(path, digest, size, 0o644, source)))
        };
        let (config, key) = match &repo.source {
            RepoSource::Written { file, key } => (Some(self.file(file)?), key),
            RepoSource::Fetched { url: _, path, key } => (fetched(Member::REPO_FILE, path).transpose()?, key),
            RepoSource::Copr { path, .. } => {
                let mut wants = self.leftovers(std::slice::from_ref(path))?;
                wants.push(Want::new(Resource::Command(self.name()), State::Ran(step.digest())));
                return Ok(Some(wants));
            }
            RepoSource::Package { .. } => {
                return Ok(Some(vec![Want::new(Resource::Packages(self.name()), State::Anything)]));
            }
        };
        let key = match key {
            None => None,
            Some(key) => match fetched(Member::REPO_KEY, &key.path).transpose()? {
                None => return Ok(None),
                key => key,
            },
        };
        // The key before what is trusted by it.
        Ok(config.map(|config| key.into_iter().chain([config]).collect()))
    }

    fn custom_service(&self, step: &Step, service: &CustomService) -> Result<Vec<Want>, WorkError> {
        let mut wants = vec![self.file(&service.file)?];
        if service.enable {
            wants.extend(self.unit(step, &service.unit, true)?);
        }
        Ok(wants)
    }

    fn packaged_service(&self, step: &Step, service: &PackagedService) -> Result<Vec<Want>, WorkError> {
        let mut wants = Vec::new();
        if let Some(drop_in) = &service.drop_in {
            wants.push(self.file(drop_in)?);
        }
        if let Some(enable) = service.enable {
            wants.extend(self.unit(step, &service.unit, enable)?);
        }
        Ok(wants)
    }

    fn unit(&self, step: &Step, unit: &str, on: bool) -> Result<Vec<Want>, WorkError> {
        if !crate::ledger::is_unit_name(unit) {
            return Err(WorkError::Plan(format!("`{unit}` is not a unit's name")));
        }
        let user = !step.scope.is_system();
        let state = State::Unit(UnitState { exists: true, enabled: on, active: on });
        let unit = Want::new(Resource::Unit { user, name: unit.to_owned() }, state);
        if !user || !on {
            return Ok(vec![unit]);
        }
        let linger = Resource::Linger(self.venue.facts.user.name.clone());
        Ok(vec![Want::new(linger, State::On(true)), unit])
    }

    fn shell_hook(&self, hook: &ShellHook) -> Result<Vec<Want>, WorkError> {
        let shell = login_shell(&self.venue.facts.user.shell);
        let folder = format!("{}/.config/opencharly/env.d", self.venue.home());
        let candy = &self.key.candy;
        let tokens = self.venue.tokens();
        let mut wants = vec![self.text(format!("{folder}/{candy}.env"), 0o644, hook.posix(&tokens))];
        if shell == Shell::Fish {
            wants.push(self.text(format!("{folder}/{candy}.fish"), 0o644, hook.fish(&tokens)));
        }
        let (rc, text) = match shell {
            Shell::Bash => (".bashrc", SOURCE_POSIX),
            Shell::Zsh => (".zshenv", SOURCE_POSIX),
            Shell::Fish => (".config/fish/conf.d/opencharly.fish", SOURCE_FISH),
            Shell::Sh => (".profile", SOURCE_POSIX),
        };
        wants.push(self.block(rc, "env.d", text)?);
        Ok(wants)
    }

    fn shell_snippet(&self, snippet: &ShellSnippet) -> Result<Vec<Want>, WorkError> {
        let login = login_shell(&self.venue.facts.user.shell) == snippet.shell;
        if !login && !self.has_shell(snippet.shell) {
            return Ok(Vec::new());
        }
        let text = self.venue.resolve(&snippet.snippet);
        let candy = &self.key.candy;
        let rc = match snippet.shell {
            Shell::Bash => ".bashrc",
            Shell::Zsh => ".zshrc",
            Shell::Sh => ".profile",
            Shell::Fish => {
                let path = format!("{}/.config/fish/conf.d/charly-{candy}.fish", self.venue.home());
                let end = if text.ends_with('\n') { "" } else { "\n" };
                return Ok(vec![self.text(path, 0o644, format!("{text}{end}"))]);
            }
        };
        Ok(vec![self.block(rc, candy, &text)?])
    }

    fn has_shell(&self, shell: Shell) -> bool {
        let program = match shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
            Shell::Sh => return true,
        };
        let places = ["/usr/bin", "/bin", "/usr/local/bin"];
        places.iter().any(|folder| self.venue.root.outside(&format!("{folder}/{program}")).exists())
    }

    fn block(&self, rc: &str, tag: &str, text: &str) -> Result<Want, WorkError> {
        let path = block::real_path(self.venue, &format!("{}/{rc}", self.venue.home()))?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let state = State::Block(BlockState::Text(format!("{text}{end}")));
        Ok(Want::new(Resource::Block { path, tag: tag.to_owned() }, state))
    }
}

/// Sources every candy's variables; a folder without any is no error in any of the shells that read this.
const SOURCE_POSIX: &str = r#"for charly_env in "$HOME"/.config/opencharly/env.d/*.env; do
  [ -r "$charly_env" ] && . "$charly_env"
done
unset charly_env
"#;

const SOURCE_FISH: &str = r"for charly_env in ~/.config/opencharly/env.d/*.fish
  source $charly_env
end
";

/// Tells which shell a login shell's path is.
fn login_shell(path: &str) -> Shell {
    match path.rsplit('/').next() {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => Shell::Sh,
    }
}
