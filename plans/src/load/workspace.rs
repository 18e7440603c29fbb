//! Everything that can be named: candies, and what is deployed of them where.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::candy::{LoadedCandy, Origin, load_candy, shown_from, unreadable};
use super::digests::Digests;
use super::folder::{Folder, shipped_names};
use super::project::{Scope, ScopeId, Wanted, load_project};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::read::FromYaml;
use crate::schema::{
    self, BoxSpec, Defaults, Deploy, K8sSpec, LocalTemplate, Map, Project, Reference, Sidecar, Spanned, VmSpec,
};
use crate::source::{Place, Source};

/// What loading depends on beside the documents. Nothing is read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The project's folder; relative paths given by hand start here, and messages show paths from here.
    pub folder: PathBuf,
    /// The machine's own file, such as `~/.config/charly/charly.yml`. It need not exist.
    pub machine_file: Option<PathBuf>,
    /// Where repositories are kept.
    pub cache: PathBuf,
    /// Whether only repositories that are in the cache can be used.
    pub offline: bool,
    /// Whether branches and tags are looked up again that the cache has pinned to a commit.
    pub refresh: bool,
    /// Remembers digests of files.
    pub digests: Option<Arc<dyn Digests>>,
    /// Addresses that begin with the first text are fetched from those that begin with the second instead.
    pub mirrors: Vec<(String, String)>,
}

/// Everything that can be named.
#[derive(Debug)]
pub struct Workspace {
    pub(super) settings: Settings,
    pub(super) scopes: Vec<Scope>,
    /// The scopes of folders that are loaded, so that a project imported twice is loaded once.
    loaded: HashMap<PathBuf, ScopeId>,
    pub(super) shipped: BTreeMap<&'static str, Arc<LoadedCandy>>,
    deploys: BTreeMap<String, DeployEntry>,
    boxes: BTreeMap<String, Declared<BoxSpec>>,
    vms: BTreeMap<String, Declared<VmSpec>>,
    clusters: BTreeMap<String, Declared<K8sSpec>>,
    locals: BTreeMap<String, Declared<LocalTemplate>>,
    sidecars: BTreeMap<String, Declared<Sidecar>>,
    defaults: Option<Defaults>,
    /// The machine's own file.
    machine: Option<Arc<Source>>,
}

/// An entity and the place of its name.
#[derive(Debug, Clone)]
pub struct Declared<T> {
    /// The entity.
    pub value: T,
    /// The place of its name.
    pub place: Place,
}

/// A deploy as the project and the machine together declare it.
#[derive(Debug, Clone)]
pub struct DeployEntry {
    /// The deploy; what the machine says stands over what the project says.
    pub deploy: Deploy,
    /// The place of its name, in the machine's file where it is in both.
    pub place: Place,
    /// The candies it declares, those of its template for this machine first, each with its place, so that a refusal can
    /// name file and line.
    pub candies: Vec<(Reference, Place)>,
}

/// The sidecar template `skill`, which lies beside the server that it starts.
const SKILL_SIDECAR: &[u8] = include_bytes!("../../../sidecars/skill/sidecar.yml");

/// The project at hand.
pub(crate) const ROOT: ScopeId = ScopeId(0);

impl Workspace {
    /// Loads the project in a folder, what it imports, and what the machine adds.
    ///
    /// What can be loaded is loaded; the findings say what cannot, all of it in one run.
    pub fn load(settings: &Settings) -> (Self, Diagnostics) {
        let mut found = Diagnostics::default();
        let mut workspace = Self {
            settings: settings.clone(),
            scopes: Vec::new(),
            loaded: HashMap::new(),
            shipped: BTreeMap::new(),
            deploys: BTreeMap::new(),
            boxes: BTreeMap::new(),
            vms: BTreeMap::new(),
            clusters: BTreeMap::new(),
            locals: BTreeMap::new(),
            sidecars: BTreeMap::new(),
            defaults: None,
            machine: None,
        };
        for name in shipped_names() {
            let shown = format!("shipped/{name}/charly.yml");
            let (candy, findings) = load_candy(Folder::Shipped(name), &shown, Origin::Shipped, ROOT);
            found.extend(findings);
            workspace.shipped.extend(candy.map(|candy| (name, Arc::new(candy))));
        }
        workspace.add_shipped_sidecars(&mut found);
        workspace.load_scope(&settings.folder.clone(), &Origin::Project, &mut found);
        // What is imported comes first, so that the project's own entities stand over it.
        let order: Vec<_> = (0..workspace.scopes.len()).rev().collect();
        for at in order {
            if let Some((source, project)) = workspace.scopes[at].project.take() {
                let reachable = at == ROOT.0 || workspace.is_merged(ScopeId(at));
                if reachable {
                    let folder = workspace.scopes[at].root.clone();
                    workspace.add_entities(&source, &project, Some(&folder));
                }
                workspace.scopes[at].project = Some((source, project));
            }
        }
        if let Some(file) = &settings.machine_file {
            workspace.load_machine(file, &mut found);
        }
        workspace.add_templates();
        (workspace, found)
    }

