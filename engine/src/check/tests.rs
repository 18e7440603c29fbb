//! Evaluates checks on this machine and on small roots.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use charly_ir::check::{Context, Matcher, Protocol, Retry};
use charly_ir::facts::{Init, PackageManager};

use super::*;
use crate::facts::gather;

/// A root, its facts, and a folder for bodies.
pub(super) struct Venue {
    root: PathBuf,
    facts: Facts,
    path_append: Vec<String>,
    scratch: tempfile::TempDir,
}

impl Venue {
    /// This machine.
    pub(super) fn live() -> Self {
        Self::of("/".into())
    }

    fn of(root: PathBuf) -> Self {
        let (facts, scratch) = (gather(&root).unwrap(), tempfile::tempdir().unwrap());
        Self { root, facts, path_append: vec!["/opt/x/bin".to_owned()], scratch }
    }

    fn context(&self) -> CheckContext<'_> {
        let (root, facts, scratch) = (&self.root, &self.facts, self.scratch.path());
        CheckContext { root, facts, run_as: None, path_append: &self.path_append, scratch }
    }

    fn evaluate(&self, check: &Check, cancel: &Cancel) -> CheckResult {
        evaluate(check, &self.context(), cancel)
    }

    /// Hands on one attempt's view of the venue.
    pub(super) fn attempt<T>(&self, attempt: impl FnOnce(&Probe<'_>) -> T) -> T {
        let limit = Duration::from_secs(30);
        let (context, cancel) = (&self.context(), &Cancel::default());
        attempt(&Probe { context, cancel, deadline: Instant::now() + limit, limit })
    }

    /// Returns an empty text where the assertion holds, else the evidence, or the reason after `skipped: `.
    fn judge(&self, assertion: &Assertion) -> String {
        match self.evaluate(&check(assertion.clone()), &Cancel::default()) {
            CheckResult::Passed => String::new(),
            CheckResult::Failed { evidence } => evidence,
            CheckResult::Skipped { reason } => format!("skipped: {reason}"),
        }
    }
}

fn check(assertion: Assertion) -> Check {
    let (id, title) = ("c".to_owned(), "it is so".to_owned());
    Check { id, title, contexts: vec![Context::Deploy], retry: None, timeout_s: 30, assertion }
}

fn file(path: &str) -> Assertion {
    Assertion::File {
        path: path.into(),
        exists: None,
        mode: None,
        owner: None,
        filetype: None,
        contains: vec![],
        sha256: None,
    }
}

/// Changes some fields of an assertion, leaving the rest.
macro_rules! with {
    ($assertion:expr, $variant:ident { $($field:ident: $value:expr),* }) => {{
        let mut assertion = $assertion;
        if let Assertion::$variant { $($field,)* .. } = &mut assertion {
            $(*$field = $value;)*
        }
        assertion
    }};
}

fn command(body: &str) -> Assertion {
    Assertion::Command { body: body.into(), env: BTreeMap::new(), exit_status: None, stdout: vec![], stderr: vec![] }
}

