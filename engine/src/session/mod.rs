//! One conversation with a controller, from the first word to the last.
//!
//! The front engine runs as the login user and keeps the user's ledger. What root's ledger remembers is done by a second
//! *hand*: the same code in the same process where the login user is root, else in an engine that `sudo` started, which the
//! front speaks to in frames as a controller speaks to the front.

mod apply;
mod deliver;
mod fetch;
mod hand;
mod hands;
mod inspect;
mod patience;
mod peer;
mod remove;
mod root;
mod sudo;

pub use peer::{Incoming, Link, Peer, PipePeer};
pub use root::serve_root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use charly_ir::facts::Facts;
use charly_ir::frame::Frame;
use charly_ir::message::{
    CandySummary, DeployState, DeploySummary, Done, Event, Hello, PROTOCOL, Problem, Reply, Request, SecretValue,
    Verdict,
};

use crate::ledger::{DeployId, DeployRecord, Holder, Ledger, LedgerError, Probe};
use crate::process::Cancel;
use crate::reboot::Reboot;
use crate::resource::Desk;
use crate::tree::{Root, TreeError, Trust};
use crate::venue::{Side, Venue};
use crate::worker::WorkError;
use hand::Hand;
use hands::{Hands, Party};

/// Makes the probe for the ledger of a side; tests inject faults with it.
pub type MakeProbe = Box<dyn FnMut(Side) -> Option<Probe>>;

/// Where an engine works, and for whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// The venue and the deploying user.
    pub facts: Facts,
    /// How the venue is asked to reboot; absent where it cannot.
    pub reboot: Option<Reboot>,
    /// Whether to stop.
    pub cancel: Cancel,
}

/// Returns the first word to a controller.
pub fn hello(settings: &Settings) -> Hello {
    let deploys = summaries(settings).unwrap_or_default();
    let engine = env!("CARGO_PKG_VERSION").to_owned();
    Hello { protocol: PROTOCOL, engine, facts: settings.facts.clone(), deploys, unready: Vec::new() }
}

/// Answers one request, and says the last word on it.
pub fn serve(settings: &Settings, peer: &mut dyn Peer, probe: Option<MakeProbe>) {
    let Some(frame) = peer.receive() else {
        return peer.send(Reply::Done(Done::verdict(Verdict::Cancelled)));
    };
    let sudo_password = match &frame {
        Frame::Message(Request::Apply(apply)) => apply.sudo_password.clone(),
        Frame::Message(Request::Remove(remove)) => remove.sudo_password.clone(),
        Frame::Message(Request::Deliver(deliver)) => deliver.sudo_password.clone(),
        Frame::Message(Request::Fetch(fetch)) => fetch.sudo_password.clone(),
        _ => None,
    };
    let mut session = Session { settings, peer, probe, sudo_password };
    let done = match frame {
        Frame::Message(Request::Apply(apply)) => session.apply(&apply),
        Frame::Message(Request::Remove(remove)) => session.remove(&remove),
        Frame::Message(Request::Check(request)) => session.check(&request),
        Frame::Message(Request::Inspect(inspect)) => session.inspect(&inspect),
        Frame::Message(Request::Deliver(order)) => session.deliver(&order),
        Frame::Message(Request::Fetch(fetch)) => session.fetch(&fetch),
        _ => Done::verdict(Verdict::Invalid(Problem::new("the controller spoke out of turn"))),
    };
    peer.send(Reply::Done(done));
}

/// A conversation under way.
struct Session<'a> {
    settings: &'a Settings,
    peer: &'a mut dyn Peer,
    probe: Option<MakeProbe>,
    sudo_password: Option<SecretValue>,
}

/// What to do where another run holds a ledger.
const WAIT: &str = "wait for that run to end, then run the same command again";

