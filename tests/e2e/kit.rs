//! A guest with charly and the fixtures on it, and what was there before.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use charly_lab::{ALLOWED, Error, Guest, Output, Snapshot};
use serde_json::Value;

pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

/// Where the fixtures lie in a guest.
pub(crate) const FIXTURES: &str = "/usr/local/share/e2e";

/// How many guests are up at once: each takes a processor's time, and a slow one would only run into time limits.
const GUESTS: usize = 2;

/// A fresh guest on which anybody can call `charly`.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) guest: Guest,
    before: Snapshot,
    // After the guest, so that the next test waits until this one's is gone.
    _turn: Turn,
}

/// What `charly` said with `--format json`.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) lines: Vec<Value>,
}

impl World {
    /// Boots a guest and takes its inventory; `None` where there is no lab, which is said.
    pub(crate) fn new(name: &str) -> Result<Option<Self>> {
        Self::prepared(name, "true")
    }

    /// Boots a guest, runs a script as root, then takes the inventory.
    pub(crate) fn prepared(name: &str, script: &str) -> Result<Option<Self>> {
        let Some(lab) = charly_lab::require() else { return Ok(None) };
        let turn = Turn::take();
        let guest = lab.nspawn(name)?;
        guest.put("root", &PROGRAM, "/usr/local/bin/charly", 0o755)?;
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/fixtures");
        let mut tar = Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--directory"])
            .args([fixtures.as_os_str(), ".".as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let unpack = format!("mkdir -p {FIXTURES} && tar --extract --directory {FIXTURES}");
        let unpacked = guest.ssh_from("root", &unpack, tar.stdout.take().unwrap());
        assert!(tar.wait().unwrap().success());
        unpacked?.success()?;
        guest.ssh("root", script)?.success()?;
        let before = inventory(&guest)?;
        Ok(Some(Self { guest, before, _turn: turn }))
    }

    /// Takes the inventory anew.
    pub(crate) fn remember(&mut self) -> Result {
        self.before = inventory(&self.guest)?;
        Ok(())
    }

    /// Runs a command by a user's login shell.
    pub(crate) fn run(&self, user: &str, command: &str) -> Output {
        self.guest.ssh(user, command).unwrap()
    }

    /// Runs a command that must succeed, and gives its standard output.
    #[track_caller]
    pub(crate) fn ok(&self, user: &str, command: &str) -> String {
        self.code(user, 0, command).stdout
    }

    /// Runs a command that must end with an exit code.
    #[track_caller]
    pub(crate) fn code(&self, user: &str, code: i32, command: &str) -> Output {
        let output = self.run(user, command);
        assert_eq!(output.status, code, "`{command}` as {user}\n{}\n{}", output.stdout, output.stderr);
        output
    }

    /// Runs `charly … --format json`, from the folder of the fixtures.
    pub(crate) fn json(&self, user: &str, arguments: &str) -> Said {
        let output = self.run(user, &format!("cd {FIXTURES} && charly {arguments} --format json"));
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{output:?}"));
        Said { exit: output.status, lines: output.stdout.lines().map(parse).collect() }
    }

    /// Starts `charly …` from the folder of the fixtures and lets it run.
    pub(crate) fn start(&self, user: &str, arguments: &str) -> Child {
        let mut ssh = self.guest.ssh_command(user);
        ssh.arg(format!("cd {FIXTURES} && exec charly {arguments}"));
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until a command succeeds in the guest.
    #[track_caller]
    pub(crate) fn await_in_guest(&self, condition: &str) {
        self.ok("root", &format!("timeout 60 sh -c 'until {condition} 2>/dev/null; do sleep 0.02; done'"));
    }

    /// Says what differs from the inventory, but for what may and for charly's caches, which may go at any time.
    pub(crate) fn traces(&self) -> String {
        self.ok(
            "root",
            "rm -rf /var/cache/charly /var/tmp/charly-*
             for home in /root /home/*; do
                rm -rf $home/.cache/charly
                if [ -d $home/.cache ]; then rmdir --ignore-fail-on-non-empty $home/.cache; fi
             done",
        );
        self.before.diff(&inventory(&self.guest).unwrap(), ALLOWED).to_string()
    }
}

impl Said {
    /// The last line, which says how the run ended.
    pub(crate) fn result(&self) -> &Value {
        let last = self.lines.last().unwrap_or(&Value::Null);
        assert!(last.get("result").is_some(), "no result: {self}");
        &last["result"]
    }

    /// The events of a sort.
    pub(crate) fn events(&self, sort: &str) -> Vec<&Value> {
        self.lines.iter().filter_map(|line| line["event"].get(sort)).collect()
    }

    /// How many steps changed something.
    pub(crate) fn changed(&self) -> u64 {
        self.result()["run"]["changed"].as_u64().unwrap()
    }

    /// The error, as people would read it.
    pub(crate) fn error(&self) -> String {
        let problem = self.lines.iter().find_map(|line| line.get("error")).unwrap_or(&Value::Null);
        let because = problem["because"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let parts = problem["what"].as_str().into_iter().chain(because);
        let hint = problem["hint"].as_str().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        parts.collect::<Vec<_>>().join(": ") + &hint
    }

    /// Demands an exit code, which the result must agree with.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.exit, code, "{self}");
        assert_eq!(self.result()["exit"], code, "{self}");
        self
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn inventory(guest: &Guest) -> Result<Snapshot> {
    // It ends by itself when nobody has asked it for half a minute.
    guest.ssh("root", "systemctl stop netavark-dhcp-proxy.service")?;
    guest.snapshot()
}

/// The program without what only a debugger reads, which is most of it.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = Path::new(env!("CARGO_BIN_EXE_charly"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Whole before it has its name, in case two runs make it at once.
    let (part, stripped) = (folder.join(format!("charly-{}", std::process::id())), folder.join("charly"));
    let strip = Command::new("strip").arg("-o").args([&part, program]).status();
    let made = strip.is_ok_and(|status| status.success()) && std::fs::rename(&part, &stripped).is_ok();
    if made { stripped } else { program.to_owned() }
});

/// The right to have a guest up.
#[derive(Debug)]
struct Turn;

static UP: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let up = UP.lock().unwrap_or_else(PoisonError::into_inner);
        let mut up = FREED.wait_while(up, |up| *up >= GUESTS).unwrap_or_else(PoisonError::into_inner);
        *up += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *UP.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
