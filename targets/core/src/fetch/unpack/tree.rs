//! The members taken from an archive so far.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use charly_ir::message::{Member, MemberKind};
use charly_ir::plan::Download;

use super::{Limits, UnpackError, paths, pattern};

/// What group and others may never be given by an archive.
const MODE_MASK: u32 = 0o755;

/// How many names an error lists.
const LISTED: usize = 8;

/// Gathers members, refusing what would place anything outside the folder.
pub(super) struct Tree<'a> {
    download: &'a Download,
    scratch: &'a Path,
    limits: Limits,
    members: BTreeMap<String, MemberKind>,
    /// The files taken, by their paths in the archive: a hard link names one of these.
    files: BTreeMap<String, (Digest, u64)>,
    /// Names seen, for an error that says what there was.
    seen: Vec<String>,
    count: usize,
    bytes: u64,
}

impl<'a> Tree<'a> {
    pub(super) fn new(download: &'a Download, scratch: &'a Path, limits: Limits) -> Self {
        let (members, files) = (BTreeMap::new(), BTreeMap::new());
        Self { download, scratch, limits, members, files, seen: Vec::new(), count: 0, bytes: 0 }
    }

    /// Returns the path at which a member is placed, or `None` where it is not asked for.
    pub(super) fn place(&mut self, raw: &[u8]) -> Result<Option<String>, UnpackError> {
        self.count += 1;
        if self.count > self.limits.members {
            return Err(UnpackError::Limit { what: "members", limit: self.limits.members as u64 });
        }
        let components = paths::components(raw)?;
        if self.seen.len() <= LISTED && !components.is_empty() {
            self.seen.push(components.join("/"));
        }
        let strip = self.download.strip_components as usize;
        let Some(rest @ [_, ..]) = components.get(strip..) else { return Ok(None) };
        let include = &self.download.include;
        let asked = pattern::asked_for(include, &components) || pattern::asked_for(include, rest);
        Ok(asked.then(|| rest.join("/")))
    }

    /// Takes a folder.
    pub(super) fn folder(&mut self, path: String, mode: u32) -> Result<(), UnpackError> {
        self.insert(path, MemberKind::Dir { mode: mode & MODE_MASK | 0o700 })
    }

    /// Takes a file's content.
    pub(super) fn file(
        &mut self,
        raw: &[u8],
        path: String,
        mode: u32,
        content: &mut dyn Read,
        damaged: impl Fn(io::Error) -> UnpackError,
    ) -> Result<(), UnpackError> {
        let (digest, size) = self.store(content, damaged)?;
        self.files.insert(paths::components(raw)?.join("/"), (digest, size));
        self.insert_file(path, mode, digest, size)
    }

    /// Takes a hard link: the same content once more.
    pub(super) fn hard_link(&mut self, path: String, mode: u32, target: &[u8]) -> Result<(), UnpackError> {
        let target = paths::components(target)?.join("/");
        let Some((digest, size)) = self.files.get(&target).copied() else {
            return Err(UnpackError::HardLink { path, target });
        };
        self.insert_file(path, mode, digest, size)
    }

    /// Takes a symbolic link.
    pub(super) fn link(&mut self, path: String, target: &[u8]) -> Result<(), UnpackError> {
        match std::str::from_utf8(target) {
            Ok(text) if paths::stays_within(&path, text) => {
                self.insert(path, MemberKind::Link { target: text.to_owned() })
            }
            _ => Err(UnpackError::Link { path, target: String::from_utf8_lossy(target).into_owned() }),
        }
    }

    /// Returns the members, folders before what lies in them.
    pub(super) fn finish(self) -> Result<Vec<Member>, UnpackError> {
        if self.members.is_empty() {
            let held =
                if self.seen.is_empty() { "nothing".to_owned() } else { format!("`{}`", self.seen.join("`, `")) };
            return Err(UnpackError::NothingIncluded { held });
        }
        Ok(self.members.into_iter().map(|(path, kind)| Member { path, kind }).collect())
    }

    fn insert_file(&mut self, path: String, mode: u32, digest: Digest, size: u64) -> Result<(), UnpackError> {
        let mode = self.download.mode.unwrap_or(mode & MODE_MASK);
        self.insert(path, MemberKind::File { digest, size, mode })
    }

    fn insert(&mut self, path: String, kind: MemberKind) -> Result<(), UnpackError> {
        for (at, _) in path.match_indices('/') {
            match self.members.get(&path[..at]) {
                None | Some(MemberKind::Dir { .. }) => {}
                Some(_) => return Err(UnpackError::Collision { with: path[..at].to_owned(), path }),
            }
        }
        let below = format!("{path}/");
        let same_kind = match (self.members.get(&path), &kind) {
            (Some(there), new) => std::mem::discriminant(there) == std::mem::discriminant(new),
            (None, MemberKind::Dir { .. }) => true,
            (None, _) => !self.members.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below)),
        };
        if !same_kind {
            return Err(UnpackError::Collision { with: path.clone(), path });
        }
        self.members.insert(path, kind);
        Ok(())
    }

    /// Writes content to the scratch folder, under its digest.
    fn store(
        &mut self,
        content: &mut dyn Read,
        damaged: impl Fn(io::Error) -> UnpackError,
    ) -> Result<(Digest, u64), UnpackError> {
        let mut file = tempfile::NamedTempFile::new_in(self.scratch).map_err(UnpackError::Store)?;
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error)),
            };
            self.bytes += n as u64;
            if self.bytes > self.limits.bytes {
                return Err(UnpackError::Limit { what: "bytes", limit: self.limits.bytes });
            }
            hasher.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(UnpackError::Store)?;
            size += n as u64;
        }
        let digest = hasher.finish();
        file.persist(self.scratch.join(digest.to_string())).map_err(|error| UnpackError::Store(error.error))?;
        Ok((digest, size))
    }

    /// Returns the bound on bytes.
    pub(super) fn byte_limit(&self) -> u64 {
        self.limits.bytes
    }
}
