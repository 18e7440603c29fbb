//! Layers of steps that only place files: written from the plan, with nothing unpacked, mounted or run.
//!
//! Invariant: what is placed is what the engine would place on a machine with the same files (`tests/e2e` compares the two).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;

use charly_ir::message::{Manifest, Member, MemberKind, Problem};
use charly_ir::plan::{
    Action, BuilderKind, CandyPlan, Content, Extract, Op, Placement, Repo, RepoKey, RepoSource, Scope, Step,
};
use charly_ir::{Digest, Text};
use charly_target_core::Supply;

use super::Accounts;
use crate::layer::{Entry, Kind, LayerError, Tree};

/// Where the bytes of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// It has none.
    Nothing,
    /// In the plan.
    Text(String),
    /// Beside it.
    Blob(Digest),
}

/// Why files cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something else is at the path.
    #[error("`{path}` cannot be placed: {why}")]
    Taken {
        /// The path.
        path: String,
        /// What is there.
        why: &'static str,
    },
    /// The path leads nowhere.
    #[error(transparent)]
    Path(#[from] LayerError),
    /// What is placed cannot be had.
    #[error("{}", .0.what)]
    Supply(Problem),
}

/// Tells whether steps only place files that belong to somebody whose number is known.
pub(super) fn is_plain(candy: &CandyPlan, accounts: &Accounts) -> bool {
    candy.steps.iter().all(|step| is_plain_step(step, accounts))
}

/// Tells whether a step only places files that belong to somebody whose number is known.
pub(super) fn is_plain_step(step: &Step, accounts: &Accounts) -> bool {
    let places = match &step.action {
        Action::File(_) | Action::Op(Op::Copy(_) | Op::Write(_) | Op::Mkdir { .. } | Op::Link { .. }) => true,
        Action::Op(Op::Download(download)) => download.extract != Extract::Sh,
        Action::Builder(builder) => builder.kind != BuilderKind::Aur,
        Action::RepoChange(repo) => matches!(repo.source, RepoSource::Written { .. } | RepoSource::Fetched { .. }),
        _ => false,
    };
    places && owner(&step.scope, accounts).is_some()
}

/// Opens the bytes of an entry.
pub(super) fn open<'a>(source: &'a Source, supply: &mut dyn Supply) -> Result<Box<dyn Read + 'a>, PlaceError> {
    Ok(match source {
        Source::Nothing => Box::new(io::empty()),
        Source::Text(text) => Box::new(text.as_bytes()),
        Source::Blob(digest) => Box::new(supply.blob(*digest).map_err(PlaceError::Supply)?),
    })
}

/// Places what the steps of a candy place, in a tree, and returns what that adds to it, sorted by path.
pub(super) fn place(
    candy: &CandyPlan,
    tree: &mut Tree,
    accounts: &Accounts,
    supply: &mut dyn Supply,
    epoch: u64,
) -> Result<Vec<(Entry, Source)>, PlaceError> {
    place_some(candy, 0..candy.steps.len(), tree, accounts, supply, epoch)
}

/// Places what some steps of a candy place.
pub(super) fn place_some(
    candy: &CandyPlan,
    steps: Range<usize>,
    tree: &mut Tree,
    accounts: &Accounts,
    supply: &mut dyn Supply,
    epoch: u64,
) -> Result<Vec<(Entry, Source)>, PlaceError> {
    let mut cx = Context { tree, added: BTreeMap::new(), owner: (0, 0), epoch };
    for (index, step) in (0..).zip(&candy.steps).skip(steps.start).take(steps.len()) {
        cx.owner = owner(&step.scope, accounts).unwrap_or_default();
        cx.step(step, index, supply)?;
    }
    Ok(cx.finish())
}

/// Returns who owns what is placed on somebody's behalf.
fn owner(scope: &Scope, accounts: &Accounts) -> Option<(u32, u32)> {
    let Scope::Other(user) = scope else { return Some((0, 0)) };
    match user.split_once(':') {
        Some((user, group)) => {
            let uid = user.parse().ok().or_else(|| accounts.user(user).map(|user| user.uid))?;
            Some((uid, accounts.group(group)?))
        }
        None => accounts.user(user).map(|user| (user.uid, user.gid)),
    }
}

struct Context<'a> {
    /// The root, with what was added so far.
    tree: &'a mut Tree,
    added: BTreeMap<String, (Entry, Source)>,
    owner: (u32, u32),
    epoch: u64,
}

