//! Judging documents without doing anything with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, PackageManager, User};

use crate::compile::{Options, compile};
use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::load::{LoadedCandy, Origin, Workspace, shown_from, unreadable};
use crate::resolve::{LayerRef, Resolved, ResolvedCandy, Sources, sources};
use crate::schema::{self, Document, Run, Spanned, StepKind};
use crate::source::Source;

/// Judges documents by themselves: files, or folders with a `charly.yml`.
///
/// What they refer to need not exist, neither candies nor the files they copy. Messages show paths from `folder`.
pub fn validate_documents(paths: &[PathBuf], folder: &Path) -> Diagnostics {
    let mut found = Diagnostics::default();
    for path in paths {
        let path = folder.join(path);
        let file = if path.is_dir() { path.join("charly.yml") } else { path };
        let shown = shown_from(&file, folder);
        let source = match fs::read(&file).map_err(|error| Box::new(unreadable(&shown, &error))) {
            Ok(bytes) => Source::from_bytes(shown, bytes),
            Err(finding) => Err(finding),
        };
        match source {
            Ok(source) => found.extend(validate_text(&source)),
            Err(finding) => found.push(*finding),
        }
    }
    found
}

/// Judges one document by itself.
pub fn validate_text(source: &Arc<Source>) -> Diagnostics {
    let (document, mut found) = schema::parse(source);
    let candies = match document {
        Some(Document::Candy(candy)) => vec![*candy],
        Some(Document::Project(project)) => project.candy.iter().map(|(_, candy)| candy.value.clone()).collect(),
        None => Vec::new(),
    };
    for candy in candies {
        let loaded = LoadedCandy::alone(candy, Arc::clone(source));
        let copies = sources_taken_for_granted(&loaded);
        found.extend(judge(&Arc::new(loaded), copies));
    }
    found.sort();
    found
}

impl Workspace {
    /// Judges the whole project: every document, every reference from one to another, and that the files are there which
    /// candies copy.
    pub fn validate(&mut self) -> Diagnostics {
        let mut found = Diagnostics::default();
        let candies: Vec<_> = self.candies().into_iter().map(|(name, candy)| (name, Arc::clone(candy))).collect();
        for (_, candy) in &candies {
            if candy.origin == Origin::Project {
                let copies = sources(candy, self.settings().digests.as_deref());
                found.extend(judge(candy, copies));
            }
        }
        let mut layers: Vec<Vec<LayerRef>> = Vec::new();
        for (name, candy) in &candies {
            if candy.origin == Origin::Project {
                layers.extend(LayerRef::parse(name).ok().map(|layer| vec![layer]));
            }
        }
        for local in self.locals().values() {
            layers.push(layers_of(&local.value.candy, &local.place.source));
        }
        for (name, spec) in self.boxes() {
            layers.push(layers_of(&spec.value.candy, &spec.place.source));
            if let Err(findings) = self.chain(name) {
                found.extend(findings);
            }
        }
        for entry in self.deploys().values() {
            let refs = entry
                .candies
                .iter()
                .map(|(reference, place)| LayerRef { reference: reference.clone(), place: Some(place.clone()) });
            layers.push(refs.collect());
        }
        for layers in layers {
            if let Err(findings) = self.resolve(&layers) {
                found.extend(findings);
            }
        }
        found.extend(self.unknown_entities());
        found.dedup();
        found
    }

    /// Finds what deploys name and nobody declares.
    fn unknown_entities(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let mut missing = |entry: &crate::load::DeployEntry, kind: &str, name: &str, known: Vec<&str>| {
            if !known.contains(&name) {
                let finding = Diagnostic::error(format!("no {kind} is named `{name}`")).at(entry.place.clone());
                found.push(match suggestion(name, known) {
                    Some(hint) => finding.hint(hint),
                    None => finding.hint(format!("declare it under `{kind}`")),
                });
            }
        };
        for entry in self.deploys().values() {
            let deploy = &entry.deploy;
            if let Some(name) = &deploy.vm {
                missing(entry, "vm", name, self.vms().keys().map(String::as_str).collect());
            }
            if let Some(name) = &deploy.local {
                missing(entry, "local", name, self.locals().keys().map(String::as_str).collect());
            }
            if let Some(name) = &deploy.k8s {
                missing(entry, "k8s", name, self.clusters().keys().map(String::as_str).collect());
            }
            if let Some(name) = deploy.box_.as_ref().filter(|name| !name.contains(['/', ':'])) {
                missing(entry, "box", name, self.boxes().keys().map(String::as_str).collect());
            }
        }
        found
    }
}

fn layers_of(references: &[Spanned<schema::Reference>], source: &Arc<Source>) -> Vec<LayerRef> {
    let place = |span| crate::source::Place { source: Arc::clone(source), span };
    references
        .iter()
        .map(|reference| LayerRef { reference: reference.value.clone(), place: Some(place(reference.span)) })
        .collect()
}

/// Returns what a candy copies as if it were there.
fn sources_taken_for_granted(loaded: &LoadedCandy) -> BTreeMap<String, Sources> {
    let copies = loaded.candy.plan.iter().filter_map(|step| match &step.kind {
        StepKind::Run(run) => match &**run {
            Run::Copy(copy) => Some((copy.copy.as_str().to_owned(), Ok(Vec::new()))),
            _ => None,
        },
        _ => None,
    });
    copies.collect()
}

/// Compiles a candy alone, for every family of distributions, as if all that it asks of others were there.
fn judge(loaded: &Arc<LoadedCandy>, sources: BTreeMap<String, Sources>) -> Diagnostics {
    let candy = &loaded.candy;
    let resolved = Resolved {
        candies: vec![ResolvedCandy {
            loaded: Arc::clone(loaded),
            requires: Vec::new(),
            composed_of: Vec::new(),
            sources,
            build_files: Ok(BTreeMap::new()),
        }],
        roots: vec![loaded.name().to_owned()],
    };
    let mut secrets: BTreeSet<_> = candy.secret_require.iter().map(|need| need.name.value.clone()).collect();
    secrets.extend(candy.plan.iter().filter_map(|step| match &step.kind {
        StepKind::Run(run) => match &**run {
            Run::Write(write) => write.secret.as_ref().map(|secret| secret.value.clone()),
            _ => None,
        },
        _ => None,
    }));
    let options = Options {
        skip_incompatible: true,
        env: candy.env_require.iter().map(|need| (need.name.value.clone(), String::new())).collect(),
        secrets,
        ..Options::default()
    };
    let mut found = Diagnostics::default();
    for (os_release, manager) in [
        ("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n", PackageManager::Apt),
        ("ID=ubuntu\nVERSION_ID=24.04\nVERSION_CODENAME=noble\nID_LIKE=debian\n", PackageManager::Apt),
        ("ID=fedora\nVERSION_ID=42\n", PackageManager::Dnf),
        ("ID=arch\n", PackageManager::Pacman),
        ("ID=alpine\nVERSION_ID=3.22.0\n", PackageManager::Apk),
    ] {
        let facts = Facts {
            os: Os::parse(os_release),
            arch: "x86_64".to_owned(),
            hostname: String::new(),
            boot: BootMark::default(),
            init: Init::Systemd,
            package_manager: Some(manager),
            user: User { name: String::new(), uid: 0, gid: 0, home: String::new(), shell: String::new() },
        };
        match compile(&resolved, &facts, &options) {
            Ok(compiled) => found.extend(compiled.warnings),
            Err(findings) => found.extend(findings),
        }
    }
    found.dedup();
    found
}
