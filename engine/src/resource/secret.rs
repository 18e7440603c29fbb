//! Files whose content nobody else may know, this ledger included.

use std::collections::BTreeMap;
use std::io::Read as _;

use charly_ir::Digest;
use charly_ir::digest::Hasher;

use super::{Looked, Source, path};
use crate::ledger::{Entry, Ledger, State};
use crate::resource::path::Restored;
use crate::tree::{self, Node};
use crate::venue::Venue;
use crate::worker::WorkError;

/// Secrets are short; what is longer is none of charly's.
const MAX_SECRET: u64 = 1 << 20;

/// Digests a secret so that nobody without the key can try out guesses: HMAC-SHA-256 (RFC 2104).
pub(crate) fn keyed_digest(key: &[u8], bytes: &[u8]) -> Digest {
    let mut block = [0_u8; 64];
    block[..key.len().min(64)].copy_from_slice(&key[..key.len().min(64)]);
    let mut inner = Hasher::new();
    inner.update(&block.map(|byte| byte ^ 0x36));
    inner.update(bytes);
    let mut outer = Hasher::new();
    outer.update(&block.map(|byte| byte ^ 0x5c));
    outer.update(&inner.finish().bytes());
    outer.finish()
}

/// Returns the file that a secret is placed as.
pub(crate) fn secret_node(source: &Source, mode: u32, uid: u32, gid: u32) -> Node {
    let bytes = match source {
        Source::Bytes(bytes) => bytes.as_slice(),
        Source::Blob { .. } | Source::None => &[],
    };
    let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
    Node::File { digest, size, mode, uid, gid, xattrs: BTreeMap::new(), mtime_ns: None }
}

/// Compares a file with the secret it should hold.
pub(super) fn look(
    venue: &Venue,
    path: &str,
    want: Digest,
    (mode, uid, gid): (u32, u32, u32),
    key: &dyn Fn() -> Result<Vec<u8>, WorkError>,
) -> Result<Looked, WorkError> {
    let actual = path::observe(venue, path)?;
    let difference = match &actual {
        Node::File { mode: m, uid: u, gid: g, size, .. } if (*m, *u, *g) == (mode, uid, gid) && *size <= MAX_SECRET => {
            (keyed(venue, path, &key()?)? != want).then(|| "its content differs".to_owned())
        }
        Node::File { .. } => Some("its mode, owner or content differs".to_owned()),
        other => Some(format!("it is {}", other.what())),
    };
    Ok(Looked { difference, absent: actual == Node::Absent })
}

/// Removes a secret that is still the one that was placed, and puts back what was there before.
pub(crate) fn restore_secret(venue: &Venue, ledger: &Ledger, path: &str, entry: &Entry) -> Result<Restored, WorkError> {
    let State::Secret { keyed: want, .. } = &entry.want else { return Ok(Restored::Done) };
    let actual = path::observe(venue, path)?;
    let ours =
        matches!(actual, Node::File { size, .. } if size <= MAX_SECRET) && keyed(venue, path, &ledger.key()?)? == *want;
    if !ours && actual != Node::Absent && entry.found.is_none() {
        return Ok(Restored::Kept("it was edited since"));
    }
    let mut as_found = entry.clone();
    as_found.want = State::Node(actual);
    let mut kept = match (&entry.before.state, entry.before.kept) {
        (State::Node(Node::File { digest, .. }), true) => Some(ledger.kept(*digest)?),
        _ => None,
    };
    let content = kept.as_mut().map(|file| file as &mut dyn std::io::Read);
    Ok(path::restore(venue, path, &as_found, content, false)?)
}

fn keyed(venue: &Venue, path: &str, key: &[u8]) -> Result<Digest, WorkError> {
    let mut bytes = Vec::new();
    let file = tree::open_file(&venue.root, path)?;
    file.take(MAX_SECRET).read_to_end(&mut bytes).map_err(|source| tree::TreeError::new("read", path, source))?;
    Ok(keyed_digest(key, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_hmac() {
        // RFC 4231, test case 2.
        let digest = keyed_digest(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(digest.to_string(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
