//! One test for each fault that the first public implementation of this interface had. Each fails on its behaviour.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::support::{Connection, Server, TOKEN, is_alive, wait_until};

/// Far less than a run that hangs would take, far more than a busy machine adds.
const SOON: Duration = Duration::from_secs(10);

fn pids(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn assert_all_dead(pids: &[u32]) {
    assert!(!pids.is_empty());
    for &pid in pids {
        wait_until("a process of the run is dead", || !is_alive(pid));
    }
}

#[test]
fn a_name_cannot_lead_to_another_program() {
    let server = Server::builder().env("GH_TOKEN", "very-secret").script("show", "env").start();
    for path in
        ["..%2f..%2f..%2fbin%2fsh", "..%2F..%2F..%2Fbin%2Fsh", "%2fbin%2fsh", "..%5c..%5cbin%5csh", "%2e%2e%2fbin%2fsh"]
    {
        let answer = server.run(path, r#"{"args":["-c","env"]}"#);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(!answer.text().contains("very-secret"));
    }
    let answer = server.run("../../../bin/sh", r#"{"args":["-c","env"]}"#);
    assert_eq!(answer.status, 404);
    assert!(!server.audit().contains("started"));
}

#[test]
fn a_run_sees_none_of_the_credentials_it_was_not_granted() {
    let server =
        Server::builder().env("GH_TOKEN", "very-secret").script("show", "env; cat /proc/$PPID/environ").start();
    let answer = server.run("show", "{}").json();
    let text = answer.to_string();
    assert!(text.contains("PATH="), "{text}");
    assert!(!text.contains("very-secret") && !text.contains(TOKEN) && !text.contains("SKILL_TOKEN"), "{text}");
}

#[test]
fn polling_a_running_task_says_that_it_is_pending() {
    let server = Server::builder().script("wait", "sleep 60").start();
    let id = server.start_task("wait", r#"{"timeout":60}"#);
    let answer = server.get(&format!("/task/{id}"));
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"status":"pending"}"#));
    assert_eq!(server.get("/task/00000000-0000-4000-8000-000000000000").status, 404);
}

#[test]
fn polling_an_expired_task_harms_nobody() {
    let server = Server::builder().script("quick", "echo done").flags(&["--result-age", "0"]).start();
    let id = server.start_task("quick", r#"{"timeout":60}"#);
    wait_until("the task expires", || server.get(&format!("/task/{id}")).status == 404);
    for _ in 0..20 {
        assert_eq!(server.get(&format!("/task/{id}")).status, 404);
        assert_eq!(server.get("/healthz").text(), "ok");
    }
}

#[test]
fn a_timeout_is_reported_and_leaves_no_process() {
    let server = Server::builder().script("tree", "sleep 300 & (sleep 300; true) & echo $$ $!; wait").start();
    let answer = server.run("tree", r#"{"timeout":1}"#).json();
    assert_eq!((&answer["status"], &answer["exit_code"]), (&"error".into(), &(-1).into()));
    assert_eq!((&answer["stderr"], &answer["timed_out"]), (&"timeout".into(), &true.into()));
    assert_all_dead(&pids(answer["stdout"].as_str().unwrap()));
}

#[test]
fn input_that_is_not_read_does_not_outlast_the_deadline() {
    let server = Server::builder().script("deaf", "sleep 300").start();
    let began = Instant::now();
    let body = serde_json::json!({ "timeout": 1, "stdin": "x".repeat(300_000) }).to_string();
    assert_eq!(server.run("deaf", &body).json()["timed_out"], true);
    assert!(began.elapsed() < SOON);
}

#[test]
fn input_and_output_larger_than_a_pipe_pass_at_the_same_time() {
    let server = Server::builder().script("mirror", "cat; cat /dev/null >&2").start();
    let text = "0123456789abcdef".repeat(50_000);
    let answer = server.run("mirror", &serde_json::json!({ "stdin": text }).to_string()).json();
    assert_eq!(answer["status"], "ok");
    assert!(answer["stdout"] == text.as_str());
}

#[test]
fn output_is_bounded() {
    let server = Server::builder().script("flood", "head -c 300000000 /dev/zero | tr '\\0' x").start();
    let answer = server.run("flood", "{}").json();
    assert_eq!((&answer["status"], &answer["truncated"]), (&"ok".into(), &true.into()));
    assert_eq!(answer["stdout"].as_str().unwrap().len(), 1 << 20);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB at most");
}

#[test]
fn each_stream_has_its_own_bound() {
    let server = Server::builder()
        .script("both", "head -c 5000 /dev/zero | tr '\\0' x; echo short >&2")
        .manifest("both", "output_kib: 1")
        .start();
    let answer = server.run("both", "{}").json();
    assert_eq!(answer["stdout"].as_str().unwrap().len(), 1024);
    assert_eq!((&answer["stderr"], &answer["truncated"]), (&"short\n".into(), &true.into()));
}

#[test]
fn a_caller_cannot_set_the_token_or_smuggle_a_variable() {
    let server = Server::builder().script("show", "env").start();
    for env in [
        r#"{"SKILL_TOKEN":"x"}"#,
        r#"{"SKILL_A=B":"x"}"#,
        r#"{"AWS_KEY":"x"}"#,
        r#"{"PATH":"/tmp"}"#,
        r#"{"SKILL_":""}"#,
    ] {
        let answer = server.run("show", &format!(r#"{{"env":{env}}}"#));
        assert_eq!(answer.status, 400, "{env}");
    }
    let answer = server.run("show", r#"{"env":{"SKILL_FOO":"bar"}}"#);
    assert!(answer.json()["stdout"].as_str().unwrap().contains("\nSKILL_FOO=bar\n"));
}

#[test]
fn output_that_is_not_utf8_comes_whole_on_request_and_is_marked() {
    let server = Server::builder().script("bytes", r"printf 'a\377\000b'; printf text >&2").start();
    let answer = server.run("bytes", r#"{"encoding":"base64"}"#).json();
    assert_eq!((&answer["stdout"], &answer["stdout_encoding"]), (&"Yf8AYg==".into(), &"base64".into()));
    assert_eq!((&answer["stderr"], answer.get("stderr_encoding")), (&"text".into(), None));
    let answer = server.run("bytes", "{}").json();
    assert_eq!((&answer["stdout"], &answer["stdout_encoding"]), (&"a\u{fffd}\0b".into(), &"lossy".into()));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_cannot_hold_the_answer() {
    let server = Server::builder()
        .script("daemon", "sleep 300 & echo $!")
        .script("escape", "setsid sleep 300 & echo $!; sleep 0.2")
        .start();
    for skill in ["daemon", "escape"] {
        let began = Instant::now();
        let answer = server.run(skill, "{}").json();
        assert_eq!((&answer["status"], &answer["exit_code"]), (&"ok".into(), &0.into()), "{skill}");
        assert!(began.elapsed() < SOON, "{skill}");
        assert_all_dead(&pids(answer["stdout"].as_str().unwrap()));
    }
}

#[test]
fn the_token_is_checked_before_the_body_is_read() {
    let server = Server::builder().script("show", "env").start();
    for token in ["", "X-Skill-Token: wrong\r\n", "X-Skill-Token: \r\n"] {
        let mut connection = server.connect();
        let head = "POST /skill/show HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n";
        connection.write(format!("{head}{token}\r\n").as_bytes());
        // Not one byte of the body was sent.
        assert_eq!(connection.answer().unwrap().status, 401, "{token:?}");
    }
    let nearly = &TOKEN[..TOKEN.len() - 1];
    let mut connection = server.connect();
    connection.write(format!("GET /skills HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: {nearly}\r\n\r\n").as_bytes());
    assert_eq!(connection.answer().unwrap().status, 401);
    let line = r#""event":"refused","caller":null,"method":"GET","path":"/skills","status":401"#;
    wait_until("the refusal is recorded", || server.audit().contains(line));
}

#[test]
fn runs_at_one_time_are_bounded() {
    let server =
        Server::builder().script("wait", "cat > started; sleep 300").flags(&["--runs", "1", "--queue", "1"]).start();
    let tasks = [server.start_task("wait", r#"{"timeout":60}"#), server.start_task("wait", r#"{"timeout":60}"#)];
    let answer = server.run("wait", "{}");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.text());
    for id in tasks {
        assert_eq!(server.send("DELETE", &format!("/task/{id}"), "").json()["cancelled"], true);
    }
    assert_eq!(server.run("wait", r#"{"timeout":1}"#).status, 200);
}

#[test]
fn the_server_is_no_skill() {
    let server = Server::builder().program("charly-skill", env!("CARGO_BIN_EXE_charly-skill")).script("other", "true");
    std::fs::hard_link(env!("CARGO_BIN_EXE_charly-skill"), server.root().join("skills/innocent"))
        .unwrap_or_else(|_| crate::support::print("not tested by hard link: the build lies on another file system"));
    let server = server.start();
    for name in ["charly-skill", "innocent"] {
        assert_eq!(server.run(name, r#"{"args":["--help"]}"#).status, 404, "{name}");
    }
    assert_eq!(server.get("/skills").text(), r#"{"skills":[{"name":"other"}]}"#);
}

#[test]
fn web_pages_are_not_heard() {
    let server = Server::builder().without_token().script("show", "env").start();
    for (host, header, expected) in [
        ("localhost", "X-Nothing: here", 200),
        ("attacker.example", "X-Nothing: here", 421),
        ("127.0.0.1.attacker.example:8080", "X-Nothing: here", 421),
        ("localhost", "Origin: http://attacker.example", 403),
        ("localhost", "Origin: null", 403),
        ("localhost", "Sec-Fetch-Site: cross-site", 403),
    ] {
        for target in ["GET /skills", "GET /healthz"] {
            let mut connection = Connection::open(server.place());
            connection.write(format!("{target} HTTP/1.1\r\nHost: {host}\r\n{header}\r\n\r\n").as_bytes());
            assert_eq!(connection.answer().unwrap().status, expected, "{target} {host} {header}");
        }
    }
}
