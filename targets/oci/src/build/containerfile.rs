//! The same image as a Containerfile and its context, for people whose pipeline wants one.
//!
//! What only places files goes over as an archive a run of steps, which `ADD` unpacks with its owners and modes; an author's
//! body goes over as a file of its own, which is mounted where it runs and is in no layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::num::NonZero;
use std::path::Path;

use charly_ir::facts::{PackageManager, User};
use charly_ir::plan::{Action, CandyPlan, Command, Extract, InstallPlan, Op, Packages, Scope, Step};
use charly_ir::{STANDARD_PATH, asked_interpreter};
use charly_target_core::Supply;
use oci_spec::image::Config;

use super::plain::{self, PlaceError, Source};
use super::root::Root;
use super::{Accounts, Blueprint, BuildError, config, epoch_of};
use crate::layer::{Compression, Entry, LayerWriter, Tree};
use crate::store::Store;

/// charly sets capabilities itself; whoever builds by a Containerfile needs a program for it, which small bases lack.
const SETCAP: &str = "command -v setcap >/dev/null || { echo 'the base lacks setcap: Debian has it in libcap2-bin, Alpine in libcap-setcap' >&2; exit 1; }; setcap";

/// Where an author's body is while it runs.
const BODY: &str = "/run/charly-body";

/// Writes the Containerfile and context of an image into a folder, which is there and empty. `from` names the base for those
/// who build it; where that is nothing, the base's own layers go into the context.
pub fn generate(
    store: &Store,
    blueprint: &Blueprint<'_>,
    from: Option<&str>,
    epoch: Option<u64>,
    folder: &Path,
) -> Result<(), BuildError> {
    let layers = blueprint.base.map(|base| store.layers(base)).transpose()?.unwrap_or_default();
    let mut root = Root::new(store, layers);
    let mut cx = Context {
        folder,
        text: "# Written by charly; `charly box build` makes the same image without it.\n".to_owned(),
        number: 0,
        accounts: root.accounts()?,
        tree: root.take_tree()?,
    };
    match (from, root.layers.is_empty()) {
        // The base's own user may not do what the steps do.
        (Some(from), _) => cx.line(&format!("FROM {from}\nUSER 0:0")),
        (None, true) => cx.line("FROM scratch"),
        (None, false) => {
            // What a layer takes away means nothing to `ADD`: it is given what is left of all of them.
            let path = folder.join("base.tar");
            let file = File::create(&path).map_err(|source| BuildError::Context { path, source })?;
            store.merge_into(&root.layers, true, LayerWriter::new(file, Compression::None, NonZero::<usize>::MIN))?;
            cx.line("FROM scratch\nADD base.tar /");
        }
    }
    for (candy, _) in blueprint.candies().filter(|(_, lacking)| lacking.is_some()) {
        let InstallPlan { format, os, arch, .. } = blueprint.plan;
        let plan = InstallPlan { format: *format, os: os.clone(), arch: arch.clone(), candies: vec![candy.clone()] };
        let mut supply = (blueprint.supply)(&plan);
        let epoch = epoch.or_else(|| epoch_of(&candy.version)).unwrap_or_default();
        cx.candy(candy, epoch, &mut *supply)?;
    }
    let before = blueprint.base.and_then(|base| base.config.config().clone());
    cx.configuration(&config::run_time(before.as_ref(), &blueprint.wanted)?);
    let path = folder.join("Containerfile");
    fs::write(&path, &cx.text).map_err(|source| BuildError::Context { path, source })
}

struct Context<'a> {
    folder: &'a Path,
    text: String,
    /// How many files there are in the context.
    number: usize,
    accounts: Accounts,
    tree: Tree,
}

