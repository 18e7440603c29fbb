//! A guest that charly reaches from outside, over SSH and through a proxy that can do harm.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use charly_lab::fault::Proxy;
use tempfile::TempDir;

use crate::kit::{Result, Said, World};

/// A guest, and somebody elsewhere with charly, a project, a home of their own and the guest's key.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    home: TempDir,
    env: Vec<(String, PathBuf)>,
    identity: Option<PathBuf>,
}

impl Remote {
    pub(crate) fn new(name: &str) -> Result<Option<Self>> {
        Self::prepared(name, "true")
    }

    pub(crate) fn prepared(name: &str, script: &str) -> Result<Option<Self>> {
        Ok(World::prepared(name, script)?.map(Self::of))
    }

    fn of(world: World) -> Self {
        let (address, port) = (world.guest.address(), world.guest.port());
        let proxy = Proxy::start(SocketAddr::from((address, port))).unwrap();
        let (home, identity) = (tempfile::tempdir().unwrap(), Some(world.guest.key().clone()));
        let remote = Self { world, proxy, home, env: Vec::new(), identity };
        let (own, through) = (remote.world.guest.host_key().unwrap(), remote.proxy.address().port());
        remote.know(&format!("{address} {own}\n[127.0.0.1]:{through} {own}\n"));
        remote
    }

    /// Makes the way through the proxy slow.
    pub(crate) fn with_bandwidth(self, bytes: u64) -> Self {
        Self { proxy: self.proxy.with_bandwidth(bytes), ..self }
    }

    /// Keeps the boxes that builders run in for the next test, and lends whoever is elsewhere this machine's registries.
    pub(crate) fn keep_boxes(&mut self) {
        self.env.push(("XDG_DATA_HOME".to_owned(), Path::new(env!("CARGO_TARGET_TMPDIR")).join("boxes")));
        let own = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        for path in [".cargo/config.toml", ".config/pip/pip.conf", ".config/uv/uv.toml", ".netrc", ".npmrc"] {
            let (from, to) = (own.join(path), self.home.path().join(path));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            // Whoever has none of it uses the registries that everybody knows.
            std::fs::copy(from, to).ok();
        }
    }

    /// Names another identity, or none, on the command line.
    pub(crate) fn identify_by(&mut self, identity: Option<&Path>) {
        self.identity = identity.map(Path::to_owned);
    }

    /// Lets an agent be found.
    pub(crate) fn ask_agent(&mut self, socket: &Path) {
        self.env.push(("SSH_AUTH_SOCK".to_owned(), socket.to_owned()));
    }

    /// The home folder of whoever is elsewhere.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Says which keys of machines are known.
    pub(crate) fn know(&self, lines: &str) {
        std::fs::write(self.home.path().join("known_hosts"), lines).unwrap();
    }

    /// Writes the `~/.ssh/config` of whoever is elsewhere, with the guest's own in place of `KEY`, `KNOWN` and `ADDRESS`.
    pub(crate) fn configure(&self, text: &str) {
        let known = self.home.path().join("known_hosts");
        let text = text
            .replace("KEY", self.world.guest.key().to_str().unwrap())
            .replace("KNOWN", known.to_str().unwrap())
            .replace("ADDRESS", &self.world.guest.address().to_string());
        std::fs::create_dir_all(self.home.path().join(".ssh")).unwrap();
        std::fs::write(self.home.path().join(".ssh/config"), text).unwrap();
    }

    /// Prepares `charly …`, with the machine's name, as a user of it, in place of `@`.
    fn command(&self, user: &str, arguments: &str, through: bool) -> Command {
        let at = if through {
            self.proxy.address().to_string()
        } else {
            format!("{}:{}", self.world.guest.address(), self.world.guest.port())
        };
        let machine = format!("ssh:{user}@{at}");
        let mut charly = self.charly();
        charly.args(arguments.split(' ').map(|word| if word == "@" { &machine } else { word }));
        if let Some(identity) = &self.identity {
            charly.arg("--identity").arg(identity);
        }
        charly.arg("--known-hosts").arg(self.home.path().join("known_hosts"));
        charly
    }

    /// Prepares `charly`, for whoever is elsewhere.
    fn charly(&self) -> Command {
        let mut charly = Command::new(env!("CARGO_BIN_EXE_charly"));
        charly.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        charly.envs(self.env.iter().map(|(name, value)| (name, value)));
        charly.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/fixtures"));
        charly.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        charly
    }

    /// Runs `charly … --format json` on what concerns no machine.
    pub(crate) fn run_here(&self, arguments: &str) -> Said {
        said(self.charly().args(arguments.split(' ')).args(["--format", "json"]))
    }

    /// Runs `charly … --format json`.
    pub(crate) fn run(&self, user: &str, arguments: &str) -> Said {
        said(self.command(user, arguments, false).args(["--format", "json"]))
    }

    /// Runs `charly … --format json` through the proxy.
    pub(crate) fn run_through(&self, user: &str, arguments: &str) -> Said {
        said(self.command(user, arguments, true).args(["--format", "json"]))
    }