impl Context<'_> {
    fn step(&mut self, step: &Step, index: u32, supply: &mut dyn Supply) -> Result<(), PlaceError> {
        let mut manifest = || supply.manifest(index).map_err(PlaceError::Supply);
        match &step.action {
            Action::File(file) | Action::Op(Op::Copy(file) | Op::Write(file)) => self.file(file),
            Action::Op(Op::Mkdir { path, mode }) => self.dir(path.as_str(), *mode),
            Action::Op(Op::Link { path, target }) => self.link(path.as_str(), target.as_str()),
            Action::Op(Op::Download(download)) => {
                let manifest = manifest()?;
                self.members(&download.to, &manifest)
            }
            Action::Builder(builder) => {
                let manifest = manifest()?;
                self.members(&builder.to, &manifest)
            }
            Action::RepoChange(repo) => {
                let needs_manifest = !matches!(repo.source, RepoSource::Written { key: None, .. });
                let manifest = if needs_manifest { Some(manifest()?) } else { None };
                self.repo(repo, manifest.as_ref())
            }
            // `is_plain` lets no other pass.
            _ => Ok(()),
        }
    }

    fn file(&mut self, file: &Placement) -> Result<(), PlaceError> {
        let (size, source) = match &file.content {
            Content::Text(text) => (text.as_str().len() as u64, Source::Text(text.as_str().to_owned())),
            Content::Blob { digest, size } => (*size, Source::Blob(*digest)),
            // No plan for an image has such.
            Content::Secret(_) => return Ok(()),
        };
        self.put_file(file.path.as_str(), size, file.mode, source)
    }

    fn put_file(&mut self, path: &str, size: u64, mode: u32, source: Source) -> Result<(), PlaceError> {
        let path = self.spot(path)?;
        match self.kind(&path) {
            None | Some(Kind::File { .. } | Kind::Symlink { .. } | Kind::Hardlink { .. }) => {}
            Some(Kind::Dir) => return Err(taken(&path, "a folder is there, and charly never replaces one by a file")),
            Some(_) => return Err(taken(&path, "a device, socket or FIFO is there")),
        }
        self.add(path, Kind::File { size }, mode, source);
        Ok(())
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<(), PlaceError> {
        let path = self.spot(path)?;
        match self.kind(&path) {
            None | Some(Kind::Dir) => {}
            Some(_) => return Err(taken(&path, "something is there that is no folder")),
        }
        self.add(path, Kind::Dir, mode, Source::Nothing);
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), PlaceError> {
        let path = self.spot(path)?;
        match self.kind(&path) {
            None | Some(Kind::File { .. } | Kind::Symlink { .. } | Kind::Hardlink { .. }) => {}
            Some(Kind::Dir) => return Err(taken(&path, "a folder is there, and charly never replaces one by a link")),
            Some(_) => return Err(taken(&path, "a device, socket or FIFO is there")),
        }
        self.add(path, Kind::Symlink { target: target.to_owned() }, 0o777, Source::Nothing);
        Ok(())
    }

    fn members(&mut self, to: &Text, manifest: &Manifest) -> Result<(), PlaceError> {
        let base = to.as_str().trim_end_matches('/');
        for member in &manifest.members {
            let path = if member.path.is_empty() { base.to_owned() } else { format!("{base}/{}", member.path) };
            match &member.kind {
                MemberKind::File { digest, size, mode } => self.put_file(&path, *size, *mode, Source::Blob(*digest))?,
                MemberKind::Dir { mode } => {
                    // A folder that is there already is not the archive's to change.
                    let real = self.tree.resolve(&path, true)?;
                    if self.kind(&real) != Some(&Kind::Dir) {
                        self.dir(&path, *mode)?;
                    }
                }
                MemberKind::Link { target } => self.link(&path, target)?,
            }
        }
        Ok(())
    }

    fn repo(&mut self, repo: &Repo, manifest: Option<&Manifest>) -> Result<(), PlaceError> {
        let mut fetched = |name: &str, path: &Text| {
            let members = manifest.into_iter().flat_map(|manifest| &manifest.members);
            match members.filter(|member| member.path == name).map(|member| &member.kind).next() {
                Some(MemberKind::File { digest, size, .. }) => {
                    self.put_file(path.as_str(), *size, 0o644, Source::Blob(*digest))
                }
                _ => Err(PlaceError::Supply(Problem::new(format!("the repository's {name} was not fetched")))),
            }
        };
        let trusted = |key: &Option<RepoKey>, fetched: &mut dyn FnMut(&str, &Text) -> Result<(), PlaceError>| {
            key.as_ref().map_or(Ok(()), |key| fetched(Member::REPO_KEY, &key.path))
        };
        match &repo.source {
            RepoSource::Written { file, key } => {
                trusted(key, &mut fetched)?;
                self.file(file)
            }
            RepoSource::Fetched { path, key, .. } => {
                trusted(key, &mut fetched)?;
                fetched(Member::REPO_FILE, path)
            }
            RepoSource::Copr { .. } | RepoSource::Package { .. } => Ok(()),
        }
    }

    /// Returns where a path really is, with its folders made where they are missing. Its last part is not followed.
    fn spot(&mut self, path: &str) -> Result<String, PlaceError> {
        let real = self.tree.resolve(path, false)?;
        let mut missing = Vec::new();
        let mut above = real.as_str();
        while let Some((folder, _)) = above.rsplit_once('/') {
            match self.kind(folder) {
                Some(Kind::Dir) => break,
                Some(_) => return Err(taken(folder, "something is there that is no folder")),
                None => missing.push(folder.to_owned()),
            }
            above = folder;
        }
        for folder in missing.into_iter().rev() {
            self.add(folder, Kind::Dir, 0o755, Source::Nothing);
        }
        Ok(real)
    }

    fn kind(&self, path: &str) -> Option<&Kind> {
        self.tree.get(path).map(|entry| &entry.kind)
    }

    fn add(&mut self, path: String, kind: Kind, mode: u32, source: Source) {
        let ((uid, gid), mtime) = (self.owner, self.epoch);
        let entry = Entry { path: path.clone(), kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() };
        self.tree.apply(entry.clone());
        self.added.insert(path, (entry, source));
    }

    /// Returns what was added, with the folders above it: whoever unpacks a layer by itself makes those that it does not name
    /// as nobody's, and they stand over the ones below.
    fn finish(self) -> Vec<(Entry, Source)> {
        let mut all = self.added;
        let mut folders = BTreeMap::new();
        for path in all.keys() {
            let mut above = path.as_str();
            while let Some((folder, _)) = above.rsplit_once('/') {
                if all.contains_key(folder) || folders.contains_key(folder) {
                    break;
                }
                if let Some(entry) = self.tree.get(folder) {
                    folders.insert(folder.to_owned(), (entry.clone(), Source::Nothing));
                }
                above = folder;
            }
        }
        all.append(&mut folders);
        all.into_values().collect()
    }
}