impl Context<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn name(&mut self, candy: &str, extension: &str) -> String {
        self.number += 1;
        format!("{:02}-{candy}.{extension}", self.number)
    }

    fn candy(&mut self, candy: &CandyPlan, epoch: u64, supply: &mut dyn Supply) -> Result<(), BuildError> {
        if candy.steps.is_empty() {
            return Ok(());
        }
        let _ = write!(self.text, "\n# {}: {}\n", candy.name, candy.summary.replace('\n', " "));
        let mut at = 0;
        while at < candy.steps.len() {
            let run = candy.steps[at..].iter().take_while(|step| plain::is_plain_step(step, &self.accounts)).count();
            if run > 0 {
                self.files(candy, at..at + run, epoch, supply)?;
                at += run;
            } else {
                self.step(candy, &candy.steps[at], u32::try_from(at).unwrap_or(u32::MAX), supply)?;
                at += 1;
            }
        }
        Ok(())
    }

    fn files(
        &mut self,
        candy: &CandyPlan,
        steps: std::ops::Range<usize>,
        epoch: u64,
        supply: &mut dyn Supply,
    ) -> Result<(), BuildError> {
        let place = |source| BuildError::Place { candy: candy.name.clone(), source };
        let entries = plain::place_some(candy, steps, &mut self.tree, &self.accounts, supply, epoch).map_err(place)?;
        for (entry, source) in &entries {
            // Whoever is added may be run as.
            if let ("etc/passwd", Source::Text(text)) = (entry.path.as_str(), source) {
                self.accounts.passwd.clone_from(text);
            }
        }
        let name = self.name(&candy.name, "tar");
        let path = self.folder.join(&name);
        let file = File::create(&path).map_err(|source| BuildError::Context { path, source })?;
        let mut writer = LayerWriter::new(file, Compression::None, NonZero::<usize>::MIN);
        for (entry, source) in &entries {
            append(&mut writer, entry, source, supply).map_err(|error| match error {
                Ok(problem) => place(problem),
                Err(error) => error.into(),
            })?;
        }
        writer.finish()?;
        self.line(&format!("ADD {name} /"));
        Ok(())
    }

    fn step(&mut self, candy: &CandyPlan, step: &Step, index: u32, supply: &mut dyn Supply) -> Result<(), BuildError> {
        match &step.action {
            Action::SystemPackages(packages) => {
                let command = install(packages);
                self.line(&format!("RUN {command}"));
            }
            Action::Op(Op::Command(body)) => self.body(candy, step, body)?,
            Action::Op(Op::Setcap { path, caps }) if caps.is_empty() => {
                self.line(&format!("RUN {SETCAP} -r {}", quote(path.as_str())));
            }
            Action::Op(Op::Setcap { path, caps }) => {
                self.line(&format!("RUN {SETCAP} {} {}", quote(caps), quote(path.as_str())));
            }
            Action::Op(Op::Download(download)) if download.extract == Extract::Sh => {
                let place = |source| BuildError::Place { candy: candy.name.clone(), source };
                let manifest = supply.manifest(index).map_err(|problem| place(PlaceError::Supply(problem)))?;
                if let Some(charly_ir::message::MemberKind::File { digest, .. }) =
                    manifest.members.first().map(|member| &member.kind)
                {
                    let mut bytes = String::new();
                    let mut blob = supply.blob(*digest).map_err(|problem| place(PlaceError::Supply(problem)))?;
                    let name = self.name(&candy.name, "sh");
                    let path = self.folder.join(&name);
                    blob.read_to_string(&mut bytes)
                        .and_then(|_| fs::write(&path, &bytes))
                        .map_err(|source| BuildError::Context { path, source })?;
                    self.run(&step.scope, (&name, &bytes), &download.env, &BTreeMap::new());
                }
            }
            Action::ServicePackaged(service) => {
                if let Some(enable) = service.enable {
                    let verb = if enable { "enable" } else { "disable" };
                    self.line(&format!("RUN systemctl {verb} -- {}", quote(&service.unit)));
                }
            }
            other => self.line(&format!("# not said in this language: {} ({})", step.title, other.kind())),
        }
        Ok(())
    }

    fn body(&mut self, candy: &CandyPlan, step: &Step, body: &Command) -> Result<(), BuildError> {
        let name = self.name(&candy.name, "sh");
        let path = self.folder.join(&name);
        fs::write(&path, &body.body).map_err(|source| BuildError::Context { path, source })?;
        self.run(&step.scope, (&name, &body.body), &body.env, &body.secrets);
        Ok(())
    }

    /// Runs a file of the context as the user whom a step is for, with the variables that the engine would set.
    fn run(
        &mut self,
        scope: &Scope,
        (file, body): (&str, &str),
        env: &BTreeMap<String, charly_ir::Text>,
        secrets: &BTreeMap<String, String>,
    ) {
        let user = match scope {
            Scope::Other(user) => Some(user.as_str()),
            Scope::System | Scope::User | Scope::UserProfile => None,
        };
        if let Some(user) = user {
            self.line(&format!("USER {user}"));
        }
        let mounts: Vec<_> = secrets
            .iter()
            .map(|(variable, secret)| format!("--mount=type=secret,id={secret},env={variable} "))
            .collect();
        let name = user.unwrap_or("root").split(':').next().unwrap_or_default();
        let whose = self.accounts.user(name).map(|User { name, home, shell, .. }| {
            [("HOME", home), ("USER", name.clone()), ("LOGNAME", name), ("SHELL", shell)]
        });
        let fixed = [("LANG", "C.UTF-8".to_owned()), ("PATH", STANDARD_PATH.to_owned())];
        let given = env.iter().map(|(name, value)| (name.as_str(), value.as_str().to_owned()));
        let all: BTreeMap<_, _> = whose.into_iter().flatten().chain(fixed).chain(given).collect();
        let set: Vec<_> = all.iter().map(|(name, value)| format!("{name}={} ", quote(value))).collect();
        let home = all.get("HOME").map_or("/", String::as_str);
        // As the engine chooses it, which looks for bash when it has come to the step.
        let asked = asked_interpreter(body).map(|words| words.map(quote).collect::<Vec<_>>().join(" "));
        let runs = asked.unwrap_or_else(|| "$(command -v bash || echo sh)".to_owned());
        self.line(&format!(
            "RUN --mount=type=bind,source={file},target={BODY} {}cd {} 2>/dev/null || cd /; env {}{runs} {BODY}",
            mounts.concat(),
            quote(home),
            set.concat(),
        ));
        if user.is_some() {
            self.line("USER 0:0");
        }
    }

    /// Says all that the image says about how it is run: of a base whose layers go over, nothing else tells it.
    fn configuration(&mut self, config: &Config) {
        self.line("");
        for (name, value) in config.env().iter().flatten().filter_map(|line| line.split_once('=')) {
            self.line(&format!("ENV {name}={}", double(value)));
        }
        let labels: BTreeMap<_, _> = config.labels().iter().flatten().collect();
        for (name, value) in labels {
            self.line(&format!("LABEL {name}={}", double(value)));
        }
        for port in config.exposed_ports().iter().flatten() {
            self.line(&format!("EXPOSE {port}"));
        }
        for volume in config.volumes().iter().flatten() {
            self.line(&format!("VOLUME {}", list(std::slice::from_ref(volume))));
        }
        if let Some(folder) = config.working_dir() {
            self.line(&format!("WORKDIR {folder}"));
        }
        if let Some(signal) = config.stop_signal() {
            self.line(&format!("STOPSIGNAL {signal}"));
        }
        if let Some(user) = config.user() {
            self.line(&format!("USER {user}"));
        }
        for (word, words) in [("ENTRYPOINT", config.entrypoint()), ("CMD", config.cmd())] {
            if let Some(words) = words {
                self.line(&format!("{word} {}", list(words)));
            }
        }
    }
}

