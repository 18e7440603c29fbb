//! A temporary root, a controller that answers, and plans in few words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use charly_engine::Side;
use charly_engine::ledger::{Probe, Record};
use charly_engine::process::Cancel;
use charly_engine::reboot::Reboot;
use charly_engine::session::{self, Incoming, MakeProbe, Peer, Settings};
use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, User};
use charly_ir::frame::{self, Frame};
use charly_ir::message::{
    Apply, Diff, Done, Event, Layer, Mode, Origin, RebootPolicy, Remove, Reply, Request, Verdict,
};
use charly_ir::plan::{Action, CandyPlan, Command, Content, InstallPlan, Op, Phase, Placement, Scope, Step, Venue};
use charly_ir::{Digest, Text};

/// A temporary folder that stands for `/`, with a user's home in it.
pub(crate) struct Venueish {
    dir: tempfile::TempDir,
    pub cancel: Cancel,
    pub boot: BootMark,
    pub reboot: Option<Reboot>,
}

/// A controller that gives the engine whatever it needs and writes down what it says.
#[derive(Default)]
pub(crate) struct Controller {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    todo: VecDeque<Incoming>,
    pub diff: Option<Diff>,
    pub events: Vec<Event>,
    pub done: Option<Done>,
    pub needs: usize,
    /// The blobs that were asked for, each with where it was to begin.
    pub asked: Vec<(Digest, u64)>,
    /// How many frames may pass before the controller goes, where it does.
    pub goes_after: Option<usize>,
}

impl Venueish {
    pub(crate) fn new() -> Self {
        // In memory where there is such a place: what is tested is order, and a disk only makes it slow.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for folder in ["etc", "home/ann", "var/lib", "opt"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir, cancel: Cancel::default(), boot: BootMark::default(), reboot: None }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// Everything below the root: path, type, mode, owner, content.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        list(self.dir.path(), self.dir.path(), &mut all);
        all
    }

    /// Everything below the root but charly's own books.
    pub(crate) fn tree_without_ledger(&self) -> BTreeMap<String, String> {
        let mut all = self.tree();
        all.retain(|path, _| {
            // A ledger that is being made or removed has another name for an instant, by which the next run knows it.
            let under_way = |path: &str| path.split('/').any(|part| part.starts_with(".opencharly-"));
            !path.starts_with("home/ann/.config/opencharly/installed")
                && !path.starts_with("var/lib/opencharly")
                && !under_way(path)
        });
        // The folders above the user's ledger are its own while nothing else needs them.
        for folder in ["home/ann/.config/opencharly", "home/ann/.config"] {
            if !all.keys().any(|path| path.starts_with(&format!("{folder}/"))) {
                all.remove(folder);
            }
        }
        all
    }

    pub(crate) fn settings(&self) -> Settings {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let user = User { name: "ann".into(), uid, gid, home: "/home/ann".into(), shell: "/bin/bash".into() };
        let os = Os { id: "debian".into(), version_id: Some("13".into()), ..Os::default() };
        let facts = Facts {
            os,
            arch: "x86_64".into(),
            hostname: "test".into(),
            boot: self.boot.clone(),
            init: Init::None,
            package_manager: None,
            user,
        };
        Settings { root: self.dir.path().to_owned(), facts, reboot: self.reboot.clone(), cancel: self.cancel.clone() }
    }

    pub(crate) fn request(&self, request: Request, probe: Option<MakeProbe>) -> Controller {
        self.request_of(Controller::default(), request, probe)
    }

    /// Applies, and the controller goes after so many frames.
    pub(crate) fn apply_and_go(&self, plan: &InstallPlan, frames: usize) -> Controller {
        let controller = Controller { goes_after: Some(frames), ..Controller::default() };
        self.request_of(controller, Request::Apply(Box::new(apply(plan))), None)
    }

    fn request_of(&self, mut controller: Controller, request: Request, probe: Option<MakeProbe>) -> Controller {
        if let Request::Apply(apply) = &request {
            controller.know(&apply.plan);
        }
        controller.todo.push_back(Frame::Message(request));
        session::serve(&self.settings(), &mut controller, probe);
        controller
    }