impl Session<'_> {
    /// Returns the deploy's name as ledgers write it.
    fn deploy_id(&self, name: &str) -> Result<DeployId, WorkError> {
        let id = DeployId { uid: self.settings.facts.user.uid, name: name.to_owned() };
        id.to_string().parse().map_err(|_| WorkError::Plan(format!("`{name}` cannot name a deploy")))
    }

    fn event(&mut self, event: Event) {
        self.peer.send(Reply::Event(event));
    }

    /// Opens the sides for reading.
    fn reading(&self) -> Result<Hands, WorkError> {
        let mut parties: Vec<(Side, Box<dyn Party>)> = Vec::new();
        for side in [Side::User, Side::System] {
            parties.push((side, Box::new(Hand::reading(venue(self.settings, side)?)?)));
        }
        Ok(Hands::new(parties))
    }

    /// Opens the sides for writing, root's only where it is concerned.
    ///
    /// It is if the request asks for it, if its ledger knows of the deploy, or if the user's ledger names steps of a deploy that
    /// is there whole and does not have them itself: what cannot be read must never be taken for nothing. A run that was cut
    /// off may have steps that no ledger has yet, or has any more.
    fn writing(&mut self, run: &str, deploy: &DeployId, asks_root: bool) -> Result<Hands, WorkError> {
        let (run, since_s) = (run.to_owned(), now_s());
        let (pid, user) = (std::process::id(), self.settings.facts.user.name.clone());
        let holder = Holder { pid, run, deploy: deploy.name.clone(), user, since_s, step: String::new() };
        let probe = self.probe.as_mut().and_then(|probe| probe(Side::User));
        let mut user = Hand::writing(venue(self.settings, Side::User)?, holder.clone(), probe)
            .map_err(|error| self.where_it_is(error))?;
        let whole = user.book().deploys.get(deploy).filter(|record| record.state == DeployState::Complete);
        let named = whole.map_or(0, |record| record.candies.iter().map(|candy| candy.steps.len()).sum::<usize>());
        let concerned = asks_root
            || named > user.steps_of(deploy)?.len()
            || deploys(self.settings, Side::System).map_or(true, |deploys| deploys.contains_key(deploy));
        let mut parties: Vec<(Side, Box<dyn Party>)> = vec![(Side::User, Box::new(user))];
        if concerned {
            parties.push((Side::System, self.root_party(holder.clone())?));
        }
        if !concerned && self.is_leftover(Side::System) {
            // Should root not be had for it now, it is the next run's to take away.
            let _ = self.root_party(holder).and_then(Party::close);
        }
        let mut hands = Hands::new(parties);
        for interrupted in hands.each(|party| Ok::<_, WorkError>(party.interrupted()))?.into_iter().flatten() {
            let what = format!("it was cut off while it ran `{}`; what it left is known", interrupted.what);
            self.event(Event::Recovered { run: interrupted.run, deploy: interrupted.deploy.name, what });
        }
        Ok(hands)
    }

    /// Takes away what runs left that were cut off before their first records.
    fn sweep(&mut self, run: &str, deploy: &DeployId) {
        if [Side::User, Side::System].into_iter().any(|side| self.is_leftover(side)) {
            // Should that not be possible now, it is the next run's to do.
            let _ = self.writing(run, deploy, false).and_then(Hands::close);
        }
    }

    /// Says where a run is that holds the user's ledger, be it at work on root's.
    fn where_it_is(&self, mut error: WorkError) -> WorkError {
        let lock = |side| {
            let venue = venue(self.settings, side).ok()?;
            Some(venue.root.outside(&venue.ledger_path()).join("lock"))
        };
        if let WorkError::Ledger(LedgerError::Lock(held)) = &mut error
            && let Some((mine, other)) = lock(Side::User).zip(lock(Side::System))
        {
            held.or_at_step_of(&mine, &other);
        }
        error
    }

    fn is_leftover(&self, side: Side) -> bool {
        let folder = venue(self.settings, side).map(|venue| venue.root.outside(&venue.ledger_path()));
        folder.is_ok_and(|folder| Ledger::is_leftover(&folder))
    }

    /// Opens root's side: in this process where it may, that is where it is root or the root is not the machine's own.
    fn root_party(&mut self, holder: Holder) -> Result<Box<dyn Party>, WorkError> {
        if !rustix::process::geteuid().is_root() && self.settings.root == Path::new("/") {
            return Ok(Box::new(root::RootHand::start(self.settings, &holder, self.sudo_password.as_ref())?));
        }
        let probe = self.probe.as_mut().and_then(|probe| probe(Side::System));
        Ok(Box::new(Hand::writing(venue(self.settings, Side::System)?, holder, probe)?))
    }
}

/// Returns one side of the venue.
fn venue(settings: &Settings, side: Side) -> Result<Venue, WorkError> {
    let me = rustix::process::geteuid().as_raw();
    let trust = if me == 0 { Trust::Only(0) } else { Trust::Everybody };
    let root = Root::open(&settings.root, trust).map_err(|source| TreeError::new("open", "/", source))?;
    let user = &settings.facts.user;
    let owner = match side {
        Side::User => (user.uid, user.gid),
        Side::System if me == 0 || root.is_live() => (0, 0),
        // A root that belongs to a user is owned by that user throughout, but for the machine's own.
        Side::System => (me, rustix::process::getegid().as_raw()),
    };
    Ok(Venue {
        root,
        facts: settings.facts.clone(),
        side,
        owner,
        reboot: settings.reboot.clone(),
        cancel: settings.cancel.clone(),
        desk: Desk::default(),
    })
}

/// Returns what the ledgers know of the user's deploys.
fn summaries(settings: &Settings) -> Result<Vec<DeploySummary>, WorkError> {
    let mut found = BTreeMap::new();
    for side in [Side::System, Side::User] {
        for (id, record) in deploys(settings, side)? {
            if id.uid == settings.facts.user.uid {
                let system = side == Side::System || found.contains_key(&id);
                found.insert(id.clone(), DeploySummary { system, ..summarize(&id, &record) });
            }
        }
    }
    Ok(found.into_values().collect())
}

fn deploys(settings: &Settings, side: Side) -> Result<BTreeMap<DeployId, DeployRecord>, WorkError> {
    let venue = venue(settings, side)?;
    Ok(Ledger::deploys(&venue.root.outside(&venue.ledger_path()))?)
}

fn summarize(id: &DeployId, record: &DeployRecord) -> DeploySummary {
    let candies = record.candies.iter().map(|candy| CandySummary {
        name: candy.name.clone(),
        version: candy.version.clone(),
        requires: candy.requires.clone(),
        steps: u32::try_from(candy.steps.len()).unwrap_or(u32::MAX),
        digest: candy.digest,
    });
    DeploySummary {
        name: id.name.clone(),
        layers: record.layers.clone(),
        candies: candies.collect(),
        state: record.state,
        updated_s: record.updated_s,
        system: false,
    }
}

/// Returns how a request ends that stopped before anything was touched.
fn untouched(error: &WorkError) -> Done {
    let problem = error.problem();
    Done::verdict(match error {
        WorkError::Plan(_) | WorkError::Unfit(_) => Verdict::Invalid(problem),
        WorkError::Conflict { .. } | WorkError::Denied(_) => Verdict::Refused(problem),
        WorkError::Ledger(LedgerError::Lock(_)) => Verdict::Refused(problem.hint(WAIT)),
        WorkError::Cancelled => Verdict::Cancelled,
        WorkError::Tree(_) | WorkError::Ledger(_) | WorkError::Program(_) => Verdict::Failed(problem),
    })
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