fn taken(path: &str, why: &'static str) -> PlaceError {
    PlaceError::Taken { path: format!("/{path}"), why }
}

#[cfg(test)]
mod tests {
    use charly_ir::plan::{Phase, Venue};
    use charly_target_core::supply::Nothing;

    use super::*;

    fn base() -> Tree {
        let mut tree = Tree::default();
        let dir = |path: &str, mode, uid| Entry {
            path: path.into(),
            kind: Kind::Dir,
            mode,
            uid,
            gid: uid,
            mtime: 7,
            xattrs: BTreeMap::new(),
        };
        for entry in
            [dir("home", 0o755, 0), dir("home/ann", 0o700, 1000), dir("usr", 0o755, 0), dir("usr/bin", 0o755, 0)]
        {
            tree.apply(entry);
        }
        tree.apply(Entry { kind: Kind::Symlink { target: "usr/bin".into() }, ..dir("bin", 0o777, 0) });
        tree
    }

    fn step(scope: Scope, op: Op) -> Step {
        let (id, title, venue, gate, phase) = ("s".into(), "t".into(), Venue::HostNative, None, Phase::Configure);
        Step { id, title, scope, venue, gate, phase, action: Action::Op(op) }
    }

    fn write(path: &str, text: &str) -> Op {
        Op::Write(Placement { path: path.into(), mode: 0o640, content: Content::Text(text.into()) })
    }

    fn placed(steps: Vec<Step>) -> Result<Vec<String>, PlaceError> {
        let candy = CandyPlan {
            name: "c".into(),
            version: "2026.001.0000".into(),
            summary: String::new(),
            requires: Vec::new(),
            steps,
            checks: Vec::new(),
            artifacts: Vec::new(),
            secrets: std::collections::BTreeSet::new(),
            runtime: BTreeMap::new(),
        };
        let entries = place(&candy, &mut base(), &Accounts::default(), &mut Nothing, 9)?;
        let shown = entries.iter().map(|(entry, _)| {
            let Entry { path, mode, uid, mtime, .. } = entry;
            format!("{path} {mode:o} {uid} {mtime}")
        });
        Ok(shown.collect())
    }

    #[test]
    fn folders_above_are_those_of_the_base_or_the_owners() {
        let ann = || Scope::Other("1000:1000".into());
        let steps = vec![step(ann(), write("/home/ann/a/b", "x")), step(Scope::System, write("/bin/tool", ""))];
        let want = [
            "home 755 0 7",
            "home/ann 700 1000 7",
            "home/ann/a 755 1000 9",
            "home/ann/a/b 640 1000 9",
            "usr 755 0 7",
            "usr/bin 755 0 7",
            "usr/bin/tool 640 0 9",
        ];
        assert_eq!(placed(steps).unwrap(), want);
    }

    #[test]
    fn what_is_there_is_never_replaced_by_another_kind() {
        let dir = Op::Mkdir { path: "/bin".into(), mode: 0o755 };
        let link = Op::Link { path: "/usr".into(), target: "x".into() };
        for (op, want) in [
            (write("/usr", ""), "`/usr` cannot be placed: a folder is there, and charly never replaces one by a file"),
            (dir, "`/bin` cannot be placed: something is there that is no folder"),
            (link, "`/usr` cannot be placed: a folder is there, and charly never replaces one by a link"),
        ] {
            assert_eq!(placed(vec![step(Scope::System, op)]).unwrap_err().to_string(), want);
        }
    }
}