    pub(crate) fn apply(&self, plan: &InstallPlan) -> Controller {
        self.request(Request::Apply(Box::new(apply(plan))), None)
    }

    pub(crate) fn remove(&self, layers: &[&str]) -> Controller {
        self.request(Request::Remove(remove(layers)), None)
    }

    /// Applies, and is cut off just before the record with this number is written.
    pub(crate) fn apply_until(&self, plan: &InstallPlan, records: usize) -> Controller {
        self.request(Request::Apply(Box::new(apply(plan))), Some(cut_off(records)))
    }

    /// Removes, and is cut off just before the record with this number is written.
    pub(crate) fn remove_until(&self, records: usize) -> Controller {
        self.request(Request::Remove(remove(&[])), Some(cut_off(records)))
    }
}

/// Lets so many records pass, both ledgers counted together, and fails from then on.
pub(crate) fn cut_off(records: usize) -> MakeProbe {
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(records));
    Box::new(move |_: Side| -> Option<Probe> {
        let left = left.clone();
        Some(Box::new(move |_: &Record| {
            use std::sync::atomic::Ordering::SeqCst;
            left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .map(|_| ())
                .map_err(|_| io::Error::other("cut off"))
        }))
    })
}

impl Controller {
    /// Contents of the kit's files follow from their digests' sources: every text a plan mentions in [`file`].
    pub(crate) fn know(&mut self, plan: &InstallPlan) {
        for number in 0..=9 {
            let text = number.to_string();
            self.blobs.insert(Digest::of(text.as_bytes()), text.into_bytes());
        }
        if plan.blobs().values().any(|size| *size > 1) {
            self.blobs.extend((1..=3).map(large).map(|bytes| (Digest::of(&bytes), bytes)));
        }
        assert!(plan.blobs().keys().all(|digest| self.blobs.contains_key(digest)), "a plan with unknown blobs");
    }

    pub(crate) fn verdict(&self) -> &Verdict {
        &self.done.as_ref().unwrap().verdict
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(*self.verdict(), Verdict::Ok);
        self
    }

    pub(crate) fn changed(&self) -> u32 {
        self.done.as_ref().unwrap().changed
    }

    pub(crate) fn kept(&self) -> Vec<(String, String)> {
        let kept = &self.done.as_ref().unwrap().kept;
        kept.iter().map(|kept| (kept.subject.clone(), kept.reason.clone())).collect()
    }
}

impl Peer for Controller {
    fn send(&mut self, reply: Reply) {
        match reply {
            Reply::Diff(diff) => self.diff = Some(diff),
            Reply::Event(event) => self.events.push(event),
            Reply::Done(done) => self.done = Some(done),
            Reply::Need(need) => {
                self.needs += 1;
                for digest in need.blobs {
                    let bytes = self.blobs[&digest].clone();
                    let (size, from) = (bytes.len() as u64, need.have.get(&digest).copied().unwrap_or(0));
                    self.asked.push((digest, from));
                    self.todo.push_back(Frame::Message(Request::Blob { digest, size, from }));
                    let rest = bytes[usize::try_from(from).unwrap()..].chunks(frame::MAX_CHUNK);
                    self.todo.extend(rest.map(|chunk| Frame::Chunk(chunk.to_vec())));
                }
            }
            Reply::Blob { .. } | Reply::Report(_) => {}
        }
    }

    fn send_chunk(&mut self, _bytes: &[u8]) {}

    fn receive(&mut self) -> Option<Incoming> {
        if let Some(left) = &mut self.goes_after {
            *left = left.checked_sub(1)?;
        }
        self.todo.pop_front()
    }
}