fn append(
    writer: &mut LayerWriter<File>,
    entry: &Entry,
    source: &Source,
    supply: &mut dyn Supply,
) -> Result<(), Result<PlaceError, crate::layer::LayerError>> {
    let mut bytes = plain::open(source, supply).map_err(Ok)?;
    writer.append(entry, &mut bytes).map_err(Err)
}

/// Returns the command that installs packages and leaves nothing of the download.
fn install(packages: &Packages) -> String {
    let Packages { manager, install, options, .. } = packages;
    let words = |words: &[String]| words.iter().fold(String::new(), |all, word| all + " " + &quote(word));
    let (options, names) = (words(options), words(install));
    match manager {
        PackageManager::Apt => format!(
            "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends{options}{names} \
             && rm -rf /var/lib/apt/lists/*_* /var/lib/apt/lists/auxfiles /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
             /var/cache/debconf/tmp.ci /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log"
        ),
        PackageManager::Dnf => format!("dnf -y install{options}{names} && dnf clean all"),
        PackageManager::Pacman => {
            format!("pacman -Sy --needed --noconfirm{options}{names} && rm -rf /var/cache/pacman/pkg/*")
        }
        PackageManager::Apk => format!("apk add --no-cache{options}{names}"),
    }
}

/// Quotes a word for a shell.
fn quote(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Quotes a value for an `ENV` or `LABEL`, in which `$` begins a variable.
fn double(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$").replace('\n', " ");
    format!("\"{escaped}\"")
}

/// Writes words as the JSON that needs no shell.
fn list(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_their_reader() {
        assert_eq!(quote("/usr/bin/x"), "/usr/bin/x");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(double("a \"$b\" \\"), r#""a \"\$b\" \\""#);
        assert_eq!(list(&["a".into(), "b \"c\"".into()]), r#"["a","b \"c\""]"#);
    }

    #[test]
    fn bodies_are_run_by_what_the_engine_would_run_them_by() {
        let folder = tempfile::tempdir().unwrap();
        for (body, want) in [
            (
                "echo",
                "env LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $(command -v bash || echo sh) /run/charly-body\n",
            ),
            ("#!/usr/bin/env python3\n", "/bin /usr/bin/env python3 /run/charly-body\n"),
            ("#!/bin/sh -eu", "/bin /bin/sh -eu /run/charly-body\n"),
        ] {
            let (accounts, tree) = (Accounts::default(), Tree::default());
            let mut cx = Context { folder: folder.path(), text: String::new(), number: 0, accounts, tree };
            cx.run(&Scope::System, ("1.sh", body), &BTreeMap::new(), &BTreeMap::new());
            assert!(cx.text.ends_with(want), "{}", cx.text);
        }
    }

    #[test]
    fn packages_leave_nothing_of_the_download() {
        let packages = Packages {
            manager: PackageManager::Apt,
            install: vec!["git".into(), "vim".into()],
            exclude: Vec::new(),
            options: Vec::new(),
            modules: Vec::new(),
            files: Vec::new(),
        };
        let text = install(&packages);
        assert!(text.contains("--no-install-recommends git vim && rm -rf /var/lib/apt/lists/*_* "), "{text}");
    }
}
