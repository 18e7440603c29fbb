//! Judges a machine's key while a connection is made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{self, Handler, Session};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};

use super::error::ConnectError;
use super::known_hosts::{KnownHosts, KnownKey, Verdict, cure_changed, cure_unknown};
use super::route::Hop;

/// The library's handle on a connection that a guard let through.
pub(super) type Handle = client::Handle<Guard>;

/// Stands between the SSH library and a machine: nothing is said to one whose key is not known.
pub(super) struct Guard {
    known: KnownHosts,
    hop: Hop,
    finding: Finding,
}

/// What a guard found, to be read once the library has given up.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding(Arc<Mutex<Option<ConnectError>>>);

impl Guard {
    /// Reads what is known of a machine. Files that are not there know nothing.
    pub(super) fn new(hop: &Hop) -> Result<Self, ConnectError> {
        let mut texts = Vec::new();
        for file in &hop.known_hosts {
            match std::fs::read_to_string(file) {
                Ok(text) => texts.push((file.as_path(), text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !hop.known_hosts_required => {}
                Err(source) => return Err(ConnectError::KnownHosts { path: file.clone(), source }),
            }
        }
        let known = KnownHosts::parse(texts.iter().map(|(file, text)| (*file, text.as_str())));
        Ok(Self { known, hop: hop.clone(), finding: Finding::default() })
    }

    /// Returns the kinds of keys that are known, which the machine is asked to show first.
    pub(super) fn algorithms(&self) -> Vec<russh::keys::Algorithm> {
        let (host, port) = self.hop.known_as();
        self.known.algorithms_known(host, port)
    }

    /// Returns where it will say what it found.
    pub(super) fn finding(&self) -> Finding {
        self.finding.clone()
    }

    fn judge(&self, key: &PublicKey) -> Result<(), ConnectError> {
        let (host, port) = self.hop.known_as();
        let at = self.hop.at();
        let shown = format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256));
        let keeps = |file: &&PathBuf| file.as_path() != Path::new("/dev/null");
        let file = self.hop.known_hosts.iter().find(keeps).map_or(Path::new("~/.ssh/known_hosts"), |file| file);
        let refuse = |what: String, hint: String| Err(ConnectError::HostKey { what, hint });
        match self.known.judge(host, port, key) {
            Verdict::Known => Ok(()),
            Verdict::Unknown { files, others, authorities } => {
                let files: Vec<_> = files.iter().map(|file| format!("`{}`", file.display())).collect();
                let mut parts = vec![format!("the key of `{at}` is not known: it shows {shown}")];
                if !files.is_empty() {
                    parts.push(format!("{} has none of that kind", files.join(" or ")));
                }
                let known = |other: &KnownKey| {
                    format!("{} knows {} {}", other.place, other.algorithm.as_str(), other.fingerprint)
                };
                parts.extend(others.iter().map(known));
                let distrust = |place| format!("{place} trusts an authority, which charly does not support");
                parts.extend(authorities.iter().map(distrust));
                let what = parts.join("; ");
                let Hop { alias, behind, .. } = &self.hop;
                let cure = cure_unknown(&self.hop.host, self.hop.port, alias.as_deref(), behind.as_deref(), file);
                refuse(
                    what,
                    format!("compare the fingerprint with the machine's own, then write it down with `{cure}`"),
                )
            }
            Verdict::Changed { known, theirs } => {
                let what = format!(
                    "the key of `{at}` has changed: it shows {} {theirs}, and {} has {}. Somebody may be between you and it",
                    key.algorithm().as_str(),
                    known.place,
                    known.fingerprint,
                );
                let cure = cure_changed(host, port, &known.place.file);
                refuse(what, format!("if you know why, forget the old one with `{cure}`, and write the new one down"))
            }
            Verdict::Revoked { place } => refuse(
                format!("the key of `{at}` is revoked: it shows {shown}, and {place} says never to trust it"),
                "give the machine a new key".to_owned(),
            ),
        }
    }
}

impl Finding {
    pub(super) fn take(&self) -> Option<ConnectError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates are not asked for, so none is offered by a server that keeps to the protocol.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let verdict = self.judge(key);
        let good = verdict.is_ok();
        *self.finding.0.lock().unwrap_or_else(PoisonError::into_inner) = verdict.err();
        Ok(good)
    }

    async fn auth_banner(&mut self, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        Ok(())
    }
}
