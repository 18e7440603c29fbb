//! The real program, killed at moments nobody chose: what goes on after it ends where an undisturbed run does.
//!
//! `it::crash` cuts a run off between two records, at every pair of them. Kills reach the places within: a file half written, a name
//! not yet taken, a command under way, a snapshot beside its journal.
//!
//! `CHARLY_KILLS=20000` asks for more of them than the usual five hundred, `CHARLY_SEED` for those of a run that failed.
//!
//! A test program of its own: it starts processes all the time, and such a fork shares, for a moment, the lock of every engine that
//! runs in the same process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../it/kit.rs"]
#[expect(dead_code, reason = "the other tests need more of it")]
mod kit;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use charly_engine::session::Peer as _;
use charly_ir::frame::{self, Frame, MAGIC};
use charly_ir::message::{Apply, Done, Hello, Remove, Reply, Request, Verdict};
use charly_ir::plan::{self, Action, InstallPlan, Op, Scope, Shell, ShellSnippet, Step};
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Controller, Venueish, apply, dir, file, link, plan, remove, text};

/// No deploy of the machine's own is named so.
const DEPLOY: &str = "killed-by-a-test";

/// How many kills there are where nobody asks for more.
const KILLS: u64 = 500;

/// One of the two things that a user does.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Add,
    Del,
}

/// What came of a run.
struct Run {
    /// Its last word; absent where it was killed before it said it.
    done: Option<Done>,
    /// Whether the ledger knew of the deploy when it began.
    known: bool,
    /// How long it took from the request on.
    took: Duration,
}

#[test]
fn a_kill_at_any_moment_is_gone_on_from() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let kills = number("CHARLY_KILLS").unwrap_or(KILLS);
    let now = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    let seed = number("CHARLY_SEED").unwrap_or_else(now);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let share = kills / workers + u64::from(worker < kills % workers);
            scope.spawn(move || campaign(share, worker, seed));
        }
    });
}

/// Kills runs on one home folder until so many were killed.
fn campaign(kills: u64, worker: u64, seed: u64) {
    let mut dice = Dice(seed ^ worker << 32);
    let home = Venueish::new();
    home.write("home/ann/notes", "mine");
    home.write("home/ann/.profile", "umask 022\n");
    let (before, bare) = (home.tree(), home.tree_without_ledger());
    let adding = run(&home, Verb::Add, None).ok("undisturbed").took;
    let whole = home.tree_without_ledger();
    let removing = run(&home, Verb::Del, None).ok("undisturbed").took;
    assert_eq!(home.tree(), before, "an undisturbed add and del");

    let mut killed = 0;
    while killed < kills {
        let mut story = format!("CHARLY_SEED={seed}, worker {worker}, {killed} kills before");
        killed += kill(&home, Verb::Add, adding, &mut dice, &mut story);
        run(&home, Verb::Add, None).ok(&story);
        assert_eq!(home.tree_without_ledger(), whole, "resumed: {story}");

        killed += kill(&home, Verb::Del, removing, &mut dice, &mut story);
        let del = run(&home, Verb::Del, None);
        if del.known {
            assert_eq!(del.ok(&story).done.unwrap().kept, [], "removed: {story}");
        } else {
            // The last record was written, and only the books were not closed. Whoever takes them up next closes them.
            assert_eq!(home.tree_without_ledger(), bare, "removed: {story}");
            run(&home, Verb::Add, None).ok(&story);
            run(&home, Verb::Del, None).ok(&story);
        }
        assert_eq!(home.tree(), before, "removed: {story}");
    }
}

/// Kills a run, and some of those that go on after it; returns how many really were.
fn kill(home: &Venueish, verb: Verb, length: Duration, dice: &mut Dice, story: &mut String) -> u64 {
    for killed in 0.. {
        let moment = length.mul_f64(dice.roll());
        write!(story, "; {verb:?} killed {moment:?} into {length:?}").unwrap();
        if run(home, verb, Some(moment)).done.is_some() {
            return killed;
        }
        if dice.roll() > 0.25 {
            return killed + 1;
        }
    }
    0
}

