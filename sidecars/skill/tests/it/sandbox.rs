//! What the kernel forbids a run, where it can.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Server, is_alive, print, processes};

/// Returns false, and says so, where the kernel has no such thing.
fn has(server: &Server, what: &str) -> bool {
    let there = server.log().contains(what);
    if !there {
        print(&format!("not tested: the kernel does not offer `{what}`"));
    }
    there
}

fn landlock(server: &Server) -> bool {
    has(server, "landlock: V")
}

fn seccomp(server: &Server) -> bool {
    has(server, "seccomp: on")
}

#[test]
fn the_log_says_what_is_enforced() {
    let server = Server::builder().flags(&["--sandbox", "off"]).start();
    assert!(server.log().contains("landlock: off, seccomp: off"), "{}", server.log());
    assert!(server.log().contains("WARN runs are not fully sandboxed"), "{}", server.log());
    let server = Server::builder().start();
    assert!(server.log().contains("landlock: ") && server.log().contains("seccomp: "));
}

#[test]
fn files_outside_what_is_granted_cannot_be_read_or_written() {
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "top-secret").unwrap();
    let path = secret.display();
    let script = format!("cat {path}; echo x > {path}.new; echo ok; echo mine > here && cat here; true > /dev/null");
    let server = Server::builder()
        .script("closed", &script)
        .script("open", &script)
        .manifest("open", &format!("files: {{read: [{path}]}}"))
        .script("wide", &script)
        .manifest("wide", &format!("files: {{write: [{}]}}", outside.path().display()))
        .start();
    if !landlock(&server) {
        return;
    }
    for (skill, read, written) in [("closed", false, false), ("open", true, false), ("wide", true, true)] {
        let answer = server.run(skill, "{}").json();
        let text = answer["stdout"].as_str().unwrap();
        assert_eq!(text.contains("top-secret"), read, "{skill}: {answer}");
        assert!(text.ends_with("ok\nmine\n"), "{skill}: {answer}");
        let new = outside.path().join("secret.new");
        assert_eq!(new.exists(), written, "{skill}");
        let _ = fs::remove_file(new);
    }
}

#[test]
fn a_run_cannot_execute_what_it_wrote() {
    let server =
        Server::builder().script("drop", "cp /bin/true here && chmod 755 here && ./here && echo executed").start();
    if landlock(&server) {
        let answer = server.run("drop", "{}").json();
        assert_eq!(answer["stdout"], "", "{answer}");
    }
}

#[test]
fn a_run_cannot_signal_the_server() {
    let server = Server::builder().script("kill", "kill -9 $PPID").start();
    if landlock(&server) && !server.log().contains("landlock: V1") {
        let _ = server.run("kill", "{}");
        assert_eq!(server.get("/healthz").status, 200);
    }
}

#[test]
fn harmful_system_calls_fail() {
    let server = Server::builder()
        .script("namespace", "unshare --user true || unshare --mount true || unshare --net true || echo refused")
        .script("session", "setsid true && echo pretended")
        .start();
    if seccomp(&server) {
        let answer = server.run("namespace", "{}").json();
        assert_eq!(answer["stdout"], "refused\n", "{answer}");
        let answer = server.run("session", "{}").json();
        assert_eq!(answer["stdout"], "pretended\n", "{answer}");
    }
}

