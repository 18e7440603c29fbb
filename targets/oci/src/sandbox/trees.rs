//! The unpacked layers that runs leave for each other.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use charly_ir::Digest;

use super::Settings;
use crate::private::make_private;
use crate::space::Space;

/// Why unpacked layers cannot be taken away.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// Something runs over them.
    #[error("something runs in an image, over layers of `{folder}`")]
    Busy {
        /// Where they are.
        folder: PathBuf,
    },
    /// A file or folder fails.
    #[error("`{path}` cannot be used")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program fails that acts for the users of a namespace.
    #[error("`{program}` failed: {said}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
}

/// Returns the name of the folder that a layer is unpacked to.
pub(super) fn name(diff_id: &Digest) -> String {
    // Half of the digest: short enough for many layers in one mount, too long for anybody to make another of its name.
    diff_id.to_string().chars().take(32).collect()
}

/// Makes the folders that runs share, and returns what says that one is under way as long as it lives.
pub(super) fn enter(folder: &Path) -> io::Result<(PathBuf, PathBuf, File)> {
    let (trees, runs) = (folder.join("trees"), folder.join("runs"));
    // What lies in there has others' programs that run with their owner's rights, and that owner may be the user.
    make_private(folder)?;
    fs::create_dir_all(&trees)?;
    fs::create_dir_all(&runs)?;
    let in_use = File::create(folder.join("in-use"))?;
    in_use.lock_shared()?;
    Ok((trees, runs, in_use))
}

/// Takes away what runs that were cut off left, and all unpacked layers but those needed, which are named by the digests of their
/// archives before compression.
pub fn prune(settings: &Settings, needed: &BTreeSet<Digest>) -> Result<Space, TreesError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TreesError::Io { path, source }
    };
    let folder = &settings.folder;
    let (trees, runs, in_use) = enter(folder).map_err(io(folder))?;
    in_use.try_lock().map_err(|_| TreesError::Busy { folder: folder.clone() })?;
    let needed: BTreeSet<_> = needed.iter().map(name).collect();
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for folder in [&trees, &runs] {
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let entry = entry.map_err(io(folder))?;
            let is_kept = *folder == trees && entry.file_name().to_str().is_some_and(|name| needed.contains(name));
            if is_kept { kept.push(entry.path()) } else { gone.push(entry.path()) }
        }
    }
    let after = size(settings, &kept)?;
    let before = after + size(settings, &gone)?;
    as_owner(settings, "rm", &["--recursive", "--force", "--one-file-system"], &gone)?;
    Ok(Space { before, after })
}

/// Returns what trees take on the disk, in bytes.
fn size(settings: &Settings, paths: &[PathBuf]) -> Result<u64, TreesError> {
    let said = as_owner(settings, "du", &["--summarize", "--block-size=1"], paths)?;
    Ok(said.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum())
}

/// Runs a program on paths as whoever may do everything to them: their files belong to the users of a namespace.
fn as_owner(
    settings: &Settings,
    program: &'static str,
    options: &[&str],
    paths: &[PathBuf],
) -> Result<String, TreesError> {
    if paths.is_empty() {
        return Ok(String::new());
    }
    let mut command = Command::new(if settings.is_root { program } else { "unshare" });
    if !settings.is_root {
        command.args(["--user", "--map-root-user", "--map-auto", "--setgroups", "allow", "--", program]);
    }
    let output = command.args(options).arg("--").args(paths).stdin(Stdio::null()).output();
    let output = output.map_err(|source| TreesError::Io { path: program.into(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(TreesError::Program { program, said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_nobody_needs_goes_unless_something_runs() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            helper: (PathBuf::new(), Vec::new()),
            runtime: PathBuf::new(),
            folder: folder.path().to_owned(),
            is_root: true,
        };
        let [one, two] = [b"one", b"two"].map(|text| Digest::of(text));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (trees, runs, running) = enter(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        for folder in [trees.join(name(&one)), trees.join(name(&two)), runs.join("run-1/work")] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), vec![b'x'; 100_000]).unwrap();
        }
        let needed = BTreeSet::from([two]);
        assert!(matches!(prune(&settings, &needed), Err(TreesError::Busy { .. })));
        drop(running);
        let space = prune(&settings, &needed).unwrap();
        assert!(space.after >= 100_000 && space.before >= space.after + 200_000, "{space:?}");
        let left: Vec<_> = fs::read_dir(&trees).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [name(&two).as_str()]);
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
        assert_eq!(prune(&settings, &needed).unwrap(), Space { before: space.after, after: space.after });
    }
}
