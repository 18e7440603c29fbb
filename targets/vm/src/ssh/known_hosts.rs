//! Keys of hosts that the user knows, as OpenSSH writes them down, and what they say of a key that a host shows.
//!
//! Nothing here trusts a host for the first time: that is the user's to do, and the cures say how.

mod line;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{Fingerprint, HashAlg};
use russh::keys::{Algorithm, PublicKey};

use super::{Note, Place};
use line::{Entry, Marker};

/// The port whose hosts are written down without it.
const PORT: u16 = 22;

/// The hosts of some files.
#[derive(Debug, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
    notes: Vec<Note>,
}

/// A key that is known for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// Where it is written down.
    pub place: Place,
    /// Its kind.
    pub algorithm: Algorithm,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// What the files say of a key that a host showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key is the host's.
    Known,
    /// No key of this kind is known for the host.
    Unknown {
        /// The files that were asked.
        files: Vec<PathBuf>,
        /// Keys of other kinds that are known for the host. If there are any, this is no first meeting: a host that was asked for the
        /// [kinds that are known](KnownHosts::algorithms_known) and shows another is either set up anew or somebody else. OpenSSH
        /// calls that a changed key.
        others: Vec<KnownKey>,
        /// Lines that trust whoever shows a certificate of an authority, which charly does not support.
        authorities: Vec<Place>,
    },
    /// The host is known by another key of this kind.
    Changed {
        /// The key that is known.
        known: KnownKey,
        /// The fingerprint of the key that the host showed.
        theirs: Fingerprint,
    },
    /// The key is written down as one that must not be trusted any more.
    Revoked {
        /// Where.
        place: Place,
    },
}

impl KnownHosts {
    /// Reads files' texts. Lines that cannot be understood are passed over and noted.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let mut hosts = Self::default();
        for (file, text) in files {
            for (index, text) in text.lines().enumerate() {
                let place = Place { file: file.to_owned(), line: index + 1 };
                match line::parse(text, &place) {
                    Ok(entry) => hosts.entries.extend(entry),
                    Err(text) => hosts.notes.push(Note { place, text }),
                }
            }
            hosts.files.push(file.to_owned());
        }
        hosts
    }

    /// Returns what was passed over.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Judges the key that a host showed. A host with an alias is asked for by the alias, at port 22.
    pub fn judge(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        let [name, bare] = names(host, port);
        let is = |entry: &&Entry| entry.key.key_data() == key.key_data();
        let marked = |marker| self.entries.iter().filter(move |entry| entry.marker == marker);
        if let Some(entry) =
            marked(Marker::Revoked).filter(is).find(|entry| entry.is_about(&name) || entry.is_about(&bare))
        {
            return Verdict::Revoked { place: entry.place.clone() };
        }
        let known: Vec<_> = self.known(&name).collect();
        // A key that is known for the host without a port is good for every port, but other keys at other ports are no change.
        if known.iter().copied().any(|entry| is(&entry))
            || known.is_empty() && self.known(&bare).any(|entry| is(&entry))
        {
            return Verdict::Known;
        }
        match known.iter().find(|entry| entry.key.algorithm() == key.algorithm()) {
            Some(entry) => Verdict::Changed { known: entry.known(), theirs: key.fingerprint(HashAlg::Sha256) },
            None => Verdict::Unknown {
                files: self.files.clone(),
                others: known.iter().map(|entry| entry.known()).collect(),
                authorities: marked(Marker::Authority)
                    .filter(|entry| entry.is_about(&name))
                    .map(|entry| entry.place.clone())
                    .collect(),
            },
        }
    }

    /// Returns the algorithms by which a host can show a key that is known for it.
    ///
    /// A connection must ask for these first: a host that has several keys would otherwise show one that is not known.
    pub fn algorithms_known(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let [name, bare] = names(host, port);
        let mut known = self.known(&name).peekable();
        let entries: Vec<_> = if known.peek().is_some() { known.collect() } else { self.known(&bare).collect() };
        let mut algorithms = Vec::new();
        for entry in entries {
            let ways = match entry.key.algorithm() {
                // One key, several ways to sign with it; the one that hashes by SHA-1 is not among those anybody should use.
                Algorithm::Rsa { .. } => {
                    vec![Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }]
                }
                algorithm => vec![algorithm],
            };
            algorithms.extend(ways.into_iter().filter(|way| !algorithms.contains(way)).collect::<Vec<_>>());
        }
        algorithms
    }

    /// Returns the lines that say which keys are a host's.
    fn known(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.marker == Marker::None && entry.is_about(name))
    }
}

/// Returns the command that writes an unknown host's keys down. The fingerprint is to be compared before.
///
/// `alias` is the name it is known by where that is not its own, and `behind` how `ssh` logs in to where it can be reached from.
pub fn cure_unknown(host: &str, port: u16, alias: Option<&str>, behind: Option<&str>, file: &Path) -> String {
    let port = if port == PORT { String::new() } else { format!("-p {port} ") };
    let scan = format!("ssh-keyscan {port}{}", quoted(host));
    let scan = behind.map_or_else(|| scan.clone(), |login| format!("ssh {login} {}", quoted(&scan)));
    // What a scan names is not what an alias is written down as.
    let named = alias.map(|alias| format!(" | sed {}", quoted(&format!("s/^[^ ]*/{}/", alias.replace('/', "\\/")))));
    format!("{scan}{} >> {}", named.unwrap_or_default(), quoted(&file.to_string_lossy()))
}

/// Returns the command that forgets a host whose keys have changed. Why they have is to be found out before.
pub fn cure_changed(host: &str, port: u16, file: &Path) -> String {
    let [name, _] = names(host, port);
    format!("ssh-keygen -R {} -f {}", quoted(&name), quoted(&file.to_string_lossy()))
}

/// Returns the name that a host has in files, and the one without its port.
fn names(host: &str, port: u16) -> [String; 2] {
    let host = host.to_ascii_lowercase();
    let name = if port == PORT { host.clone() } else { format!("[{host}]:{port}") };
    [name, host]
}

/// Quotes a word for a shell. What cannot be quoted is shown without what makes it so.
fn quoted(word: &str) -> String {
    shlex::try_quote(&word.replace('\0', "")).map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}
