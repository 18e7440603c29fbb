//! Start, probe, check and end of the server.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    process::Command,
    thread,
    time::Instant,
};

use crate::support::{LONG, Place, Server, children_of, is_alive, print, processes, signal, wait_until};

#[test]
fn a_graceful_stop_lets_runs_finish() {
    let mut server = Server::builder().script("wait", "sleep 2; echo finished").start();
    let mut waiting = server.connect();
    let mut late = server.connect();
    assert_eq!(late.request("GET", "/healthz", &[], "").status, 200);
    let run = thread::spawn(move || waiting.run("wait", "{}").json());
    wait_until("the run goes on", || !server.children().is_empty());
    server.signal("-TERM");
    wait_until("the server drains", || server.log().contains("stopping"));
    assert_eq!(late.run("wait", "{}").status, 503);
    assert_eq!(run.join().unwrap()["stdout"], "finished\n");
    drop(late);
    assert!(server.wait().success());
    assert!(server.audit().contains(r#""outcome":"ok""#), "the end is recorded: {}", server.audit());
    assert_eq!(fs::read_dir(server.root.path().join("work")).unwrap().count(), 0);
}

#[test]
fn a_graceful_stop_has_a_bound() {
    let mut server = Server::builder().script("wait", "echo $$ ; exec sleep 300").flags(&["--grace", "0"]).start();
    let mut waiting = server.connect();
    let run = thread::spawn(move || waiting.run("wait", "{}").json());
    let sleeps = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    wait_until("the run has said its number", || server.children().first().is_some_and(sleeps));
    let began = Instant::now();
    server.signal("-INT");
    let answer = run.join().unwrap();
    assert_eq!(answer["cancelled"], true, "{answer}");
    assert!(server.wait().success());
    assert!(began.elapsed() < LONG);
    assert!(!is_alive(answer["stdout"].as_str().unwrap().trim().parse().unwrap()));
}

/// Lists the processes that run with a server's folder in their environment.
fn runs_of(server: &Server) -> Vec<u32> {
    let work = server.root.path().join("work");
    let is_run = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        is_alive(*pid) && String::from_utf8_lossy(&environment).contains(&format!("HOME={}", work.display()))
    };
    processes().into_iter().map(|process| process.pid).filter(is_run).collect()
}

/// Whichever of the two processes is killed, and wherever a run has put its own, nothing of it stays.
#[test]
fn a_killed_server_takes_its_runs_along() {
    if !crate::support::is_root() {
        return print("not tested: only root sees the environment of other processes in a sandbox");
    }
    let skill = "sleep 301 & (sleep 302 & sleep 303) & set -m; sleep 304 & (set +m; sleep 305 & sleep 306) & wait";
    for sandbox in ["auto", "off"] {
        for supervisor in [false, true] {
            let mut server = Server::builder()
                .env("API_KEY", "very-secret")
                .bash("tree", skill)
                .script("escape", "setsid -f sleep 307; setsid -f sh -c 'sleep 308 & sleep 309'; sleep 310")
                .manifest("tree", "env: {grant: [API_KEY]}")
                .flags(&["--sandbox", sandbox])
                .start();
            server.start_task("tree", r#"{"timeout":60}"#);
            // Out of its session, which takes a run without the sandbox, it is found as an orphan of the supervisor's alone.
            let escapes = sandbox == "auto" || !supervisor;
            if escapes {
                server.start_task("escape", r#"{"timeout":60}"#);
            }
            let count = if escapes { 10 } else { 6 };
            wait_until("every process of the runs goes on", || {
                let command = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                runs_of(&server).iter().filter(|pid| command(pid).starts_with("sleep\0")).count() == count
            });
            signal("-KILL", if supervisor { server.supervisor() } else { server.pid() });
            wait_until("no process of the runs is left", || runs_of(&server).is_empty());
            wait_until("the server is gone", || !is_alive(server.pid()));
            let code = server.wait().code();
            assert_eq!(code, if supervisor { None } else { Some(128 + 9) });
        }
    }
}

#[test]
fn a_killed_server_leaves_its_folder_to_the_next() {
    let mut server = Server::builder().script("wait", "exec sleep 300").start();
    server.start_task("wait", r#"{"timeout":60}"#);
    wait_until("the run goes on", || !server.children().is_empty());
    let work = server.root.path().join("work");
    signal("-KILL", server.pid());
    server.wait();
    assert_eq!(fs::read_dir(&work).unwrap().count(), 1);
    let next = Server::builder().work(&work).start();
    assert_eq!(fs::read_dir(&work).unwrap().count(), 1, "the one of the next server");
    drop(next);
}

#[test]
fn a_unix_socket() {
    let mut server = Server::builder().on_unix_socket().script("hello", "echo hi").start();
    let Place::Unix(path) = server.place().clone() else { panic!("{:?}", server.place()) };
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert_eq!(server.run("hello", "{}").json()["stdout"], "hi\n");
    server.signal("-TERM");
    assert!(server.wait().success());
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_is_replaced_and_nothing_else() {
    let builder = Server::builder().on_unix_socket();
    drop(std::os::unix::net::UnixListener::bind(builder.root().join("socket")).unwrap());
    let server = builder.start();
    assert_eq!(server.get("/healthz").status, 200);

    let builder = Server::builder().on_unix_socket().file("socket", "precious", 0o644);
    let path = builder.root().join("socket");
    let root = builder.root().to_owned();
    let output = builder.command().output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    assert_eq!(fs::read_dir(root.join("work")).unwrap().count(), 0);
}

#[test]
fn the_probe_asks_the_running_server() {
    let probe = |listen: &str| {
        Command::new(env!("CARGO_BIN_EXE_charly-skill")).args(["--probe", "--listen", listen]).output().unwrap()
    };
    let server = Server::builder().start();
    let Place::Tcp(address) = server.place().clone() else { panic!("{:?}", server.place()) };
    assert!(probe(&address).status.success());
    drop(server);
    let output = probe(&address);
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("error: the server on {address} is not well: Connection refused (os error 111)\n")
    );
    let server = Server::builder().on_unix_socket().start();
    let Place::Unix(path) = server.place() else { panic!("{:?}", server.place()) };
    assert!(probe(&format!("unix:{}", path.display())).status.success());
}

#[test]
fn the_configuration_is_checked() {
    let good = Server::builder().script("gh", "true").manifest("gh", "env: {grant: [GH_TOKEN]}").env("GH_TOKEN", "x");
    let (status, text) = good.flags(&["--check"]).output();
    assert!(status.success(), "{text}");
    assert!(text.contains("the configuration is valid: 1 skills, 1 manifests, 1 tokens, landlock: "), "{text}");

    let (status, text) = Server::builder().manifest("gone", "").flags(&["--check"]).output();
    assert!(status.success() && text.contains("warning: no skill named `gone`\n"), "{text}");

    for (builder, expected) in [
        (
            Server::builder().script("gh", "true").manifest("gh", "env: {grant: [GH_TOKEN]}"),
            "error: the configuration is not valid: the manifest of `gh` grants `GH_TOKEN`, which the server's environment does \
             not have\n",
        ),
        (
            Server::builder().manifest("gh", "netwrok: true"),
            "error: the configuration is not valid: the manifests cannot be used: the manifest `ROOT/manifests/gh.yml` is not \
             well formed: ",
        ),
        (
            Server::builder().without_token().env("SKILL_TOKEN", ""),
            "error: the configuration is not valid: the callers cannot be used: the token of `default` is empty\n",
        ),
        (
            Server::builder().flags(&["--token-file", "/no/such/file"]),
            "error: cannot read the token in `/no/such/file`: No such file",
        ),
        (Server::builder().flags(&["--callers", "/no/such/file"]), "cannot read `/no/such/file`: No such file"),
    ] {
        for flags in [&["--check"][..], &[]] {
            let mut command = builder.command();
            let output = command.args(flags).output().unwrap();
            assert!(!output.status.success());
            let text = String::from_utf8(output.stderr).unwrap().replace(builder.root().to_str().unwrap(), "ROOT");
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn only_local_addresses_go_without_a_token() {
    let program = env!("CARGO_BIN_EXE_charly-skill");
    let empty = tempfile::tempdir().unwrap();
    let check = |listen: &str, token: Option<&str>| {
        let mut command = Command::new(program);
        command.env_clear().args(["--check", "--listen", listen, "--skills"]).arg(empty.path());
        command.envs(token.map(|token| ("SKILL_TOKEN", token)));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let (valid, text) = check(listen, None);
        assert!(!valid && text.contains("can be reached from elsewhere, and no token is set"), "{text}");
        assert!(check(listen, Some("0123456789abcdef")).0);
    }
    for listen in ["127.0.0.1:0", "[::1]:0", "unix:/tmp/x"] {
        let (valid, text) = check(listen, None);
        assert!(valid && text.contains("warning: no token is set"), "{text}");
    }
}

/// As process 1 of a container, the server reaps what its runs leave behind and passes signals on.
#[test]
fn process_1_reaps_orphans_and_passes_signals_on() {
    let unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let possible =
        Command::new(unshare[0]).args(&unshare[1..]).arg("true").output().is_ok_and(|output| output.status.success());
    if !possible {
        return print("not tested: this machine makes no process namespaces");
    }
    // Without the sandbox a run can leave its group, and leaves an orphan that ends later.
    let mut server = Server::builder()
        .through(&unshare)
        .flags(&["--sandbox", "off"])
        .script("orphan", "setsid sh -c 'sleep 0.2' >/dev/null 2>&1 & sleep 0.1; echo $$")
        .start();
    let first = server.pid();
    assert_eq!(children_of(first).len(), 1, "process 1 has started the server");
    for _ in 0..5 {
        assert_eq!(server.run("orphan", "{}").json()["status"], "ok");
    }
    wait_until("every orphan is reaped", || children_of(first).len() == 1);
    signal("-TERM", first);
    assert!(server.wait().success(), "{}", server.log());
    assert!(server.log().contains("stopping"));
    assert!(!is_alive(first));
}
