//! Brings files back to the controller.
//!
//! The login user's rights decide what can be read. Where they do not suffice, root's engine reads, and it has its own ledger
//! tell it what it may be asked for: the artifacts of the deploy.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::time::{Duration, Instant};

use charly_ir::message::{Done, Fetch, MAX_FETCHED, Problem, Reply, Verdict};
use charly_ir::{Digest, Text, frame};

use super::root::RootHand;
use super::{Session, Settings, deploys, untouched, venue};
use crate::ledger::{DeployId, DeployRecord};
use crate::tree::{self, TreeError};
use crate::venue::{Side, Venue};
use crate::worker::WorkError;

/// How often it is looked whether a file has come: nothing tells of that but the file.
const PAUSE: Duration = Duration::from_millis(200);

/// A file that is about to be sent, open: what is announced is what is sent.
pub(super) struct Found {
    pub digest: Digest,
    pub size: u64,
    file: File,
    path: String,
}

impl Session<'_> {
    /// Sends a file to the controller, waiting for it to appear.
    pub(super) fn fetch(&mut self, fetch: &Fetch) -> Done {
        match self.try_fetch(fetch) {
            Ok(()) => Done::verdict(Verdict::Ok),
            Err(error) => untouched(&error),
        }
    }

    fn try_fetch(&mut self, fetch: &Fetch) -> Result<(), WorkError> {
        let began = Instant::now();
        let venue = venue(self.settings, Side::User)?;
        let path = venue.resolve(&fetch.path);
        match find(&venue, &path, fetch.wait_s) {
            Ok(found) => {
                self.peer.send(Reply::Blob { digest: found.digest, size: found.size });
                found.send(|bytes| {
                    self.peer.send_chunk(bytes);
                    Ok(())
                })
            }
            Err(WorkError::Tree(error)) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                let waited = u32::try_from(began.elapsed().as_secs()).unwrap_or(u32::MAX);
                self.fetch_as_root(&Fetch { wait_s: fetch.wait_s.saturating_sub(waited), ..fetch.clone() }, error)
            }
            Err(error) => Err(error),
        }
    }

    /// Has root's engine read what the login user may not.
    fn fetch_as_root(&mut self, fetch: &Fetch, denied: TreeError) -> Result<(), WorkError> {
        let is_elsewhere = self.settings.root != Path::new("/");
        if is_elsewhere || rustix::process::geteuid().is_root() {
            return Err(denied.into());
        }
        let deploy = self.deploy_id(&fetch.deploy)?;
        if !declares(deploys(self.settings, Side::System)?.get(&deploy), &fetch.path) {
            let user = &self.settings.facts.user.name;
            let what = format!("`{}` cannot be brought back: `{user}` may not read it", denied.path);
            let hint = "root reads for candies that have steps of root's; have this one make it readable for the user";
            return Err(WorkError::Program(Box::new(Problem::new(what).hint(hint))));
        }
        RootHand::connect(self.settings, self.sudo_password.as_ref())?.fetch(&deploy, fetch, self.peer)
    }
}

/// Finds a file as root, if root's ledger has it as an artifact of the deploy.
pub(super) fn find_as_root(
    settings: &Settings,
    deploy: &DeployId,
    path: &Text,
    wait_s: u32,
) -> Result<Found, WorkError> {
    if !declares(deploys(settings, Side::System)?.get(deploy), path) {
        return Err(WorkError::Plan(format!("`{deploy}` has no artifact `{path}`", path = path.as_str())));
    }
    let venue = venue(settings, Side::System)?;
    find(&venue, &venue.resolve(path), wait_s)
}

fn declares(record: Option<&DeployRecord>, path: &Text) -> bool {
    record.is_some_and(|record| record.candies.iter().any(|candy| candy.artifacts.contains(path)))
}

/// Waits for a file and opens it.
fn find(venue: &Venue, path: &str, wait_s: u32) -> Result<Found, WorkError> {
    let deadline = Instant::now() + Duration::from_secs(wait_s.into());
    loop {
        match tree::open_file(&venue.root, path) {
            Ok(file) => return Found::measure(file, path),
            Err(error) if !tree::is_nothing(&error.source) => return Err(error.into()),
            Err(_) if venue.cancel.is_requested() => return Err(WorkError::Cancelled),
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(_) => return Err(WorkError::Plan(format!("`{path}` did not appear within {wait_s} s"))),
        }
    }
}