/// Programs put what they start into groups of their own, and signal these; the run goes on, and ends as a whole.
#[test]
fn a_run_may_have_several_process_groups() {
    if !std::path::Path::new("/bin/bash").exists() {
        return print("not tested: there is no bash");
    }
    let server = Server::builder()
        .script("bounded", "timeout 0.1 sleep 300; echo $? after")
        .bash("jobs", "set -m; sleep 300 & kill -TERM -- -$!; wait $!; echo $? after")
        // Each link of the chain has a group of its own, and the one before it has ended.
        .bash("chain", "set -m; echo $$; sleep 0.01; bash \"$0\" more & [ \"$1\" = more ] || sleep 0.3")
        .bash(
            "groups",
            "set -m; sleep 300 & (set +m; sleep 300 & sleep 300 & echo $!) & sleep 300 & echo $!; sleep 0.1",
        )
        .start();
    if !seccomp(&server) {
        return;
    }
    for (skill, expected) in [("bounded", "124 after\n"), ("jobs", "143 after\n")] {
        let answer = server.run(skill, r#"{"timeout":20}"#).json();
        assert_eq!(answer["stdout"], expected, "{skill}: {answer}");
    }
    for skill in ["groups", "chain"] {
        for body in ["{}", r#"{"args":["cut"],"timeout":1}"#] {
            let answer = server.run(skill, body).json();
            let pids: Vec<u32> = answer["stdout"].as_str().unwrap().lines().map(|line| line.parse().unwrap()).collect();
            assert!(pids.len() >= 2, "{skill}: {answer}");
            // Dead when the answer is there, not some time later.
            assert!(!pids.iter().any(|pid| is_alive(*pid)), "{skill}: {answer}");
            let own = server.root.path().to_str().unwrap();
            let left = processes().into_iter().filter(|process| {
                let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
                let is_run = ![server.pid(), server.supervisor()].contains(&process.pid);
                is_run && String::from_utf8_lossy(&environment).contains(own)
            });
            assert_eq!(left.count(), 0, "{skill}");
        }
    }
}

#[test]
fn privileges_cannot_be_gained() {
    let server = Server::builder().script("privileges", "grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status").start();
    let expected = if seccomp(&server) { "NoNewPrivs:\t1\nSeccomp:\t2\n" } else { "NoNewPrivs:\t1\nSeccomp:\t0\n" };
    assert_eq!(server.run("privileges", "{}").json()["stdout"], expected);
}

#[test]
fn a_run_has_no_capability_and_reads_no_other_process() {
    let server = Server::builder()
        .env("API_KEY", "very-secret")
        .script("look", "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; cat /proc/$PPID/environ /proc/$PPID/maps")
        .start();
    let answer = server.run("look", "{}").json();
    let none = "0000000000000000";
    let expected = format!("CapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\n");
    assert_eq!(answer["stdout"], expected, "{answer}");
}

/// Runs of one user share that user; what keeps them from each other's credentials is the file rules' own domain.
#[test]
fn a_run_reads_nothing_of_another_run() {
    let read =
        "for at in /proc/[0-9]*; do [ $at = /proc/$$ ] || cat $at/environ $at/maps; done 2>/dev/null | tr '\\0' '\\n'";
    let trace = "cat /proc/$1/mem >/dev/null && echo read; ls /proc/$1/cwd/ && echo listed";
    let server = Server::builder()
        .env("API_KEY", "very-secret-value")
        .script("holder", "echo mine > note; exec sleep 300")
        .manifest("holder", "env: {grant: [API_KEY]}")
        .script("thief", read)
        .script("look", trace)
        .start();
    if !landlock(&server) {
        return;
    }
    server.start_task("holder", r#"{"timeout":60}"#);
    let sleeps = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    crate::support::wait_until("the holder sleeps", || server.children().first().is_some_and(sleeps));
    let holder = server.children()[0];
    let environment = fs::read(format!("/proc/{holder}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("very-secret-value"), "it is there to be read");
    let answer = server.run("thief", "{}").text();
    assert!(!answer.contains("very-secret"), "{answer}");
    let answer = server.run("look", &format!(r#"{{"args":["{holder}"]}}"#)).json();
    assert_eq!(answer["stdout"], "", "{answer}");
}

#[test]
fn credentials_without_file_rules_are_warned_of() {
    let granted = || {
        Server::builder()
            .script("gh", "true")
            .manifest("gh", "env: {grant: [API_KEY]}")
            .env("API_KEY", "x")
            .flags(&["--check", "--sandbox"])
    };
    let warning =
        "warning: without Landlock, runs of one user can read each other's credentials; `gh` is granted some\n";
    let (status, text) = granted().flags(&["off"]).output();
    assert!(status.success() && text.contains(warning), "{text}");
    let (status, text) = granted().flags(&["auto"]).output();
    assert!(status.success() && text.contains(warning) == text.contains("landlock: not"), "{text}");
}

#[test]
fn the_network_can_be_cut() {
    let script = "exec 9<>/dev/tcp/127.0.0.1/$1 && echo connected";
    let bash = |text: &str| format!("#!/bin/bash\n{text}\n");
    if !std::path::Path::new("/bin/bash").exists() {
        return print("not tested: there is no bash");
    }
    let server = Server::builder()
        .file("skills/with", &bash(script), 0o755)
        .file("skills/without", &bash(script), 0o755)
        .manifest("without", "network: false")
        .start();
    if !seccomp(&server) {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let body = format!(r#"{{"args":["{}"]}}"#, listener.local_addr().unwrap().port());
    assert_eq!(server.run("with", &body).json()["stdout"], "connected\n");
    let answer = server.run("without", &body).json();
    assert_eq!(answer["stdout"], "", "{answer}");
    assert!(answer["stderr"].as_str().unwrap().contains("Operation not permitted"), "{answer}");
}

#[test]
fn a_run_inherits_no_descriptor_and_no_signal() {
    let script = "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; echo $0";
    let server = Server::builder().script("inherit", script).program("list", "/bin/ls").start();
    let answer = server.run("inherit", "{}").json();
    let text = answer["stdout"].as_str().unwrap();
    // 3 is the script, for its interpreter; the last one is of `ls` itself.
    let (descriptors, signals) = text.split_once("Sig").unwrap();
    assert!(["0 1 2 3 4 ", "0 1 2 3 4 5 ", "0 1 2 3 10 ", "0 1 2 3 4 10 "].contains(&descriptors), "{text}");
    // 32 and 33 belong to the C library, and whoever started this test may ignore them.
    let mask = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & !(0b11 << 31);
    let zeros = |line: &str| mask(line) == 0;
    assert!(signals.lines().take(2).all(zeros), "{text}");
    assert!(text.ends_with("/dev/fd/3\n"), "{text}");
    // A program that is no script gets nothing beyond the three streams.
    let answer = server.run("list", r#"{"args":["/proc/self/fd"]}"#).json();
    assert_eq!(answer["stdout"], "0\n1\n2\n3\n", "3 is the folder that it lists: {answer}");
}

#[test]
fn what_cannot_be_started_is_said() {
    let server = Server::builder()
        .file("skills/lost", "#!/no/such/interpreter\n", 0o755)
        .file("skills/text", "no program at all\n", 0o755)
        .start();
    for (skill, expected) in [
        ("lost", "cannot execute the program: No such file or directory (os error 2)"),
        ("text", "cannot execute the program: Exec format error (os error 8)"),
    ] {
        let answer = server.run(skill, "{}").json();
        assert_eq!((&answer["status"], &answer["exit_code"]), (&"error".into(), &(-1).into()));
        assert_eq!(answer["stderr"], expected);
    }
    assert_eq!(server.children(), Vec::<u32>::new());
}
