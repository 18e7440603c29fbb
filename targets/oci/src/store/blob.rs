//! Putting bytes into the store and getting them out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use tempfile::NamedTempFile;

use super::{Store, StoreError};
use crate::layer::Layer;

impl Store {
    /// Returns where a blob is, or would be.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.to_string())
    }

    /// Tells whether there is a blob of that size.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        self.blob_path(*digest).symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Puts a small blob in.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(digest);
        // Of the right size it may be damaged all the same.
        if !read_file(&path, bytes.len() as u64).is_ok_and(|known| known == bytes) {
            self.write_new(bytes, &path)?;
        }
        Ok(digest)
    }

    /// Opens a file for a layer to be written to.
    pub fn layer_sink(&self) -> Result<LayerSink, StoreError> {
        Ok(LayerSink { file: self.temporary()?, blobs: self.blobs() })
    }

    /// Reads a blob that is no larger than `limit`, and checks that it is what it is named after.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = read_file(&self.blob_path(*digest), limit).map_err(|error| match error {
            StoreError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                StoreError::Missing { digest: *digest }
            }
            error => error,
        })?;
        let got = Digest::of(&bytes);
        if got != *digest {
            return Err(StoreError::Damaged { want: *digest, got });
        }
        Ok(bytes)
    }

    /// Reads a blob to its end. One that is not what it is named after is taken away, so that it is built or fetched again.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(*digest);
        let (got, _) = Digest::of_reader(&mut self.open_blob(digest)?).map_err(StoreError::file(&path))?;
        if got == *digest { Ok(()) } else { Err(self.damaged(*digest, got)) }
    }

    /// Takes a blob away that is not what it is named after.
    pub(super) fn damaged(&self, want: Digest, got: Digest) -> StoreError {
        // As long as it is there, everybody who asks for its size takes it for the right one.
        std::fs::remove_file(self.blob_path(want)).ok();
        StoreError::Damaged { want, got }
    }

    /// Opens a blob, whose bytes are not checked.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(*digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { digest: *digest },
            _ => StoreError::File { path, source },
        })
    }

    /// Returns the folder where files come to be.
    pub(crate) fn partial(&self) -> PathBuf {
        self.folder.join("partial")
    }

    pub(crate) fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let partial = self.partial();
        let mut how = tempfile::Builder::new();
        // Blobs are for whoever may enter the folder.
        how.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        how.tempfile_in(&partial).map_err(StoreError::file(&partial))
    }

    /// Writes a file that appears whole, and stays.
    pub(super) fn write_new(&self, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        let mut file = self.temporary()?;
        let written = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
        written.map_err(StoreError::file(path))?;
        file.persist(path).map_err(|error| StoreError::File { path: path.to_path_buf(), source: error.error })?;
        // A blob's name is made to stay before an index names it.
        if path.parent() == Some(&self.blobs()) { Ok(()) } else { sync_folder(&self.folder) }
    }

    pub(super) fn sync_blobs(&self) -> Result<(), StoreError> {
        sync_folder(&self.blobs())
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }
}

/// A file for a layer to be written to; dropped, it is gone.
#[derive(Debug)]
pub struct LayerSink {
    file: NamedTempFile,
    blobs: PathBuf,
}

impl LayerSink {
    /// Makes what was written the layer's blob.
    pub fn keep(self, layer: &Layer) -> Result<(), StoreError> {
        self.keep_as(&layer.digest)
    }

    /// Returns where the file is, for a program that writes it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn keep_as(self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blobs.join(digest.to_string());
        // What is there already may be damaged, and this is whole.
        self.file.as_file().sync_all().map_err(StoreError::file(&path))?;
        self.file.persist(&path).map_err(|error| StoreError::File { path, source: error.error })?;
        Ok(())
    }
}

impl Write for LayerSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(StoreError::file(path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::file(path))?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(bytes)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::file(folder))
}
