//! Judges a machine's key while a connection is made.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client;
use russh::client::{Handler, Session};
use russh::keys::PublicKey;
use russh::keys::PublicKeyOrCertificate;

/// Says what is wrong with a key, if anything is: what, and what to do about it.
pub(super) type Judge = Box<dyn Fn(&PublicKey) -> Result<(), Wrong> + Send>;

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) hint: String,
}

/// Stands between the SSH library and a machine: nothing is said to one whose key is not known.
pub(super) struct Guard {
    judge: Judge,
    wrong: Arc<Mutex<Option<Wrong>>>,
}

/// What a guard found, to be read once the library has given up.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding(Arc<Mutex<Option<Wrong>>>);

impl Guard {
    pub(super) fn new(judge: Judge) -> (Self, Finding) {
        let finding = Finding::default();
        (Self { judge, wrong: Arc::clone(&finding.0) }, finding)
    }
}

impl Finding {
    pub(super) fn take(&self) -> Option<Wrong> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates are not asked for, so none is offered by a server that keeps to the protocol.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let verdict = (self.judge)(key);
        let good = verdict.is_ok();
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = verdict.err();
        Ok(good)
    }

    async fn auth_banner(&mut self, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The library's handle on a connection that a guard let through.
pub(super) type Handle = client::Handle<Guard>;
