//! Whether a stored layer is still as it was when it was known to be whole.
//!
//! Neither podman's `exists` nor `inspect`, `run` or `pull` notice a file of a layer that was deleted, cut short or overwritten,
//! and the check that does reads all of storage. A seal is a fingerprint of everything that changes when a file does, taken
//! when a layer was known to be whole and durable; while it still fits, nobody has touched the layer. It lies beside the
//! layer's tree, so that it goes when the layer does. A seal that is lost costs a check and nothing else.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use charly_ir::message::Problem;

use super::podman::{Podman, failed};
use crate::process::Exit;
use crate::worker::WorkError;

/// The file that a seal is, beside a layer's tree.
const FILE: &str = "charly-seal";

/// What a seal begins with; another way to take a fingerprint gets another number.
const FORM: &str = "1";

/// Whether a layer's seal fits its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// Nothing was touched.
    Fits,
    /// Something was.
    Broken,
    /// There is none.
    Absent,
}

/// Compares a layer with its seal.
pub(super) fn compare(folder: &Path, fingerprint: Digest) -> Seal {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    match text.trim_end().split_once(' ').map(|(form, digest)| (form, digest.parse::<Digest>())) {
        Some((FORM, Ok(digest))) if digest == fingerprint => Seal::Fits,
        Some((FORM, Ok(_))) => Seal::Broken,
        _ => Seal::Absent,
    }
}

/// Seals a layer that is known to be whole, and durable.
pub(super) fn write(folder: &Path, fingerprint: Digest) -> io::Result<()> {
    let new = folder.join(format!(".{FILE}"));
    let mut file = fs::File::create(&new)?;
    file.write_all(format!("{FORM} {fingerprint}\n").as_bytes())?;
    drop(file);
    fs::rename(&new, folder.join(FILE))
}

/// Takes the fingerprints of layers.
///
/// Trees may have folders that their owner alone can read, and that is nobody known outside of podman's user namespace; then
/// podman lets this program in.
pub(super) fn fingerprints(podman: &Podman<'_>, folders: &[PathBuf]) -> Result<Vec<Digest>, WorkError> {
    let direct: io::Result<Vec<_>> = folders.iter().map(|folder| fingerprint(&folder.join("diff"))).collect();
    match direct {
        Ok(found) => return Ok(found),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {}
        Err(error) => {
            let problem = Problem::new("the layers cannot be looked at").because(error.to_string());
            return Err(WorkError::Program(Box::new(problem)));
        }
    }
    let own = std::env::current_exe().unwrap_or_default();
    let own = own.to_string_lossy();
    let mut arguments = vec!["unshare", &own, "fingerprints"];
    let names: Vec<_> = folders.iter().map(|folder| folder.join("diff").to_string_lossy().into_owned()).collect();
    arguments.extend(names.iter().map(String::as_str));
    let asked = podman.run(&arguments)?;
    let found: Option<Vec<Digest>> = asked.stdout.text().lines().map(|line| line.parse().ok()).collect();
    match found.filter(|found| found.len() == folders.len() && asked.exit == Exit::Status(0)) {
        Some(found) => Ok(found),
        None => Err(failed("cannot look at its layers", &asked)),
    }
}

/// Writes the fingerprints of folders, a line for each: how this program answers itself from within a namespace.
pub fn print_fingerprints(folders: impl Iterator<Item = String>, into: &mut impl io::Write) -> io::Result<()> {
    folders.into_iter().try_for_each(|folder| writeln!(into, "{}", fingerprint(Path::new(&folder))?))
}

/// Digests what `lstat` says of every path of a tree: whatever changes content, mode or owner changes the time of change, too.
///
/// Owners are left out: they look different from within a user namespace.
fn fingerprint(tree: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut waiting = vec![tree.to_owned()];
    take(&mut hasher, b"", &fs::symlink_metadata(tree)?);
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata()?;
            take(&mut hasher, entry.file_name().as_bytes(), &metadata);
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
        // Where a folder ends is told, lest what is in it could as well be in the next.
        hasher.update(&[0xff, 0]);
    }
    Ok(hasher.finish())
}

fn take(hasher: &mut Hasher, name: &[u8], metadata: &Metadata) {
    hasher.update(name);
    hasher.update(&[0]);
    let numbers = [
        u64::from(metadata.mode()),
        metadata.size(),
        metadata.ino(),
        metadata.rdev(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn layer() -> tempfile::TempDir {
        let layer = tempfile::tempdir().unwrap();
        let tree = layer.path().join("diff");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "content").unwrap();
        fs::write(tree.join("a/b/other"), "other").unwrap();
        symlink("file", tree.join("a/link")).unwrap();
        layer
    }

    #[test]
    fn whatever_is_done_to_a_layer_breaks_its_seal() {
        let harms: [(&str, fn(&Path)); 7] = [
            ("deleted", |tree| fs::remove_file(tree.join("a/file")).unwrap()),
            ("truncated", |tree| {
                fs::File::options().write(true).open(tree.join("a/file")).unwrap().set_len(3).unwrap()
            }),
            ("overwritten, times put back", |tree| {
                let path = tree.join("a/file");
                let before = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&path, "CONTENT").unwrap();
                fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
            }),
            ("made", |tree| fs::write(tree.join("a/b/new"), "").unwrap()),
            ("mode", |tree| fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap()),
            ("link", |tree| {
                fs::remove_file(tree.join("a/link")).unwrap();
                symlink("b", tree.join("a/link")).unwrap();
            }),
            ("moved", |tree| fs::rename(tree.join("a/file"), tree.join("a/b/file")).unwrap()),
        ];
        for (what, harm) in harms {
            let layer = layer();
            let tree = layer.path().join("diff");
            let before = fingerprint(&tree).unwrap();
            assert_eq!(compare(layer.path(), before), Seal::Absent, "{what}");
            write(layer.path(), before).unwrap();
            assert_eq!(
                compare(layer.path(), fingerprint(&tree).unwrap()),
                Seal::Fits,
                "{what}: the seal is no part of it"
            );
            fs::read(tree.join("a/file")).unwrap();
            assert_eq!(compare(layer.path(), fingerprint(&tree).unwrap()), Seal::Fits, "{what}: nor is reading");
            harm(&tree);
            assert_eq!(compare(layer.path(), fingerprint(&tree).unwrap()), Seal::Broken, "{what}");
        }
    }

    #[test]
    fn what_is_no_seal_is_none() {
        let layer = layer();
        let print = fingerprint(&layer.path().join("diff")).unwrap();
        for text in ["", "1", "1 x\n", &format!("2 {print}\n"), &format!("{print}\n")] {
            fs::write(layer.path().join(FILE), text).unwrap();
            assert_eq!(compare(layer.path(), print), Seal::Absent, "{text:?}");
        }
    }
}