    /// Returns the settings it was loaded with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns every candy that can be named, with its name: the project's, `alias.name` for imports, and the shipped ones.
    pub fn candies(&self) -> BTreeMap<String, &Arc<LoadedCandy>> {
        let mut all: BTreeMap<String, _> =
            self.shipped.iter().map(|(name, candy)| ((*name).to_owned(), candy)).collect();
        let root = &self.scopes[ROOT.0];
        for (alias, scope) in root.imports.iter().rev() {
            for (name, candy) in &self.scopes[scope.0].candies {
                let name = alias.as_ref().map_or_else(|| name.clone(), |alias| format!("{alias}.{name}"));
                all.insert(name, candy);
            }
        }
        all.extend(root.candies.iter().map(|(name, candy)| (name.clone(), candy)));
        all
    }

    /// Returns the deploys by name.
    pub fn deploys(&self) -> &BTreeMap<String, DeployEntry> {
        &self.deploys
    }

    /// Returns the boxes by name.
    pub fn boxes(&self) -> &BTreeMap<String, Declared<BoxSpec>> {
        &self.boxes
    }

    /// Returns the machines by name.
    pub fn vms(&self) -> &BTreeMap<String, Declared<VmSpec>> {
        &self.vms
    }

    /// Returns the clusters by name.
    pub fn clusters(&self) -> &BTreeMap<String, Declared<K8sSpec>> {
        &self.clusters
    }

    /// Returns the templates for this machine by name.
    pub fn locals(&self) -> &BTreeMap<String, Declared<LocalTemplate>> {
        &self.locals
    }

    /// Returns the sidecars by name, the shipped ones among them.
    pub fn sidecars(&self) -> &BTreeMap<String, Declared<Sidecar>> {
        &self.sidecars
    }

    /// Returns what holds where an entity says nothing.
    pub fn defaults(&self) -> Option<&Defaults> {
        self.defaults.as_ref()
    }