#[test]
fn files_are_judged() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::create_dir_all(root.join("etc")).unwrap();
    let number = rustix::process::geteuid().as_raw();
    fs::write(root.join("etc/passwd"), format!("ann:x:{number}:7::/home/ann:/bin/sh\n")).unwrap();
    fs::write(root.join("etc/group"), "users:x:77:\n").unwrap();
    fs::write(root.join("f"), "one\ntwo\n").unwrap();
    fs::set_permissions(root.join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/f", root.join("link")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let venue = Venue::of(root.to_owned());
    let digest = charly_ir::Digest::of(b"one\ntwo\n").to_string();
    let text = |text: &str| vec![Matcher::Contains(text.into())];
    for (assertion, want) in [
        (file("/f"), ""),
        (file("/none"), "wanted `/none` to exist, found nothing"),
        (file("/f/below"), "wanted `/f/below` to exist, found nothing"),
        (file("relative"), "`relative` is not an absolute path"),
        (file("/dangling"), "wanted `/dangling` to exist, found a link that leads nowhere"),
        (with!(file("/dangling"), File { filetype: Some("symlink".into()) }), ""),
        (with!(file("/dangling"), File { exists: Some(false) }), "wanted nothing at `/dangling`, found a symlink"),
        (with!(file("/none"), File { exists: Some(false), mode: Some(0o1) }), ""),
        (with!(file("/f"), File { mode: Some(0o640), filetype: Some("file".into()) }), ""),
        (with!(file("/link"), File { mode: Some(0o644) }), "mode: wanted `0644`, found `0640`"),
        (with!(file("/link"), File { filetype: Some("file".into()) }), ""),
        (with!(file("/etc"), File { filetype: Some("file".into()) }), "type: wanted `file`, found `directory`"),
        (with!(file("/fifo"), File { filetype: Some("fifo".into()) }), ""),
        (with!(file("/fifo"), File { contains: text("x") }), "cannot read `/fifo`: it is not a regular file"),
        (with!(file("/f"), File { owner: Some("ann".into()) }), ""),
        (with!(file("/f"), File { owner: Some(number.to_string()) }), ""),
        (with!(file("/f"), File { owner: Some("eve".into()) }), "owner: wanted `eve`, found `ann`"),
        (
            with!(file("/f"), File { owner: Some("ann:users".into()) }),
            &*format!("group: wanted `users`, found `{}`", rustix::process::getegid().as_raw()),
        ),
        (with!(file("/f"), File { sha256: Some(digest.to_uppercase()), contains: text("two") }), ""),
        (
            with!(file("/f"), File { contains: text("three") }),
            "content: wanted something with `three`, found `one\\ntwo\\n`",
        ),
        (with!(file("/f"), File { sha256: Some("0".into()) }), &*format!("sha256: wanted `0`, found `{digest}`")),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
}

#[test]
fn a_huge_file_is_digested_and_not_searched() {
    let temp = tempfile::tempdir().unwrap();
    fs::File::create(temp.path().join("huge")).unwrap().set_len(20 << 20).unwrap();
    let assertion = with!(file("/huge"), File { contains: vec![Matcher::Contains("x".into())] });
    let want = "`/huge` is too large to be searched: 20971520 bytes";
    assert_eq!(Venue::of(temp.path().to_owned()).judge(&assertion), want);
}

#[test]
fn commands_are_judged() {
    let venue = Venue::live();
    let user = venue.facts.user.clone();
    let equals = |text: &str| vec![Matcher::Equals(text.into())];
    let mut environment = with!(
        command("echo $A $USER $HOME; echo $PATH; readlink /proc/self/fd/0"),
        Command {
            stdout: equals(&format!(
                "/ann {} {}\n{}:/opt/x/bin\n/dev/null",
                user.name,
                user.home,
                charly_ir::STANDARD_PATH
            ))
        }
    );
    if let Assertion::Command { env, .. } = &mut environment {
        env.insert("A".into(), "/ann".into());
    }
    for (assertion, want) in [
        (environment, ""),
        (command("exit 0"), ""),
        (with!(command("exit 3"), Command { exit_status: Some(3) }), ""),
        (
            command("echo out; echo err >&2; exit 3"),
            "wanted exit status 0, found exit status 3, stdout `out`, stderr `err`",
        ),
        (command("kill -9 $$"), "wanted exit status 0, found signal 9"),
        (with!(command("echo err >&2"), Command { stderr: equals("err"), stdout: equals("") }), ""),
        (with!(command("echo a"), Command { stdout: equals("b") }), "stdout: wanted `b`, found `a\\n`"),
        (command("#!/no/such/shell\n"), "cannot find `/no/such/shell` to run the command"),
        (with!(command("#!/bin/sh\necho $0 | grep -c body"), Command { stdout: equals("1") }), ""),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
    let hanging = Check { timeout_s: 1, ..check(command("sleep 300")) };
    let CheckResult::Failed { evidence } = venue.evaluate(&hanging, &Cancel::default()) else { panic!("it ended") };
    assert!(evidence.ends_with("did not end within 1 s"), "{evidence}");
    assert_eq!(fs::read_dir(venue.scratch.path()).unwrap().count(), 0, "no body is left");
}

#[test]
fn a_check_is_tried_again_until_it_holds_or_its_time_is_up() {
    let venue = Venue::live();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let body = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3", log.display());
    let retry = |within_ms| Some(Retry { within_ms, interval_ms: 1 });
    let patient = Check { retry: retry(60_000), ..check(command(&body)) };
    assert_eq!(venue.evaluate(&patient, &Cancel::default()), CheckResult::Passed);
    assert_eq!(fs::read_to_string(&log).unwrap(), "x\nx\nx\n");
    let hopeless = Check { retry: retry(50), ..check(file("/no/such/file")) };
    let CheckResult::Failed { evidence } = venue.evaluate(&hopeless, &Cancel::default()) else { panic!("it holds") };
    assert!(evidence.starts_with("wanted `/no/such/file` to exist, found nothing (attempt "), "{evidence}");
    let cancel = Cancel::default();
    cancel.escalate();
    let forever = Check { retry: Some(Retry { within_ms: u64::MAX, interval_ms: 1 }), ..hopeless };
    let want = CheckResult::Skipped { reason: "the run was cancelled".into() };
    assert_eq!(venue.evaluate(&forever, &cancel), want);
}

#[test]
fn ports_and_addresses_are_judged() {
    let venue = Venue::live();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap().port(), socket.local_addr().unwrap().port());
    // A port that no program asks for, and that is never given out.
    let free = 1;
    let port = |port, protocol, listening, address: Option<&str>| Assertion::Port {
        port,
        protocol,
        listening,
        address: address.map(str::to_owned),
    };
    let addr = |address: String, reachable| Assertion::Addr { address: address.into(), reachable };
    for (assertion, want) in [
        (port(tcp, Protocol::Tcp, None, None), String::new()),
        (port(tcp, Protocol::Tcp, Some(true), Some("127.0.0.1")), String::new()),
        (
            port(tcp, Protocol::Tcp, None, Some("0.0.0.0")),
            format!("wanted something listening at tcp port {tcp} on `0.0.0.0`, found `127.0.0.1`"),
        ),
        (
            port(tcp, Protocol::Tcp, Some(false), None),
            format!("wanted nothing listening at tcp port {tcp}, found `127.0.0.1`"),
        ),
        (port(free, Protocol::Tcp, None, None), format!("wanted something listening at tcp port {free}, found none")),
        (port(free, Protocol::Tcp, Some(false), None), String::new()),
        (port(udp, Protocol::Udp, None, Some("localhost")), String::new()),
        (addr(format!("127.0.0.1:{tcp}"), None), String::new()),
        (addr(format!("localhost:{tcp}"), Some(true)), String::new()),
        (addr(format!("127.0.0.1:{free}"), Some(false)), String::new()),
        (
            addr(format!("127.0.0.1:{free}"), None),
            format!(
                "wanted a connection to `127.0.0.1:{free}`, found `127.0.0.1:{free}`: Connection refused (os error 111)"
            ),
        ),
        (
            addr(format!("127.0.0.1:{tcp}"), Some(false)),
            format!("wanted no connection to `127.0.0.1:{tcp}`, `127.0.0.1` accepted one"),
        ),
        (addr("nowhere".into(), None), "`nowhere` is not `host:port`".into()),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
}

#[test]
fn the_kernel_and_accounts_are_judged() {
    let venue = Venue::live();
    let equals = |text: &str| vec![Matcher::Equals(text.into())];
    let parameter = |name: &str, value| Assertion::KernelParam { name: name.into(), value };
    let mount = |path: &str, exists, filesystem: Option<&str>| Assertion::Mount {
        path: path.into(),
        exists,
        filesystem: filesystem.map(str::to_owned),
        source: None,
        options: vec![],
    };
    let process = |name: &str, running| Assertion::Process { name: name.into(), running };
    let interface = |name: &str, addresses: &[&str]| Assertion::Interface {
        name: name.into(),
        exists: None,
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        mtu: None,
    };
    let user = |name: &str, uid, groups: &[&str]| Assertion::User {
        name: name.into(),
        exists: None,
        uid,
        gid: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        home: None,
        shell: None,
    };
    let dns = |name: &str, resolvable, addresses: &[&str]| Assertion::Dns {
        name: name.into(),
        resolvable,
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    };
    let matching = |matches| Assertion::Matching { value: "{{.Uid}}".into(), matches };
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    for (assertion, want) in [
        (parameter("kernel.ostype", equals("Linux")), ""),
        (parameter("kernel.ostype", equals("Minix")), "kernel.ostype: wanted `Minix`, found `Linux`"),
        (parameter("kernel.no_such", vec![]), "there is no kernel parameter `kernel.no_such`"),
        (parameter("..", vec![]), "`..` is not a kernel parameter's name"),
        (mount("/proc", None, Some("proc")), ""),
        (mount("/proc/", Some(true), Some("ext4")), "filesystem: wanted `ext4`, found `proc`"),
        (mount("/proc/self", None, None), "wanted a mount at `/proc/self`, found none"),
        (mount("/etc/passwd", Some(false), None), ""),
        (process(own.trim(), None), ""),
        (process("no-such-process", Some(false)), ""),
        (process("no-such-process", None), "wanted a process `no-such-process` to run, found none"),
        (interface("lo", &[]), ""),
        (interface("nope0", &[]), "wanted an interface `nope0`, found none"),
        (interface("../x", &[]), "`../x` is not an interface's name"),
        (user("root", Some(0), &["root"]), ""),
        (
            user("root", Some(1), &["nogroup-x"]),
            "uid: wanted `1`, found `0`; wanted `root` in the group `nogroup-x`, found no such group",
        ),
        (user("no-such-user", None, &[]), "wanted a user `no-such-user`, found none"),
        (
            Assertion::Group { name: "root".into(), exists: Some(false), gid: None },
            "wanted no group `root`, found one with number 0",
        ),
        (Assertion::Group { name: "root".into(), exists: None, gid: Some(0) }, ""),
        (dns("localhost", None, &[]), ""),
        (dns("127.0.0.1", None, &["127.0.0.1"]), ""),
        (
            dns("127.0.0.1", None, &["10.1.2.3"]),
            "`127.0.0.1`: wanted `10.1.2.3` among its addresses, found `127.0.0.1`",
        ),
        (dns("a b", Some(false), &[]), "`a b` is not a name"),
        (matching(equals("{{.Uid}}")), ""),
        (
            matching(vec![Matcher::Matches("^[0-9]+$".into()), Matcher::Contains("{{.Gid}}x".into())]),
            &*format!("the value: wanted something with `{}x`, found `{}`", venue.facts.user.gid, venue.facts.user.uid),
        ),
        (
            Assertion::Carried {
                verb: "wl".into(),
                reason: "only a desktop can tell".into(),
                fields: serde_json::Value::Null,
            },
            "skipped: `wl`: only a desktop can tell",
        ),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn interfaces_have_addresses() {
    let venue = Venue::live();
    let lo = |address: &str| Assertion::Interface {
        name: "lo".into(),
        exists: None,
        addresses: vec![address.to_owned()],
        mtu: None,
    };
    let judged = venue.judge(&lo("127.0.0.1/8"));
    if judged.starts_with("skipped") {
        println!("not run: {judged}");
        return;
    }
    assert_eq!(judged, "");
    assert!(
        venue
            .judge(&lo("127.0.0.1/9"))
            .starts_with("`lo`: wanted `127.0.0.1/9` among its addresses, found `127.0.0.1/8")
    );
}

/// Answers each request by what its path asks for, until the test ends.
pub(super) fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let Ok(length @ 1..) = stream.read(&mut buffer) else { break };
                request.extend_from_slice(&buffer[..length]);
            }
            let request = String::from_utf8_lossy(&request);
            let mut words = request.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let (status, extra) = match path {
                "/away" => ("302 Found", "Location: /here\r\n"),
                "/missing" => ("404 Not Found", ""),
                _ => ("200 OK", "X-Who: charly\r\n"),
            };
            let body = if method == "HEAD" { String::new() } else { format!("{method} {path}\n") };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn http_is_judged() {
    let (venue, port) = (Venue::live(), serve());
    let contains = |text: &str| vec![Matcher::Contains(text.into())];
    let http = |path: &str| Assertion::Http {
        url: format!("http://127.0.0.1:{port}{path}").into(),
        method: None,
        status: None,
        body: vec![],
        headers: vec![],
        allow_insecure: false,
    };
    if venue.judge(&http("/")).starts_with("skipped") {
        println!("not run: neither curl nor wget is here");
        return;
    }
    for (assertion, want) in [
        (http("/x"), ""),
        (with!(http("/a[1]{2}"), Http { body: vec![Matcher::Equals("GET /a[1]{2}".into())] }), ""),
        (with!(http("/away"), Http { body: contains("GET /here"), headers: contains("X-Who: charly") }), ""),
        (http("/missing"), "status: wanted any below `400`, found `404`"),
        (with!(http("/missing"), Http { status: Some(404) }), ""),
        (with!(http("/x"), Http { status: Some(204) }), "status: wanted `204`, found `200`"),
        (with!(http("/x"), Http { body: contains("no") }), "body: wanted something with `no`, found `GET /x\\n`"),
        (with!(http("/x"), Http { method: Some("a b".into()) }), "`a b` is not an HTTP method"),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
    let file = with!(http(""), Http { url: "file:///etc/passwd".into() });
    assert_eq!(venue.judge(&file), "`file:///etc/passwd` is not an http or https URL");
    let nobody = with!(http(""), Http { url: "http://127.0.0.1:1/".into() });
    assert!(venue.judge(&nobody).starts_with("`http://127.0.0.1:1/` gave no answer (exit status "));
    for (verb, wanted) in [("POST", 200), ("HEAD", 200), ("GET", 302)] {
        let path = if wanted == 302 { "/away" } else { "/x" };
        let judged = venue.judge(&with!(http(path), Http { method: Some(verb.into()), status: Some(wanted) }));
        assert!(judged.is_empty() || judged.starts_with("skipped: `curl` is not on the venue"), "{verb}: {judged}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn packages_of_a_root_are_judged() {
    let package = |name: &str, installed, version: &str| {
        let version = Some(Matcher::Matches(version.to_owned())).filter(|_| !version.is_empty());
        Assertion::Package { name: name.into(), installed, version: version.into_iter().collect() }
    };
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("var/lib/dpkg/updates")).unwrap();
    fs::create_dir_all(temp.path().join("lib/apk/db")).unwrap();
    let paragraph = |name: &str, state: &str| {
        format!(
            "Package: {name}\nStatus: install ok {state}\nMaintainer: a\nArchitecture: all\nVersion: 1:2.3-4\nDescription: x\n\n"
        )
    };
    let status = paragraph("here", "installed") + &paragraph("gone", "config-files");
    fs::write(temp.path().join("var/lib/dpkg/status"), status).unwrap();
    fs::write(temp.path().join("lib/apk/db/installed"), "P:here\nV:1:2.3-4\n\n").unwrap();
    let mut venue = Venue::of(temp.path().to_owned());
    for (manager, name) in [(PackageManager::Apk, "apk"), (PackageManager::Apt, "apt")] {
        venue.facts.package_manager = Some(manager);
        let missing = format!("wanted the package `gone` installed, {name} has it not");
        let judged = venue.judge(&package("here", None, ""));
        if judged.starts_with("skipped") {
            println!("not run for {name}: {judged}");
            continue;
        }
        for (assertion, want) in [
            (package("here", None, "^1:2\\."), ""),
            (package("here", Some(true), "^2"), "version: wanted a match of `^2`, found `1:2.3-4`"),
            (package("here", Some(false), ""), "wanted the package `here` not installed, found version `1:2.3-4`"),
            (package("gone", None, ""), &*missing),
            (package("gone", Some(false), ""), ""),
            (package("never-heard-of", Some(false), ""), ""),
            (package("he*", None, ""), "`he*` is not a package's name"),
        ] {
            assert_eq!(venue.judge(&assertion), want, "{name} {assertion:?}");
        }
    }
    venue.facts.package_manager = None;
    assert_eq!(venue.judge(&package("x", None, "")), "skipped: no known package manager is on the venue");
}

#[test]
fn what_needs_a_running_machine_is_skipped_in_a_root() {
    let temp = tempfile::tempdir().unwrap();
    let mut venue = Venue::of(temp.path().to_owned());
    let service = |running, enabled| Assertion::Service { units: vec!["u.service".into()], running, enabled };
    for (assertion, want) in [
        (command("exit 1"), "skipped: a command can only be judged on a running venue"),
        (
            Assertion::Process { name: "x".into(), running: None },
            "skipped: a process can only be judged on a running venue",
        ),
        (
            Assertion::Addr { address: "x:1".into(), reachable: None },
            "skipped: an address can only be judged on a running venue",
        ),
        (service(Some(true), None), "skipped: no systemd is on the venue"),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
    venue.facts.init = Init::SystemdOffline;
    let want = "skipped: whether a service runs can only be judged where systemd runs";
    assert_eq!(venue.judge(&service(Some(true), None)), want);
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn units_of_a_root_are_judged() {
    let temp = tempfile::tempdir().unwrap();
    let units = temp.path().join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
    for unit in ["on.service", "off.service"] {
        fs::write(units.join(unit), "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n").unwrap();
    }
    symlink("/etc/systemd/system/on.service", units.join("multi-user.target.wants/on.service")).unwrap();
    let mut venue = Venue::of(temp.path().to_owned());
    venue.facts.init = Init::SystemdOffline;
    let service = |units: &[&str], enabled| Assertion::Service {
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        running: None,
        enabled: Some(enabled),
    };
    if venue.judge(&service(&["on.service"], true)).starts_with("skipped") {
        println!("not run: systemctl is not here");
        return;
    }
    for (assertion, want) in [
        (service(&["charly-x.service", "on.service"], true), ""),
        (service(&["off.service"], false), ""),
        (service(&["off.service", "on.service"], true), "`off.service`: wanted it enabled, found it `disabled`"),
        (service(&["none.service"], true), "wanted one of the units `none.service`, found none"),
    ] {
        assert_eq!(venue.judge(&assertion), want, "{assertion:?}");
    }
}
