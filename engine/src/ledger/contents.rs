//! Contents beside the books: what files held before, what their users made of them, what is on its way.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use charly_ir::Digest;

use super::error::LedgerError;
use super::folder::{Temporary, private_folder};
use super::name::{Resource, escape};
use super::record::State;
use super::store::Ledger;
use crate::tree::Node;

impl Ledger {
    /// Returns the folder for what arrives during a run: files named after their digests. It stays until a run is finished.
    pub fn incoming(&self) -> Result<PathBuf, LedgerError> {
        let path = self.folder.join("incoming");
        private_folder(&path).map(|()| path).map_err(|source| self.error("make a folder in", source))
    }

    /// Returns how many bytes of a blob arrived for a run that was cut off.
    pub fn arrived(&self, digest: Digest) -> u64 {
        let path = self.folder.join("incoming").join(digest.to_string());
        fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len())
    }

    /// Drops what arrived for a run that was cut off, but for what is still wanted.
    pub fn keep_incoming(&self, wanted: &BTreeSet<Digest>) {
        for entry in fs::read_dir(self.folder.join("incoming")).into_iter().flatten().flatten() {
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !digest.is_some_and(|digest| wanted.contains(&digest)) {
                // It costs space alone, until a run is finished.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Keeps a file's content until nothing refers to its digest any more. Durable when it returns.
    pub fn keep(&self, content: &mut dyn Read) -> Result<Digest, LedgerError> {
        let result = (|| {
            let folder = self.folder.join("before");
            private_folder(&folder)?;
            let mut temporary = Temporary::new(&folder)?;
            let mut hasher = charly_ir::digest::Hasher::new();
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let n = content.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
                temporary.file.write_all(&buffer[..n])?;
            }
            let digest = hasher.finish();
            temporary.persist(&folder.join(digest.to_string()))?;
            File::open(&folder)?.sync_all()?;
            Ok(digest)
        })();
        result.map_err(|source| self.error("keep a file's content in", source))
    }

    /// Opens content that was kept.
    pub fn kept(&self, digest: Digest) -> Result<File, LedgerError> {
        let path = self.folder.join("before").join(digest.to_string());
        File::open(&path).map_err(|source| LedgerError::Io { doing: "open", path, source })
    }

    /// Keeps a copy of a file that its user edited, until the file is given up. Returns where.
    pub fn keep_edited(&self, path: &str, content: &mut dyn Read) -> Result<PathBuf, LedgerError> {
        let result = (|| {
            let folder = self.folder.join("edited");
            private_folder(&folder)?;
            let mut temporary = Temporary::new(&folder)?;
            io::copy(content, &mut temporary.file)?;
            let name = folder.join(escape(path));
            temporary.persist(&name)?;
            Ok(name)
        })();
        result.map_err(|source| self.error("keep an edited file in", source))
    }

    /// Removes kept contents that no entry refers to. One that stays behind costs space alone, so failures are passed over.
    pub(super) fn drop_unreferenced(&self) {
        let mut wanted = BTreeSet::new();
        let mut edited = BTreeSet::new();
        for (resource, entry) in &self.book().entries {
            if let (true, State::Node(Node::File { digest, .. })) = (entry.before.kept, &entry.before.state) {
                wanted.insert(digest.to_string());
            }
            if let Resource::Path(path) = resource {
                edited.insert(escape(path));
            }
        }
        for (folder, wanted) in [("before", wanted), ("edited", edited)] {
            let folder = self.folder.join(folder);
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !wanted.contains(&*entry.file_name().to_string_lossy()) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            let _ = fs::remove_dir(&folder);
        }
    }
}