pub(crate) fn apply(plan: &InstallPlan) -> Apply {
    let by_hand =
        |candy: &CandyPlan| Layer { reference: candy.name.clone(), candy: candy.name.clone(), origin: Origin::ByHand };
    Apply {
        deploy: "local".into(),
        run: "run".into(),
        layers: plan.candies.iter().map(by_hand).collect(),
        plan: plan.clone(),
        mode: Mode::Go { gates: BTreeSet::new() },
        rerun: Vec::new(),
        undoable_only: false,
        skip_incompatible: false,
        reboot: RebootPolicy::Skip,
        secrets: BTreeMap::new(),
        command_timeout_s: 60,
        follows: Vec::new(),
        sudo_password: None,
    }
}

pub(crate) fn remove(layers: &[&str]) -> Remove {
    Remove {
        deploy: "local".into(),
        run: "run".into(),
        layers: layers.iter().map(ToString::to_string).collect(),
        mode: Mode::Go { gates: BTreeSet::new() },
        keep_repo_changes: false,
        keep_services: false,
        purge: false,
        sudo_password: None,
    }
}

pub(crate) fn plan(candies: &[(&str, Vec<Step>)]) -> InstallPlan {
    let mut plan = InstallPlan::empty("debian-13", "x86_64");
    for (name, steps) in candies {
        plan.candies.push(CandyPlan {
            name: (*name).to_owned(),
            version: "2026.001.0000".into(),
            summary: String::new(),
            requires: Vec::new(),
            steps: steps.clone(),
            checks: Vec::new(),
            artifacts: Vec::new(),
            secrets: BTreeSet::new(),
            runtime: BTreeMap::new(),
        });
    }
    plan
}

fn step(id: String, path: &str, action: Action) -> Step {
    let scope = if Text::new(path).is_below_home() { Scope::User } else { Scope::System };
    Step { title: id.clone(), id, scope, venue: Venue::HostNative, gate: None, phase: Phase::Configure, action }
}

/// Places a file whose content is one digit, sent as a blob.
pub(crate) fn file(path: &str, content: u8, mode: u32) -> Step {
    let text = content.to_string();
    let content = Content::Blob { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
    step(format!("copy:{path}"), path, Action::Op(Op::Copy(Placement { path: path.into(), mode, content })))
}

pub(crate) fn reboot() -> Step {
    step("reboot".into(), "/", Action::Reboot)
}

/// Content that an engine does not hold in memory, a different one for each digit.
pub(crate) fn large(number: u8) -> Vec<u8> {
    (0..200_000_u32).map(|at| at.to_le_bytes()[1] ^ number).collect()
}

/// Places a file whose content is [`large`].
pub(crate) fn large_file(path: &str, number: u8) -> Step {
    let bytes = large(number);
    let content = Content::Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    step(format!("copy:{path}"), path, Action::Op(Op::Copy(Placement { path: path.into(), mode: 0o644, content })))
}

pub(crate) fn text(path: &str, content: &str) -> Step {
    let content = Content::Text(content.into());
    step(format!("write:{path}"), path, Action::Op(Op::Write(Placement { path: path.into(), mode: 0o644, content })))
}

pub(crate) fn dir(path: &str, mode: u32) -> Step {
    step(format!("mkdir:{path}"), path, Action::Op(Op::Mkdir { path: path.into(), mode }))
}

pub(crate) fn link(path: &str, target: &str) -> Step {
    step(format!("link:{path}"), path, Action::Op(Op::Link { path: path.into(), target: target.into() }))
}

/// Runs a body, which makes these paths. No root of a test lets one run.
pub(crate) fn command(body: &str, makes: &[&str]) -> Step {
    let body = Command {
        body: body.into(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        uninstall: makes.iter().map(|path| Text::new(*path)).collect(),
        creates: Vec::new(),
        timeout_s: None,
    };
    step(format!("command:{}", body.body), "/", Action::Op(Op::Command(body)))
}

fn list(root: &Path, folder: &Path, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let meta = path.symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            format!("link {}", std::fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            list(root, &path, all);
            format!("dir {:o} {}", meta.permissions().mode(), meta.uid())
        } else {
            let content = Digest::of(&std::fs::read(&path).unwrap());
            format!("file {:o} {} {}", meta.permissions().mode(), meta.uid(), content.short())
        };
        all.insert(name, what);
    }
}
