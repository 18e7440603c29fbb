//! Images of this machine's podman, read from where it keeps them.
//!
//! Podman's storage keeps layers unpacked, and of each archive what it takes to write it again byte for byte. So nothing is
//! packed, or written anywhere, to serve an image from it.
//!
//! | module | what it holds |
//! |---|---|
//! | `storage` | images and layers as storage knows them |
//! | `tar_split` | an archive from its unpacked files and what is kept beside them |
//! | `saved` | the slower way, where storage cannot be read directly |

mod saved;
mod storage;
mod tar_split;

use std::io;
use std::process::{Command, Stdio};

use crate::serve::{ServeError, Served};

/// The most names that are worth a hint.
const NEAR: usize = 5;

/// Opens an image of podman's.
pub(crate) fn open(name: &str) -> Result<Served, ServeError> {
    match run(&["image", "inspect", name]) {
        Ok(json) => storage::open(&json, name),
        Err(ServeError::Podman { source, .. }) if is_unknown(&source.to_string()) => Err(ServeError::Unknown {
            name: name.to_owned(),
            place: "in podman's storage here".to_owned(),
            near: near(name),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) use storage::open as opened;

fn is_unknown(said: &str) -> bool {
    ["not known", "no such image", "unable to find"].iter().any(|words| said.contains(words))
}

/// Returns names of images that somebody may have meant.
fn near(name: &str) -> Vec<String> {
    let listed = run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    nearest(name, listed.lines().filter(|line| !line.contains('<')))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let last = |name: &str| {
        name.rsplit('/').next().unwrap_or_default().split([':', '@']).next().unwrap_or_default().to_owned()
    };
    let wanted = last(name);
    let mut scored: Vec<_> =
        known.map(|known| (strsim::jaro_winkler(&last(known), &wanted), known.to_owned())).collect();
    scored.sort_by(|(one, a), (other, b)| other.total_cmp(one).then_with(|| a.cmp(b)));
    scored.into_iter().take_while(|(score, _)| *score > 0.7).take(NEAR).map(|(_, name)| name).collect()
}

/// Runs podman and returns what it printed.
fn run(arguments: &[&str]) -> Result<Vec<u8>, ServeError> {
    let what = || format!("failed: `podman {}`", arguments.join(" "));
    let output = Command::new("podman").args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ServeError::NoPodman,
        _ => ServeError::Podman { what: what(), source },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect::<String>();
    Err(ServeError::Podman { what: what(), source: io::Error::other(said) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_told() {
        let known = ["localhost/web:latest", "docker.io/library/debian:13", "localhost/wev:1", "localhost/other:2"];
        assert_eq!(nearest("wep", known.into_iter()), ["localhost/web:latest", "localhost/wev:1"]);
        assert_eq!(nearest("zzz", known.into_iter()), [""; 0]);
    }
}
