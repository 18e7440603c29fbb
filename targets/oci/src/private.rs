//! Folders that nobody but their user enters.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder that nobody else enters, or closes one that is there.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    if !create(folder)? && fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Makes a folder that nobody else enters unless its user opens it later, and tells whether it was made.
pub(crate) fn create(folder: &Path) -> io::Result<bool> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let (new, old) = (folder.path().join("deep/new"), folder.path().join("old"));
        make_private(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::create_dir(&old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
        assert!(!create(&old).unwrap());
        assert_eq!(mode(&old), 0o755);
        make_private(&old).unwrap();
        assert_eq!(mode(&old), 0o700);
    }
}