/// Holds one conversation with an engine of its own, which is killed so long after the request.
fn run(home: &Venueish, verb: Verb, moment: Option<Duration>) -> Run {
    let mut engine = Command::new(env!("CARGO_BIN_EXE_charly-guest"))
        .arg("home")
        .arg(home.path("home/ann"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&engine);
    let (mut input, mut output) = (engine.stdin.take().unwrap(), BufReader::new(engine.stdout.take().unwrap()));
    let mut magic = [0; MAGIC.len()];
    output.read_exact(&mut magic).unwrap();
    let Ok(Some(Frame::Message(hello))) = frame::read::<Hello>(&mut output) else { panic!("no greeting") };
    let known = hello.deploys.iter().any(|deploy| deploy.name == DEPLOY);

    let mut controller = Controller::default();
    let request = match verb {
        Verb::Add => {
            let plan = InstallPlan { os: hello.facts.os.tag(), arch: hello.facts.arch, ..plan(&[("tool", steps())]) };
            controller.know(&plan);
            Request::Apply(Box::new(Apply { deploy: DEPLOY.into(), ..apply(&plan) }))
        }
        Verb::Del => Request::Remove(Remove { deploy: DEPLOY.into(), ..remove(&[]) }),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        // The engine is waited for after this thread has ended: its number is nobody else's until then.
        let (over, is_over) = channel::<()>();
        if let Some(moment) = moment {
            scope.spawn(move || {
                if is_over.recv_timeout(moment) == Err(RecvTimeoutError::Timeout) {
                    kill_process(pid, Signal::KILL).unwrap();
                }
            });
        }
        // A killed engine reads no more and breaks off, which is no failure of this test.
        let _ = frame::write_message(&mut input, &request);
        while let Ok(Some(Frame::Message(reply))) = frame::read::<Reply>(&mut output) {
            controller.send(reply);
            while let Some(frame) = controller.receive() {
                let _ = match &frame {
                    Frame::Message(message) => frame::write_message(&mut input, message),
                    Frame::Chunk(bytes) => frame::write_chunk(&mut input, bytes),
                };
            }
            let _ = input.flush();
            if controller.done.is_some() {
                break;
            }
        }
        drop(over);
    });
    let took = began.elapsed();
    drop(input);
    engine.wait().unwrap();
    Run { done: controller.done, known, took }
}

/// Something of everything that needs no root.
fn steps() -> Vec<Step> {
    let made = plan::Command {
        body: "echo half >~/made\necho whole >~/made\n".into(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        uninstall: vec!["{{.Home}}/made".into()],
        creates: Vec::new(),
        timeout_s: None,
    };
    let snippet = ShellSnippet { shell: Shell::Sh, snippet: "export TOOL=1".into(), priority: 0 };
    let mut steps = vec![
        dir("{{.Home}}/tool", 0o750),
        file("{{.Home}}/tool/bin/run", 1, 0o755),
        file("{{.Home}}/notes", 2, 0o600),
        link("{{.Home}}/current", "tool/bin"),
        text("{{.Home}}/.local/share/x/note", "home is {{.Home}}\n"),
        user("command", Action::Op(Op::Command(made))),
        user("snippet", Action::ShellSnippet(snippet)),
    ];
    steps.extend((0..20).map(|number| file(&format!("{{{{.Home}}}}/tool/share/{number}"), number % 10, 0o644)));
    steps
}

fn user(id: &str, action: Action) -> Step {
    Step { id: id.into(), title: id.into(), scope: Scope::User, action, ..dir("{{.Home}}", 0) }
}

impl Run {
    #[track_caller]
    fn ok(self, story: &str) -> Self {
        assert_eq!(self.done.as_ref().map(|done| &done.verdict), Some(&Verdict::Ok), "{story}");
        self
    }
}

/// Splitmix64: moments that look like any, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    /// Returns a number from 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ mixed >> 31) >> 32).unwrap()) / f64::from(u32::MAX)
    }
}
