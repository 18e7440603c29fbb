//! All that the steps of one plan fetch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use charly_ir::facts::User;
use charly_ir::message::{Manifest, Member, MemberKind, Problem};
use charly_ir::plan::{Action, Builder, Download, InstallPlan, Op, Repo, RepoKey, RepoSource};
use charly_ir::text::Tokens;
use charly_ir::{Digest, Stamp};
use tempfile::TempDir;

use super::error::FetchError;
use super::unpack::{self, Limits};
use super::{Fetched, Fetcher, key};
use crate::artifact::{Builders, Wanted};
use crate::supply::{Blob, Supply};

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file that nobody else writes to.
    File(PathBuf),
    /// In a file of somebody's, as long as it has this stamp.
    Stamped(PathBuf, Stamp),
}

/// Supplies a plan's blobs, and fetches what its steps download.
///
/// What is unpacked lies in a folder of its own until the supply is dropped.
#[derive(Debug)]
pub struct PlanSupply {
    sources: BTreeMap<u32, Source>,
    blobs: BTreeMap<Digest, Content>,
    fetcher: Fetcher,
    limits: Limits,
    scratch: Option<TempDir>,
    os: String,
    arch: String,
    tokens: Tokens,
    builders: Option<Box<dyn Builders>>,
}

/// What a step fetches.
#[derive(Debug)]
enum Source {
    Download(Download),
    Repo(Repo),
    Builder { candy: String, builder: Builder },
}

impl PlanSupply {
    /// Takes a plan and the blobs it names.
    pub fn new(plan: &InstallPlan, blobs: BTreeMap<Digest, Content>, fetcher: Fetcher) -> Self {
        let sources = (0..).zip(plan.steps()).filter_map(|(index, (candy, step))| match &step.action {
            Action::Op(Op::Download(download)) => Some((index, Source::Download(download.clone()))),
            Action::RepoChange(repo) => Some((index, Source::Repo(repo.clone()))),
            Action::Builder(builder) => {
                Some((index, Source::Builder { candy: candy.name.clone(), builder: builder.clone() }))
            }
            _ => None,
        });
        Self {
            sources: sources.collect(),
            blobs,
            fetcher,
            limits: Limits::default(),
            scratch: None,
            os: plan.os.clone(),
            arch: plan.arch.clone(),
            tokens: Tokens::default(),
            builders: None,
        }
    }

    /// Takes who makes what builder steps place, and whom they make it for.
    #[must_use]
    pub fn with_builders(mut self, builders: Box<dyn Builders>, user: &User) -> Self {
        self.tokens = user.tokens();
        self.builders = Some(builders);
        self
    }

    fn members(&mut self, step: u32) -> Result<Vec<Member>, Problem> {
        let Some(source) = self.sources.remove(&step) else {
            return Err(Problem::new(format!("step {step} fetches nothing")));
        };
        let members = match &source {
            Source::Download(download) => self.download(download).map_err(Problem::from),
            Source::Repo(repo) => self.repo(repo).map_err(Problem::from),
            Source::Builder { candy, builder } => self.build(candy, builder),
        };
        self.sources.insert(step, source);
        members
    }

    fn build(&mut self, candy: &str, builder: &Builder) -> Result<Vec<Member>, Problem> {
        let Some(builders) = &mut self.builders else {
            return Err(Problem::new(format!("nobody is there to build with {}", builder.kind)));
        };
        let to = builder.to.resolve(&self.tokens);
        let (os, arch, inputs) = (self.os.as_str(), self.arch.as_str(), &self.blobs);
        let made = builders.artifact(&Wanted { candy, builder, to: &to, os, arch, inputs })?;
        for member in &made.members {
            if let MemberKind::File { digest, .. } = member.kind {
                self.blobs.insert(digest, Content::File(made.files.join(digest.to_string())));
            }
        }
        Ok(made.members)
    }

