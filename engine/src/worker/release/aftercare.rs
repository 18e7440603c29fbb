//! What services need after files of theirs were put back.

use std::collections::BTreeSet;

use crate::ledger::{Entry, Resource, State};
use crate::resource;
use crate::venue::Venue;
use crate::worker::WorkError;

/// What services need after files of theirs were put back.
#[derive(Debug, Default)]
pub(super) struct Aftercare {
    /// Managers that must read unit files anew: the machine's, the user's.
    reload: BTreeSet<bool>,
    /// Units that run on, and take up what was put back.
    refresh: BTreeSet<(bool, String)>,
}

impl Aftercare {
    pub(super) fn note(&mut self, resource: &Resource, entry: &Entry) {
        match (resource, &entry.before.state) {
            (Resource::Path(path), _) if path.starts_with("/etc/systemd/system/") => {
                self.reload.insert(false);
            }
            (Resource::Path(path), _) if path.contains("/.config/systemd/user/") => {
                self.reload.insert(true);
            }
            (Resource::Unit { user, name }, State::Unit(before)) if before.active => {
                self.refresh.insert((*user, name.clone()));
            }
            _ => {}
        }
    }

    pub(super) fn give(self, venue: &Venue) -> Result<(), WorkError> {
        let Self { reload, refresh } = self;
        for user in &reload {
            resource::reload_units(venue, *user)?;
        }
        for (user, name) in refresh {
            // One whose drop-in went has to start anew; any other takes its files up as it can.
            resource::refresh_unit(venue, user, &name, reload.contains(&user))?;
        }
        Ok(())
    }
}