    /// Runs `charly …` as people read it; returns its exit code and its standard output.
    pub(crate) fn shown(&self, user: &str, arguments: &str) -> (i32, String) {
        let output = self.command(user, arguments, false).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts `charly …` and lets it run.
    pub(crate) fn start(&self, user: &str, arguments: &str) -> Child {
        self.command(user, arguments, false).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts `charly …` through the proxy and lets it run.
    pub(crate) fn start_through(&self, user: &str, arguments: &str) -> Child {
        self.command(user, arguments, true).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts `charly …`, as people read it, and waits until it has said something.
    #[track_caller]
    pub(crate) fn start_until(&self, user: &str, arguments: &str, said: &str) -> Running {
        let mut child = self.command(user, arguments, false).stdout(Stdio::null()).spawn().unwrap();
        let mut running = Running { lines: BufReader::new(child.stderr.take().unwrap()), said: String::new(), child };
        while !running.said.contains(said) {
            assert!(
                running.lines.read_line(&mut running.said).unwrap() > 0,
                "it never said `{said}`: {}",
                running.said
            );
        }
        running
    }

    /// Waits until the machine is up and nobody's run is under way on it.
    pub(crate) fn await_reach(&self) {
        let ready =
            "for i in $(seq 600); do pgrep charly-guest >/dev/null || [ -e /run/nologin ] || break; sleep 0.1; done
            systemctl is-system-running --wait >/dev/null; true";
        for _ in 0..300 {
            if self.world.guest.ssh("root", ready).is_ok_and(|output| output.status == 0) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the machine cannot be reached");
    }

    /// Copies the project of the fixtures to a folder that may be changed.
    pub(crate) fn copy_of_the_project(&self) -> TempDir {
        let copy = tempfile::tempdir_in(self.home.path()).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/fixtures/.");
        assert!(Command::new("cp").arg("-r").arg(from).arg(copy.path()).status().unwrap().success());
        copy
    }

    /// Runs `charly …` on a terminal of its own, on which one line is typed each time it asks. Returns its exit code and what it showed.
    pub(crate) fn on_a_terminal(&self, user: &str, arguments: &str, line: &str) -> (i32, String) {
        let charly = self.command(user, arguments, false);
        let words: Vec<_> = std::iter::once(charly.get_program()).chain(charly.get_args()).collect();
        let words: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--echo", "never", "--command", &words.join(" "), "/dev/null"]);
        script.env("HOME", self.home.path()).env("SHELL", "/bin/sh");
        script.current_dir(charly.get_current_dir().unwrap());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut shown, mut piece, mut typed) = (Vec::new(), [0; 1024], 0);
        while let Ok(n @ 1..) = stdout.read(&mut piece) {
            shown.extend_from_slice(&piece[..n]);
            // What is typed before it asks is thrown away, as every question for a password does.
            let asked =
                ["password on", "passphrase of"].map(|what| String::from_utf8_lossy(&shown).matches(what).count());
            if asked.iter().sum::<usize>() > typed {
                stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
                typed += 1;
            }
        }
        let code = child.wait().unwrap().code().unwrap();
        (code, String::from_utf8_lossy(&shown).into_owned())
    }

    /// Adds a candy, has its checks evaluated, and adds it again to no effect.
    #[track_caller]
    pub(crate) fn there(&self, user: &str, candy: &str) {
        let add = format!("bundle add @ {candy} -y");
        self.run(user, &add).exits(0);
        let checked = self.run(user, "check @").exits(0);
        let verdicts = checked.events("checked");
        assert!(!verdicts.is_empty(), "{candy}: {checked}");
        assert!(verdicts.iter().all(|verdict| verdict["result"] == "passed"), "{candy}: {checked}");
        assert_eq!(self.run(user, &add).exits(0).changed(), 0, "{candy}, a second time");
        self.run(user, "drift @").exits(0);
    }

    /// Takes everything away and finds no trace of it.
    #[track_caller]
    pub(crate) fn gone(&self, user: &str, candy: &str) {
        self.run(user, "bundle del @ -y").exits(0);
        assert_eq!(self.world.traces(), "", "what is left of {candy}");
    }

    /// Returns every file that the candies `everything`, `once` and `files` place: its kind, mode, owner and content.
    pub(crate) fn placed(&self) -> String {
        self.world.ok(
            "root",
            "cd / && for path in home/deploy/e2e-everything opt/everything etc/motd opt/everything-made home/deploy/e2e-made \
                opt/e2e-once home/deploy/e2e-once \
                usr/local/bin/e2e-everything home/deploy/.config/e2e home/deploy/e2e etc/e2e; do
                find $path -printf '%p %y %m %u %g %l\\n' -type f -exec sha256sum {} \\;
             done | sort",
        )
    }
}

/// A `charly …` that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    /// Waits for its end; returns its exit code and what it said.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.lines.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code().unwrap(), self.said)
    }
}

fn said(charly: &mut Command) -> Said {
    let output = charly.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{stdout}\n{stderr}"));
    Said { exit: output.status.code().unwrap(), lines: stdout.lines().map(parse).collect() }
}
