//! What is known of a machine's keys. (Stands in until `known_hosts` is merged.)
use super::error::ConnectError;
use super::host_key::{Judge, Wrong};
use super::route::Hop;
use russh::keys::{Algorithm, PublicKey};
pub(super) struct Known(Vec<PublicKey>);
impl Known {
    pub(super) fn read(hop: &Hop) -> Result<Self, ConnectError> {
        let mut keys = vec![];
        for f in &hop.known_hosts {
            for (_, k) in russh::keys::known_hosts::known_host_keys_path(&hop.host, hop.port, f).unwrap_or_default() {
                keys.push(k)
            }
        }
        Ok(Self(keys))
    }
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        self.0.iter().map(PublicKey::algorithm).collect()
    }
}
pub(super) fn judge(known: Known, _hop: &Hop) -> Judge {
    Box::new(move |key| {
        if known.0.iter().any(|k| k.key_data() == key.key_data()) {
            Ok(())
        } else {
            Err(Wrong { what: "unknown host key".into(), hint: "".into() })
        }
    })
}
