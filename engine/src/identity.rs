//! On whose behalf this process acts on files.

use charly_ir::message::Problem;
use charly_ir::plan::Scope;
use rustix::process::{Gid, Uid};
use rustix::thread;

use crate::accounts::{Accounts, RunAs};
use crate::tree::TreeError;
use crate::venue::Venue;
use crate::worker::WorkError;

/// Returns who owns what a step of this scope places: user and group.
pub(crate) fn owner_of(venue: &Venue, scope: &Scope) -> Result<(u32, u32), WorkError> {
    match scope {
        Scope::System | Scope::User | Scope::UserProfile => Ok(venue.owner),
        Scope::Other(user) => {
            let who = run_as(venue, user)?.identity;
            Ok((who.uid, who.gid))
        }
    }
}

/// Returns whom a `run_as` means on this venue.
pub(crate) fn run_as(venue: &Venue, user: &str) -> Result<RunAs, WorkError> {
    Accounts::new(venue.root.outside("/")).run_as(user).map_err(|error| {
        let mut problem = Problem::from_error(&error);
        problem.hint = error.hint().map(str::to_owned);
        WorkError::Program(Box::new(problem))
    })
}

/// Does something on files as the user that a step names, so that the kernel judges each access by that user's rights: root
/// never writes in somebody's home, it lets them write there.
///
/// It is this thread's effective user and groups that change, and they change back whatever happens. The engine's work is
/// done by one thread.
pub(crate) fn acting_as<T>(
    venue: &Venue,
    scope: &Scope,
    work: impl FnOnce() -> Result<T, WorkError>,
) -> Result<T, WorkError> {
    let Scope::Other(user) = scope else { return work() };
    let identity = run_as(venue, user)?.identity;
    if identity.uid == rustix::process::geteuid().as_raw() {
        return work();
    }
    let error = |errno: rustix::io::Errno| TreeError::new("act as user", user, errno);
    let former = rustix::process::getgroups().map_err(error)?;
    let groups: Vec<_> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let restored = Restore { former };
    thread::set_thread_groups(&groups).map_err(error)?;
    let keep = (None::<Gid>, None::<Uid>);
    thread::set_thread_res_gid(keep.0, Some(Gid::from_raw(identity.gid)), keep.0).map_err(error)?;
    thread::set_thread_res_uid(keep.1, Some(Uid::from_raw(identity.uid)), keep.1).map_err(error)?;
    let result = work();
    drop(restored);
    result
}

struct Restore {
    former: Vec<Gid>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        let back = thread::set_thread_res_uid(None::<Uid>, Some(Uid::ROOT), None::<Uid>)
            .and_then(|()| thread::set_thread_res_gid(None::<Gid>, Some(Gid::ROOT), None::<Gid>))
            .and_then(|()| thread::set_thread_groups(&self.former));
        // A root engine that cannot be root again must not go on as somebody else.
        assert!(back.is_ok(), "cannot take root's rights up again: {back:?}");
    }
}