    /// Returns the documents that all entities beside candies come from.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Source> {
        let projects = self.scopes.iter().filter_map(|scope| scope.project.as_ref().map(|(source, _)| &**source));
        projects.chain(self.machine.as_deref())
    }

    /// Loads a project once, with what it imports.
    pub(super) fn load_scope(&mut self, root: &Path, origin: &Origin, found: &mut Diagnostics) -> ScopeId {
        let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        if let Some(id) = self.loaded.get(&real) {
            return *id;
        }
        let id = ScopeId(self.scopes.len());
        self.loaded.insert(real, id);
        let (scope, wanted) = load_project(root, &self.settings.folder, origin, id, found);
        self.scopes.push(scope);
        for Wanted { alias, reference, place } in wanted {
            match self.import_root(root, &reference, origin) {
                Ok((folder, origin)) => {
                    let import = self.load_scope(&folder, &origin, found);
                    self.scopes[id.0].imports.push((alias, import));
                }
                Err(finding) => found.push(finding.at(place)),
            }
        }
        id
    }

    fn import_root(
        &self,
        root: &Path,
        reference: &Reference,
        origin: &Origin,
    ) -> Result<(PathBuf, Origin), Diagnostic> {
        match reference {
            Reference::Remote(remote) => {
                let checkout = self.checkout(remote)?;
                let origin = Origin::Repository { url: remote.url(), commit: checkout.commit };
                Ok((checkout.folder.join(&remote.folder), origin))
            }
            Reference::Name(_) | Reference::Path(_) => {
                let mut folder = root.join(reference.to_string());
                // The project's file means the project.
                if folder.ends_with("charly.yml") {
                    folder.pop();
                }
                if folder.is_dir() {
                    return Ok((folder, origin.clone()));
                }
                let shown = shown_from(&folder, &self.settings.folder);
                Err(Diagnostic::error(format!("there is no folder `{shown}` to import")))
            }
        }
    }

    /// Tells whether the root imports a project without an alias, so that its entities are the root's, too.
    fn is_merged(&self, scope: ScopeId) -> bool {
        self.scopes[ROOT.0].imports.iter().any(|(alias, import)| alias.is_none() && *import == scope)
    }

    /// Adds the sidecars that need no project; what a project says of one of them stands over it.
    fn add_shipped_sidecars(&mut self, found: &mut Diagnostics) {
        match Source::from_bytes("shipped/skill/sidecar.yml", SKILL_SIDECAR.into()) {
            Ok(source) => {
                let (project, findings) = schema::parse_project(&source);
                found.extend(findings);
                if let Some(project) = project {
                    lay_over(&mut self.sidecars, &project.sidecar, &source);
                }
            }
            Err(finding) => found.push(*finding),
        }
    }

    fn load_machine(&mut self, file: &Path, found: &mut Diagnostics) {
        let shown = shown_from(file, &self.settings.folder);
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return found.push(unreadable(&shown, &error)),
        };
        match Source::from_bytes(shown, bytes) {
            Ok(source) => {
                let (project, findings) = schema::parse_project(&source);
                found.extend(findings);
                if let Some(project) = project {
                    self.add_entities(&source, &project, file.parent());
                }
                self.machine = Some(source);
            }
            Err(finding) => found.push(*finding),
        }
    }

    /// Lays a project's entities over those that are there. Paths in them are relative to the folder of their file.
    fn add_entities(&mut self, source: &Arc<Source>, project: &Project, folder: Option<&Path>) {
        lay_over(&mut self.boxes, &project.box_, source);
        lay_over(&mut self.vms, &project.vm, source);
        lay_over(&mut self.clusters, &project.k8s, source);
        lay_over(&mut self.locals, &project.local, source);
        lay_over(&mut self.sidecars, &project.sidecar, source);
        if let Some(defaults) = &project.defaults {
            match &mut self.defaults {
                Some(known) => known.overlay(defaults.clone()),
                none => *none = Some(defaults.clone()),
            }
        }
        for (name, deploy) in project.deploy.iter() {
            let at = |span| Place { source: Arc::clone(source), span };
            let absolute = |reference: &Reference| match (reference, folder) {
                (Reference::Path(path), Some(folder)) => Reference::Path(folder.join(path).display().to_string()),
                (reference, _) => reference.clone(),
            };
            let candies: Vec<_> = deploy.candy.iter().map(|candy| (absolute(candy), at(candy.span))).collect();
            let place = at(name.span);
            if let Some(entry) = self.deploys.get_mut(&name.value) {
                entry.deploy.overlay(deploy.value.clone());
                entry.place = place;
                if !candies.is_empty() {
                    entry.candies = candies;
                }
            } else {
                let entry = DeployEntry { deploy: deploy.value.clone(), place, candies };
                self.deploys.insert(name.value.clone(), entry);
            }
        }
    }
}

impl Workspace {
    /// Puts the candies of a template for this machine before those that its deploys declare themselves.
    fn add_templates(&mut self) {
        for entry in self.deploys.values_mut() {
            let local = entry.deploy.local.as_ref().and_then(|local| self.locals.get(local.as_str()));
            let Some(Declared { value, place }) = local else { continue };
            let at = |span| Place { source: Arc::clone(&place.source), span };
            let candies = value.candy.iter().map(|candy| (candy.value.clone(), at(candy.span)));
            entry.candies.splice(0..0, candies);
        }
    }
}

fn lay_over<T: FromYaml + Clone>(
    known: &mut BTreeMap<String, Declared<T>>,
    declared: &Map<Spanned<T>>,
    source: &Arc<Source>,
) {
    for (name, entity) in declared.iter() {
        let place = Place { source: Arc::clone(source), span: name.span };
        match known.get_mut(&name.value) {
            Some(entry) => {
                entry.value.overlay(entity.value.clone());
                entry.place = place;
            }
            None => {
                known.insert(name.value.clone(), Declared { value: entity.value.clone(), place });
            }
        }
    }
}
