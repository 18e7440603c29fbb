//! One URL's bytes, fetched once, resumed where a transfer broke off.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::{Deserialize, Serialize};

use super::error::FetchError;
use super::http::{self, Got, Partial};
use crate::Interrupts;

/// Fetches URLs into a cache folder.
///
/// A URL together with the digest asked for names an entry: a folder with the bytes, what is known of them, and, while a
/// transfer is under way, the part that has arrived. A lock on the folder lets one process fetch it at a time.
pub struct Fetcher {
    folder: PathBuf,
    agent: ureq::Agent,
    interrupts: Interrupts,
    progress: Box<dyn FnMut(u64, u64) + Send>,
}

/// Bytes in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where they are.
    pub path: PathBuf,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// What is known of an entry's bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    url: String,
    digest: Digest,
    size: u64,
    /// What the server calls this version of the bytes, so that it can be asked whether there is a newer one.
    etag: Option<String>,
}

impl Fetcher {
    /// Fetches into `folder` through `agent`, telling `progress` the bytes so far and in all (0 where nobody knows).
    pub fn new(
        folder: PathBuf,
        agent: ureq::Agent,
        interrupts: Interrupts,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Self {
        Self { folder, agent, interrupts, progress: Box::new(progress) }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a URL's bytes. Where a digest is asked for and cached, nobody else is asked.
    pub fn fetch(&mut self, url: &str, want: Option<Digest>) -> Result<Fetched, FetchError> {
        let key = want.map_or_else(|| url.to_owned(), |digest| format!("{digest} {url}"));
        let folder = self.folder.join(&Digest::of(key.as_bytes()).to_string()[..32]);
        fs::create_dir_all(&folder).map_err(FetchError::file(&folder))?;
        let lock = folder.join("lock");
        let _lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(FetchError::file(&lock))?;

        let cached = cached(&folder);
        if let (Some((_, fetched)), Some(want)) = (&cached, want)
            && fetched.digest == want
        {
            return Ok(fetched.clone());
        }
        match url.split_once("://") {
            Some(("file", path)) => copy(url, Path::new(path), want, &folder),
            Some(("http" | "https", _)) => self.transfer(url, want, &folder, cached.as_ref()),
            _ => Err(FetchError::Scheme(url.to_owned())),
        }
    }

    fn transfer(
        &mut self,
        url: &str,
        want: Option<Digest>,
        folder: &Path,
        cached: Option<&(Entry, Fetched)>,
    ) -> Result<Fetched, FetchError> {
        let part = folder.join("part");
        let known = cached.and_then(|(entry, _)| entry.etag.as_deref());
        let mut fresh = false;
        loop {
            if fresh {
                remove(&part)?;
            }
            let partial = Partial { path: part.clone(), resumed: false };
            let got =
                http::get(&self.agent, url, known, partial, cached.is_none(), &self.interrupts, &mut self.progress);
            let (etag, resumed) = match (got, cached) {
                (Ok(Got::Whole { etag, resumed }), _) => (etag, resumed),
                // Where the server cannot be asked, a copy that may be old beats none: the ledger says which was used.
                (Ok(Got::Unchanged) | Err(FetchError::Transfer { .. }), Some((_, fetched))) => {
                    return Ok(fetched.clone());
                }
                (Ok(Got::Unchanged), None) => return Err(FetchError::Status { url: url.to_owned(), status: 304 }),
                (Err(error), _) => return Err(error),
            };
            match keep(url, &part, want, etag, folder) {
                // The beginning may have been of another version: once more, from the first byte.
                Err(FetchError::Digest { .. }) if resumed && !fresh => fresh = true,
                result => return result,
            }
        }
    }
}

/// Makes a complete part the entry's bytes.
fn keep(
    url: &str,
    part: &Path,
    want: Option<Digest>,
    etag: Option<String>,
    folder: &Path,
) -> Result<Fetched, FetchError> {
    let (digest, size) = File::open(part).and_then(Digest::of_reader).map_err(FetchError::file(part))?;
    if let Some(want) = want.filter(|want| *want != digest) {
        remove(part)?;
        return Err(FetchError::Digest { url: url.to_owned(), want, got: digest });
    }
    let entry = Entry { url: url.to_owned(), digest, size, etag };
    let (data, record) = (folder.join("data"), folder.join("entry.json"));
    let text = serde_json::to_vec_pretty(&entry).map_err(io::Error::other);
    remove(&record)?;
    fs::rename(part, &data).map_err(FetchError::file(&data))?;
    text.and_then(|text| fs::write(&record, text)).map_err(FetchError::file(&record))?;
    Ok(Fetched { path: data, digest, size })
}

/// Copies a file of this machine into the cache: it may change while it is sent.
fn copy(url: &str, path: &Path, want: Option<Digest>, folder: &Path) -> Result<Fetched, FetchError> {
    let part = folder.join("part");
    let copied = File::open(path).and_then(|mut from| io::copy(&mut from, &mut File::create(&part)?));
    copied.map_err(FetchError::file(path))?;
    keep(url, &part, want, None, folder)
}

/// Returns an entry whose bytes are what they were when they were stored.
fn cached(folder: &Path) -> Option<(Entry, Fetched)> {
    let entry: Entry = serde_json::from_slice(&fs::read(folder.join("entry.json")).ok()?).ok()?;
    let path = folder.join("data");
    let (digest, size) = Digest::of_reader(File::open(&path).ok()?).ok()?;
    (digest == entry.digest).then_some((entry, Fetched { path, digest, size }))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::file(path)(error)),
        _ => Ok(()),
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("folder", &self.folder).finish_non_exhaustive()
    }
}