    fn download(&mut self, download: &Download) -> Result<Vec<Member>, FetchError> {
        let fetched = self.fetcher.fetch(&download.url, download.sha256)?;
        self.blobs.insert(fetched.digest, Content::File(fetched.path.clone()));
        let scratch = self.scratch()?;
        let members = unpack::members(&fetched, download, &scratch, self.limits)
            .map_err(|source| FetchError::Unpack { url: download.url.clone(), source })?;
        for member in &members {
            if let MemberKind::File { digest, .. } = member.kind
                && digest != fetched.digest
            {
                self.blobs.insert(digest, Content::File(scratch.join(digest.to_string())));
            }
        }
        Ok(members)
    }

    fn repo(&mut self, repo: &Repo) -> Result<Vec<Member>, FetchError> {
        let (file, key) = match &repo.source {
            RepoSource::Written { key, .. } => (None, key.as_ref()),
            RepoSource::Fetched { url, key, .. } => (Some(url), key.as_ref()),
            RepoSource::Package { .. } | RepoSource::Copr { .. } => (None, None),
        };
        let mut members = Vec::new();
        if let Some(url) = file {
            let Fetched { path, digest, size } = self.fetcher.fetch(url, None)?;
            self.blobs.insert(digest, Content::File(path));
            members.push(member(Member::REPO_FILE, digest, size));
        }
        if let Some(key) = key {
            members.push(self.key(key)?);
        }
        Ok(members)
    }

    /// Fetches a key; where a binary one is expected, armour comes off.
    fn key(&mut self, key: &RepoKey) -> Result<Member, FetchError> {
        let Fetched { path, .. } = self.fetcher.fetch(&key.url, None)?;
        let mut bytes = std::fs::read(&path).map_err(FetchError::file(&path))?;
        if Path::new(key.path.as_str()).extension().is_some_and(|extension| extension == "gpg") {
            bytes = key::binary(&bytes).ok_or_else(|| FetchError::Key { url: key.url.clone() })?;
        }
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, Content::Memory(bytes.into()));
        Ok(member(Member::REPO_KEY, digest, size))
    }

    fn scratch(&mut self) -> Result<PathBuf, FetchError> {
        if self.scratch.is_none() {
            let folder = self.fetcher.folder();
            let made = TempDir::with_prefix_in("unpacked-", folder).map_err(FetchError::file(folder))?;
            self.scratch = Some(made);
        }
        Ok(self.scratch.as_ref().map(|folder| folder.path().to_path_buf()).unwrap_or_default())
    }
}

impl Supply for PlanSupply {
    fn manifest(&mut self, step: u32) -> Result<Manifest, Problem> {
        Ok(Manifest { step, members: self.members(step)? })
    }

    fn blob(&mut self, digest: Digest) -> Result<Blob, Problem> {
        match self.blobs.get(&digest) {
            None => Err(Problem::new(format!("no blob {} belongs to this plan", digest.short()))),
            Some(Content::Memory(bytes)) => Ok(Blob::new(bytes.len() as u64, Cursor::new(Arc::clone(bytes)))),
            Some(Content::File(path)) => open(path).map_err(unreadable(path)),
            Some(Content::Stamped(path, stamp)) => {
                let file = Stamped::open(path, *stamp).map_err(unreadable(path))?;
                Ok(Blob::new(stamp.size, file))
            }
        }
    }
}

fn open(path: &PathBuf) -> io::Result<Blob> {
    let file = File::open(path)?;
    Ok(Blob::new(file.metadata()?.len(), file))
}

/// A file that is read as long as it is what it was.
struct Stamped {
    file: File,
    stamp: Stamp,
}

impl Stamped {
    fn open(path: &Path, stamp: Stamp) -> io::Result<Self> {
        let this = Self { file: File::open(path)?, stamp };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> io::Result<()> {
        if Stamp::of(&self.file.metadata()?) == self.stamp {
            return Ok(());
        }
        Err(io::Error::other("it changed after its digest was taken; run the same command again"))
    }
}

impl Read for Stamped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.check()?;
        }
        Ok(count)
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Problem {
    move |error| Problem::new(format!("`{}` cannot be read", path.display())).because(error.to_string())
}

fn member(path: &str, digest: Digest, size: u64) -> Member {
    Member { path: path.to_owned(), kind: MemberKind::File { digest, size, mode: 0o644 } }
}