impl Found {
    fn measure(mut file: File, path: &str) -> Result<Self, WorkError> {
        let unread = |source| TreeError::new("read", path, source);
        let length = file.metadata().map_err(unread)?.len();
        if length > MAX_FETCHED {
            let what = format!("`{path}` has {length} bytes, and no more than {MAX_FETCHED} are brought back");
            return Err(WorkError::Plan(what));
        }
        let (digest, size) = Digest::of_reader((&mut file).take(MAX_FETCHED)).map_err(unread)?;
        file.rewind().map_err(unread)?;
        Ok(Self { digest, size, file, path: path.to_owned() })
    }

    /// Sends the bytes that were announced, in chunks.
    pub(super) fn send(self, mut send: impl FnMut(&[u8]) -> Result<(), WorkError>) -> Result<(), WorkError> {
        let Self { file, size, path, digest: _ } = self;
        let mut bytes = file.take(size);
        let mut buffer = vec![0; frame::MAX_CHUNK];
        loop {
            let n = bytes.read(&mut buffer).map_err(|source| TreeError::new("read", &path, source))?;
            if n == 0 {
                return Ok(());
            }
            send(&buffer[..n])?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use charly_ir::boot::BootMark;
    use charly_ir::facts::{Facts, Init, Os, User};

    use super::*;
    use crate::process::Cancel;

    #[test]
    fn root_reads_what_its_ledger_has_as_an_artifact_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        let deploys = "var/lib/opencharly/installed/deploys";
        fs::create_dir_all(at(deploys)).unwrap();
        fs::create_dir_all(at("etc/folder")).unwrap();
        for name in ["key", "other"] {
            fs::write(at("etc").join(name), "word").unwrap();
        }
        symlink("other", at("etc/link")).unwrap();
        fs::File::create(at("etc/large")).unwrap().set_len(MAX_FETCHED + 1).unwrap();
        let record = r#"{"format": 1, "charly": "0.1.0", "deploy": "7/local", "layers": [], "state": "complete", "updated_s": 0,
            "candies": [{"name": "c", "version": "v", "requires": [], "steps": [],
                         "artifacts": ["/etc/key", "/etc/link", "/etc/folder", "/etc/large", "/etc/none"]}]}"#;
        fs::write(at(deploys).join("7-local.json"), record).unwrap();
        let settings = Settings {
            root: temp.path().to_owned(),
            facts: Facts {
                os: Os::default(),
                arch: String::new(),
                hostname: String::new(),
                boot: BootMark::default(),
                init: Init::None,
                package_manager: None,
                user: User { name: "ann".into(), uid: 7, gid: 7, home: "/home/ann".into(), shell: "/bin/sh".into() },
            },
            reboot: None,
            cancel: Cancel::default(),
        };
        for (deploy, path, want) in [
            ("7/local", "/etc/key", "word"),
            ("7/local", "/etc/other", "`7/local` has no artifact `/etc/other`"),
            ("7/other", "/etc/key", "`7/other` has no artifact `/etc/key`"),
            ("8/local", "/etc/key", "`8/local` has no artifact `/etc/key`"),
            ("7/local", "/etc/link", "cannot read `/etc/link`"),
            ("7/local", "/etc/folder", "cannot read `/etc/folder`"),
            ("7/local", "/etc/large", "`/etc/large` has 268435457 bytes, and no more than 268435456 are brought back"),
            ("7/local", "/etc/none", "`/etc/none` did not appear within 0 s"),
        ] {
            let mut bytes = Vec::new();
            let result = find_as_root(&settings, &deploy.parse().unwrap(), &Text::new(path), 0).and_then(|found| {
                assert_eq!((found.digest, found.size), (Digest::of(b"word"), 4));
                found.send(|chunk| {
                    bytes.extend_from_slice(chunk);
                    Ok(())
                })
            });
            let said = result.map_or_else(|error| error.problem().what, |()| String::from_utf8(bytes).unwrap());
            assert_eq!(said, want, "{deploy} {path}");
        }
    }
}
