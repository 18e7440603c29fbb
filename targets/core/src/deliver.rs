//! Puts the engine's program where it can be started.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use rustix::process::geteuid;

/// Why the engine cannot be put into a folder.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A folder or file cannot be made or read.
    #[error("`{path}` cannot be used")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could put another program there.
    #[error("`{path}` {why}")]
    Untrusted {
        /// The path.
        path: PathBuf,
        /// Why it is not trusted.
        why: &'static str,
    },
    /// No folder is left to try.
    #[error("the engine can be started from none of its folders")]
    Nowhere,
}

/// The beginning of the program's file name; its digest follows.
const PREFIX: &str = "charly-guest-";

/// Puts a program into a folder, once per digest, and returns its path.
pub fn deliver(folder: &Path, program: &dyn Fn() -> Vec<u8>, digest: Digest) -> Result<PathBuf, DeliverError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| DeliverError::Io { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
    let metadata = fs::symlink_metadata(folder).map_err(io(folder))?;
    let distrust = |path: &Path, why| Err(DeliverError::Untrusted { path: path.to_path_buf(), why });
    if !metadata.is_dir() {
        return distrust(folder, "is no folder");
    }
    if metadata.uid() != geteuid().as_raw() {
        return distrust(folder, "belongs to another user");
    }
    if metadata.mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io(folder))?;
    }
    let path = folder.join(format!("{PREFIX}{digest}"));
    if !is_there(&path, digest) {
        place(folder, &path, &program()).map_err(io(&path))?;
    }
    Ok(path)
}

/// Tells whether the program is there already, whole and owned by nobody else.
fn is_there(path: &Path, digest: Digest) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let ours = metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == 0o700;
    ours && File::open(path).and_then(Digest::of_reader).is_ok_and(|(found, _)| found == digest)
}

/// Writes the program in one stroke and drops those of other versions; one that runs keeps running.
fn place(folder: &Path, path: &Path, program: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(program)?;
    file.as_file().set_permissions(Permissions::from_mode(0o700))?;
    file.as_file().sync_all()?;
    for entry in fs::read_dir(folder)? {
        let old = entry?;
        if old.file_name().to_string_lossy().starts_with(PREFIX) {
            // Another process may have been faster.
            fs::remove_file(old.path()).ok();
        }
    }
    // Closed before it is started: a program open for writing cannot be.
    file.into_temp_path().persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_is_delivered_once_per_digest() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let (one, two) = (b"one".as_slice(), b"two".as_slice());
        let path = deliver(&folder, &|| one.to_vec(), Digest::of(one)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(deliver(&folder, &|| one.to_vec(), Digest::of(one)).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        let other = deliver(&folder, &|| two.to_vec(), Digest::of(two)).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(other).unwrap(), two);
    }

    #[test]
    fn what_was_tampered_with_is_delivered_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = deliver(folder.path(), &|| b"one".to_vec(), Digest::of(b"one")).unwrap();
        for harm in [
            &(|| fs::write(&path, "evil").unwrap()) as &dyn Fn(),
            &|| fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap(),
            &|| {
                fs::remove_file(&path).unwrap();
                symlink("/bin/sh", &path).unwrap();
            },
        ] {
            harm();
            deliver(folder.path(), &|| b"one".to_vec(), Digest::of(b"one")).unwrap();
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(metadata.is_file() && metadata.mode() & 0o777 == 0o700);
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_trusted() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("link");
        symlink(base.path(), &folder).unwrap();
        let error = deliver(&folder, &|| b"x".to_vec(), Digest::of(b"x")).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is no folder", folder.display()));
    }
}
