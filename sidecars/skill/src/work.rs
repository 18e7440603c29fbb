//! Private working folders, one a run.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use uuid::Uuid;

use crate::{folder::open_place, spawn::Identity};

const PREFIX: &str = "charly-skill.";

/// How often making the folder is tried while other servers start.
const ATTEMPTS: usize = 8;

/// Holds the folder in which this server's runs get theirs. It is removed in the end, and by the next server if this
/// one was killed.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// Locked for as long as the server lives.
    _lock: OwnedFd,
}

/// Holds one run's folder: its working folder, home and place for temporary files.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    pub(crate) path: PathBuf,
    pub(crate) handle: OwnedFd,
}

impl WorkFolder {
    /// Makes the folder beneath `parent` and removes what dead servers left there.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent)?;
        for _ in 0..ATTEMPTS {
            let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
            // Runs of other users have to get through to their own folders, which are closed.
            fs::DirBuilder::new().mode(0o711).create(&path)?;
            if let Some(lock) = lock(&path) {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Makes the folder of the run `id`.
    pub(crate) fn private(&self, id: Uuid, owner: Option<&Identity>) -> io::Result<PrivateFolder> {
        let path = self.path.join(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let handle = open_place(&path)?;
        if let Some(Identity { user, group }) = owner {
            std::os::unix::fs::chown(&path, Some(*user), Some(*group))?;
        }
        Ok(PrivateFolder { path, handle })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

impl PrivateFolder {
    /// Removes the folder; most are empty, and cost one call.
    pub(crate) async fn remove(self) {
        let Self { path, handle } = self;
        drop(handle);
        if fs::remove_dir(&path).is_err() {
            let _ = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
        }
    }
}

fn remove_tree(path: &Path) {
    // A run may have locked its folders, and only the superuser would get past that.
    if fs::remove_dir_all(path).is_err() {
        unlock(path);
        if let Err(error) = fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a working folder");
        }
    }
}

/// Gives the owner every right to the folders below `path`. Their run is dead, so nobody changes them meanwhile.
fn unlock(path: &Path) {
    if path.is_symlink() || !path.is_dir() {
        return;
    }
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        unlock(&entry.path());
    }
}

/// Locks a folder that was just made. Another server that starts now may have taken it for an abandoned one.
fn lock(path: &Path) -> Option<OwnedFd> {
    let lock = open_folder(path).ok()?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    let (locked, named) = (rustix::fs::fstat(&lock).ok()?, rustix::fs::stat(path).ok()?);
    (locked.st_ino == named.st_ino).then_some(lock)
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

fn remove_abandoned(parent: &Path) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent)?.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(folder) = open_folder(&entry.path()) else { continue };
        let ours = rustix::fs::fstat(&folder).is_ok_and(|stat| stat.st_uid == own);
        if ours && rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_tree(&entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_are_private_and_go_away_whatever_is_in_them() {
        let parent = tempfile::tempdir().unwrap();
        let work = WorkFolder::make(parent.path()).unwrap();
        let folder = work.private(Uuid::new_v4(), None).unwrap();
        assert_eq!(fs::metadata(&folder.path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(folder.path.join("a/b")).unwrap();
        fs::write(folder.path.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/", folder.path.join("a/root")).unwrap();
        fs::set_permissions(folder.path.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(folder.path.join("a"), Permissions::from_mode(0o000)).unwrap();
        let path = folder.path.clone();
        folder.remove().await;
        assert!(!path.exists());
        drop(work);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn servers_that_start_together_keep_their_folders() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| WorkFolder::make(parent.path()).unwrap())).collect();
            let folders: Vec<WorkFolder> = starts.into_iter().map(|start| start.join().unwrap()).collect();
            assert!(folders.iter().all(|folder| folder.path.is_dir()));
        });
    }

    #[test]
    fn the_folder_of_a_dead_server_is_removed_and_that_of_a_living_one_kept() {
        let parent = tempfile::tempdir().unwrap();
        let living = WorkFolder::make(parent.path()).unwrap();
        fs::create_dir_all(parent.path().join("charly-skill.dead/run")).unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        let second = WorkFolder::make(parent.path()).unwrap();
        assert!(living.path.exists() && second.path.exists() && parent.path().join("other").exists());
        assert!(!parent.path().join("charly-skill.dead").exists());
    }
}
