//! Bases: disks that machines' own lie over, kept by digest and never changed.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_target_core::fetch::Fetcher;
use sha2::{Digest as _, Sha512};

use super::spec::{Checksum, ChecksumKind, DiskFormat};
use super::{MachineError, disk};

/// The longest list of checksums that is read.
const LONGEST_LIST: u64 = 1 << 20;

/// A disk that others lie over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
}

/// Returns the base of a distribution's image, fetching what is not there.
pub fn fetched(
    folder: &Path,
    url: &str,
    checksum: Option<&Checksum>,
    fetcher: &mut Fetcher,
) -> Result<Base, MachineError> {
    let want = checksum.map(|checksum| Ok((checksum.kind, digits(url, checksum, fetcher)?))).transpose()?;
    let sha256 = match &want {
        Some((ChecksumKind::Sha256, digits)) => {
            let damaged =
                |_| MachineError::invalid(format!("`{digits}` is no checksum"), "write 64 hexadecimal digits");
            Some(digits.parse::<Digest>().map_err(damaged)?)
        }
        _ => None,
    };
    if let Some(known) = sha256.and_then(|digest| known(folder, digest)) {
        return Ok(known);
    }
    let image = fetcher.fetch(url, sha256).map_err(MachineError::Fetch)?;
    if let Some((ChecksumKind::Sha512, want)) = &want {
        let got = sha512(&image.path).map_err(MachineError::file("read", &image.path))?;
        if got != *want {
            let what = format!("`{url}` adds up to {got}, not to {want}");
            return Err(MachineError::invalid(
                what,
                "if the publisher changed the image on purpose, declare its new checksum",
            ));
        }
    }
    keep(folder, &image.path, image.digest)
}

/// Makes a file a base. The file may go afterwards.
pub fn keep(folder: &Path, from: &Path, digest: Digest) -> Result<Base, MachineError> {
    if let Some(known) = known(folder, digest) {
        return Ok(known);
    }
    let format = disk::format(from)?;
    disk::alone(from, format)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(MachineError::file("made", folder))?;
    // One at a time, so that what was left half copied has one name and takes the space of one.
    let lock = folder.join(".lock");
    let _lock =
        File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(MachineError::file("locked", &lock))?;
    if let Some(known) = known(folder, digest) {
        return Ok(known);
    }
    let path = folder.join(format!("{digest}.{}", disk::name(format)));
    let part = folder.join(".part");
    let absent = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    // A copy of its own: whoever holds the other name may write through it.
    fs::remove_file(&part)
        .or_else(absent)
        .and_then(|()| fs::copy(from, &part))
        .and_then(|_| fs::set_permissions(&part, Permissions::from_mode(0o444)))
        .and_then(|()| File::open(&part)?.sync_all())
        .and_then(|()| fs::rename(&part, &path))
        .map_err(MachineError::file("written", &path))?;
    Ok(Base { path, format })
}

fn known(folder: &Path, digest: Digest) -> Option<Base> {
    let formats = [DiskFormat::Qcow2, DiskFormat::Raw].into_iter();
    let mut bases =
        formats.map(|format| Base { path: folder.join(format!("{digest}.{}", disk::name(format))), format });
    bases.find(|base| base.path.exists())
}

/// Returns a checksum's digits, out of the list they stand in where it names one.
fn digits(url: &str, checksum: &Checksum, fetcher: &mut Fetcher) -> Result<String, MachineError> {
    if !checksum.value.contains("://") {
        return Ok(checksum.value.clone());
    }
    let list = fetcher.fetch(&checksum.value, None).map_err(MachineError::Fetch)?;
    let mut text = String::new();
    let read = File::open(&list.path).and_then(|file| file.take(LONGEST_LIST).read_to_string(&mut text));
    read.map_err(MachineError::file("read", &list.path))?;
    let name = url.rsplit('/').next().unwrap_or(url);
    let length = if checksum.kind == ChecksumKind::Sha256 { 64 } else { 128 };
    listed(&text, name, length).ok_or_else(|| {
        let what = format!("`{}` lists no checksum of `{name}`", checksum.value);
        MachineError::invalid(what, "write the digits themselves")
    })
}

/// Finds a file's digits in a list such as `sha256sum` writes, or `openssl`.
fn listed(text: &str, name: &str, length: usize) -> Option<String> {
    let lines = text.lines().filter_map(|line| match line.split_once(" = ") {
        Some((file, digits)) => Some((digits.trim(), file.split_once('(')?.1.strip_suffix(')')?)),
        None => {
            line.split_once(char::is_whitespace).map(|(digits, file)| (digits, file.trim().trim_start_matches('*')))
        }
    });
    let fits = |(digits, file): &(&str, &str)| {
        file.rsplit('/').next() == Some(name)
            && digits.len() == length
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    lines.into_iter().find(fits).map(|(digits, _)| digits.to_ascii_lowercase())
}

fn sha512(path: &Path) -> io::Result<String> {
    let mut hasher = Sha512::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let mut digits = String::new();
    for byte in hasher.finalize() {
        // Text takes whatever is written to it.
        write!(digits, "{byte:02x}").ok();
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_all_their_forms() {
        let (a, b) = ("a".repeat(64), "B".repeat(128));
        let text = format!("{a}  other.img\n{a} *x.img\n\nSHA512 (y.img) = {b}\nshort  z.img\n{a}  ./dir/w.img\n");
        for (name, length, want) in [
            ("x.img", 64, Some(a.clone())),
            ("y.img", 128, Some(b.to_ascii_lowercase())),
            ("w.img", 64, Some(a.clone())),
            ("x.img", 128, None),
            ("z.img", 64, None),
            ("img", 64, None),
        ] {
            assert_eq!(listed(&text, name, length), want, "{name}");
        }
    }
}
