//! Delivers images: to the login user's storage by this engine, to root's by root's.

use std::path::{Path, PathBuf};

use charly_ir::facts::User;
use charly_ir::message::{Deliver, Delivered, Done, Problem, Reply, Report, Verdict};

use super::root::RootHand;
use super::{Session, untouched};
use crate::accounts::Accounts;
use crate::image::{self, Site};
use crate::process::Cancel;
use crate::session::Peer;
use crate::worker::WorkError;

/// Root's folder for what may be thrown away.
const CACHE: &str = "/var/cache/charly";

/// Where root's container storage usually is.
const STORAGE: &str = "/var/lib/containers/storage";

impl Session<'_> {
    pub(super) fn deliver(&mut self, order: &Deliver) -> Done {
        match self.try_deliver(order) {
            Ok(delivered) => {
                self.peer.send(Reply::Report(Report::Delivered(delivered)));
                Done::verdict(Verdict::Ok)
            }
            Err(error) => untouched(&error),
        }
    }

    fn try_deliver(&mut self, order: &Deliver) -> Result<Delivered, WorkError> {
        let is_root = rustix::process::geteuid().is_root();
        if self.settings.root != Path::new("/") {
            let problem = Problem::new("there is no container storage in a root that is not the machine's own");
            return Err(WorkError::Unfit(Box::new(problem)));
        }
        match (order.rootless, is_root) {
            (false, true) => as_root(order, self.peer, &self.settings.cancel),
            (false, false) => RootHand::connect(self.settings, self.sudo_password.as_ref())?.deliver(order, self.peer),
            (true, _) => {
                let user = self.settings.facts.user.clone();
                let home = PathBuf::from(&user.home);
                let (cache, storage) = (home.join(".cache/charly"), home.join(".local/share/containers/storage"));
                image::deliver(order, &Site { user, cache, storage, cancel: &self.settings.cancel }, self.peer)
            }
        }
    }
}

/// Delivers to root's storage, as root.
pub(super) fn as_root(order: &Deliver, peer: &mut dyn Peer, cancel: &Cancel) -> Result<Delivered, WorkError> {
    let known = Accounts::new(PathBuf::from("/")).run_as("root").map(|root| root.user);
    let user = known.unwrap_or_else(|_| User {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
        home: "/root".to_owned(),
        shell: "/bin/sh".to_owned(),
    });
    image::deliver(order, &Site { user, cache: CACHE.into(), storage: STORAGE.into(), cancel }, peer)
}
