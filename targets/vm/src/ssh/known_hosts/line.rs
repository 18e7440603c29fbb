//! One line: a marker, names, a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::PublicKey;
use russh::keys::ssh_key::HashAlg;
use sha1::Sha1;

use super::KnownKey;
use crate::ssh::{Place, pattern};

/// What a line says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) marker: Marker,
    names: Names,
    pub(super) key: PublicKey,
}

/// What a line says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// It is the host's.
    None,
    /// It is not to be trusted.
    Revoked,
    /// It signs hosts' certificates.
    Authority,
}

#[derive(Debug)]
enum Names {
    /// Patterns, separated by commas.
    Patterns(String),
    /// One name that the file's reader shall not learn.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Entry {
    /// Returns whether the line is about a host, named as files name it and in lower case.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match &self.names {
            Names::Patterns(patterns) => pattern::list_matches_host(name, patterns),
            Names::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        }
    }

    pub(super) fn known(&self) -> KnownKey {
        KnownKey {
            place: self.place.clone(),
            algorithm: self.key.algorithm(),
            fingerprint: self.key.fingerprint(HashAlg::Sha256),
        }
    }
}

/// Reads a line, or returns nothing for an empty one or a comment, or what is wrong with it.
pub(super) fn parse(text: &str, place: &Place) -> Result<Option<Entry>, String> {
    let mut words = text.split_ascii_whitespace().peekable();
    let Some(first) = words.next_if(|word| !word.starts_with('#')) else { return Ok(None) };
    let (marker, names) = match first {
        "@revoked" => (Marker::Revoked, words.next()),
        "@cert-authority" => (Marker::Authority, words.next()),
        _ if first.starts_with('@') => return Err(format!("the marker `{}` is not known", first.escape_debug())),
        _ => (Marker::None, Some(first)),
    };
    let (Some(names), Some(kind), Some(key)) = (names, words.next(), words.next()) else {
        return Err("a line without names, a key's kind and the key".to_owned());
    };
    let names = match names.strip_prefix('|') {
        Some(hashed) => hashed_name(hashed).ok_or("a hashed name that is none")?,
        None => Names::Patterns(names.to_owned()),
    };
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).map_err(|error| format!("no key: {error}"))?;
    Ok(Some(Entry { place: place.clone(), marker, names, key }))
}

/// Reads `1|salt|hash`.
fn hashed_name(text: &str) -> Option<Names> {
    let (salt, hash) = text.strip_prefix("1|")?.split_once('|')?;
    let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
    (hash.len() == 20).then_some(Names::Hashed { salt, hash })
}
