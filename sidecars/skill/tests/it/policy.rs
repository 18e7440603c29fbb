//! Callers, manifests, tasks and the audit log.

use serde_json::json;

use crate::support::{Connection, Server, is_root, print, wait_until};

#[test]
fn the_routes_answer_as_they_always_did() {
    let server = Server::builder().script("greet", r#"echo "hello $1"; echo oops >&2; exit "${2:-0}""#).start();
    assert_eq!(server.get("/healthz").text(), "ok");
    assert_eq!(
        server.run("greet", r#"{"args":["you"]}"#).text(),
        r#"{"status":"ok","stdout":"hello you\n","stderr":"oops\n","exit_code":0}"#
    );
    assert_eq!(
        server.run("greet", r#"{"args":["you","7"]}"#).text(),
        r#"{"status":"error","stdout":"hello you\n","stderr":"oops\n","exit_code":7}"#
    );
    let id = server.start_task("greet", r#"{"args":["later"],"timeout":31}"#);
    assert_eq!(id.len(), 36);
    assert_eq!(id.as_bytes()[14], b'4', "a version 4 UUID");
    assert_eq!(server.result(&id), json!({"status":"ok","stdout":"hello later\n","stderr":"oops\n","exit_code":0}));
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/skill/greet", 405),
        ("POST", "/task/x", 405),
        ("GET", "/task/x", 404),
        ("POST", "/skill/none", 404),
        ("POST", "/skill/", 404),
    ] {
        assert_eq!(server.send(method, path, "{}").status, status, "{method} {path}");
    }
    let long = format!(r#"{{"stdin":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(server.run("greet", &long).status, 413);
    // The longest time is 300 seconds, and a longer one means that.
    assert_eq!(server.run("greet", r#"{"timeout":86400}"#).status, 202);
}

#[test]
fn arguments_arrive_as_they_are() {
    let server = Server::builder().script("count", r#"for a; do printf '<%s>' "$a"; done"#).start();
    let arguments = ["", "a b", "$(id)", "`id`", ";id", "*", "-n", "--", "'\"\\", "日本", "line\nbreak", "\u{202e}"];
    let answer = server.run("count", &json!({ "args": arguments }).to_string()).json();
    let expected = format!("<{}>", arguments.join("><"));
    assert_eq!(answer["stdout"], expected);
}

#[test]
fn a_manifest_decides_on_arguments_and_environment() {
    let server = Server::builder()
        .env("GH_TOKEN", "granted-secret")
        .env("OTHER", "withheld-secret")
        .file("key", "file-secret\n", 0o600)
        .script("gh", "env")
        .script("plain", "env");
    let key = server.root().join("key").display().to_string();
    let server = server
        .manifest(
            "gh",
            &format!(
                "description: Reads issues\nargs: [{{begin: [issue, list|view], rest: ['[0-9]+']}}]\n\
                 env: {{grant: [GH_TOKEN], set: {{SKILL_MODE: fixed, LANG: C}}, file: {{KEY: {key}}}}}\n"
            ),
        )
        .start();
    assert_eq!(
        server.get("/skills").text(),
        r#"{"skills":[{"name":"gh","description":"Reads issues"},{"name":"plain"}]}"#
    );
    let answer = server.run("gh", r#"{"args":["issue","view","7"]}"#).json();
    let text = answer["stdout"].as_str().unwrap();
    for line in ["GH_TOKEN=granted-secret", "KEY=file-secret", "SKILL_MODE=fixed", "LANG=C"] {
        assert_eq!(text.lines().filter(|known| *known == line).count(), 1, "{line} in {text}");
    }
    assert!(!text.contains("withheld-secret"));
    for args in [r#"["auth","token"]"#, "[]", r#"["issue","view","7;id"]"#, r#"["issue","view","7","--web"]"#] {
        assert_eq!(server.run("gh", &format!(r#"{{"args":{args}}}"#)).status, 403, "{args}");
    }
    assert_eq!(server.run("gh", r#"{"args":["issue","list"],"env":{"SKILL_MODE":"mine"}}"#).status, 400);
    assert!(!server.run("plain", "{}").text().contains("secret"));
}

#[test]
fn a_manifest_bounds_time_concurrency_and_resources() {
    let server = Server::builder()
        .script("slow", "sleep 300")
        .manifest("slow", "timeout: 1\nconcurrent: 1")
        .script("limits", "ulimit -n; ulimit -c; ulimit -t; head -c 3000000 /dev/zero > big")
        .manifest("limits", "limits: {open_files: 20, cpu_seconds: 9, file_mib: 1}")
        .start();
    assert_eq!(server.run("slow", r#"{"timeout":20}"#).json()["timed_out"], true);
    let answer = server.run("limits", "{}").json();
    assert_eq!(answer["stdout"], "20\n0\n9\n");
    assert_ne!(answer["exit_code"], 0, "a file larger than allowed was written");
}

#[test]
fn a_manifest_bounds_memory_and_processes() {
    if !std::path::Path::new("/bin/bash").exists() {
        return print("not tested: there is no bash");
    }
    let grow = "printf -v text '%*s' $1 ''; echo ${#text}";
    let fork = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all";
    // The bound is on all of a user's processes, so this one has no others.
    let user = if is_root() { "run_as: '54321:54321'\n" } else { "" };
    let server = Server::builder()
        .bash("grow", grow)
        .manifest("grow", "limits: {memory_mib: 64}")
        .script("fork", fork)
        .manifest("fork", &format!("{user}limits: {{processes: 5}}"))
        .start();
    assert_eq!(server.run("grow", r#"{"args":["1000000"]}"#).json()["stdout"], "1000000\n");
    let answer = server.run("grow", r#"{"args":["200000000"]}"#).json();
    assert_eq!((&answer["status"], &answer["stdout"]), (&"error".into(), &"".into()), "{answer}");
    if is_root() {
        let answer = server.run("fork", "{}").json();
        assert!(answer["stderr"].as_str().unwrap().contains("fork"), "{answer}");
        assert_eq!(answer["stdout"], "", "{answer}");
    } else {
        print("the bound on processes is not tested: that takes root");
    }
}

/// What a caller asks for is cut to the server's bound, and then decides whether the run is a task.
#[test]
fn the_longest_time_is_the_servers() {
    let server = Server::builder().script("slow", "sleep 300").flags(&["--run-time", "1"]).start();
    assert_eq!(server.run("slow", r#"{"timeout":300}"#).json()["timed_out"], true);
}

#[test]
fn only_skills_with_a_manifest_where_one_is_required() {
    let server = Server::builder()
        .script("known", "echo yes")
        .script("unknown", "echo no")
        .manifest("known", "")
        .flags(&["--require-manifest"])
        .start();
    assert_eq!(server.get("/skills").text(), r#"{"skills":[{"name":"known"}]}"#);
    assert_eq!(server.run("known", "{}").status, 200);
    assert_eq!(server.run("unknown", "{}").status, 404);
}

#[test]
fn a_run_has_a_folder_of_its_own() {
    let server =
        Server::builder().script("place", "pwd; echo $HOME; echo $TMPDIR; ls -A; mkdir -p a/b; echo x > a/b/c").start();
    let answer = server.run("place", "{}").json();
    let lines: Vec<&str> = answer["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 3, "it is empty");
    assert!(lines[0] == lines[1] && lines[1] == lines[2]);
    assert_eq!(server.leftovers(), Vec::<std::path::PathBuf>::new());

    let shared = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .script("place", "pwd; echo x > made")
        .manifest("place", &format!("folder: {}", shared.path().display()))
        .start();
    assert_eq!(server.run("place", "{}").json()["stdout"], format!("{}\n", shared.path().display()));
    assert!(shared.path().join("made").exists());
}

#[test]
fn a_run_may_be_another_user() {
    let text = "run_as: '65534:65534'";
    let builder =
        Server::builder().script("who", "id -u; id -g; id -G; echo x > mine; stat -c %u mine").manifest("who", text);
    if !is_root() {
        print("not tested: another user for a run takes root");
        let (status, text) = builder.output();
        assert!(!status.success());
        assert!(
            text.contains("the manifest of `who` wants another user, which takes a server that runs as root"),
            "{text}"
        );
        return;
    }
    let server = builder.start();
    let answer = server.run("who", "{}").json();
    assert_eq!(answer["stdout"], "65534\n65534\n65534\n65534\n", "{answer}");
}

#[test]
fn each_caller_has_a_token_skills_and_tasks_of_its_own() {
    let server = Server::builder()
        .without_token()
        .file("agent.token", "agent-token-0123456789\n", 0o600)
        .file("admin.token", "admin-token-0123456789\n", 0o600)
        .file(
            "callers.yml",
            "callers:\n- {name: agent, token_file: agent.token, skills: [one]}\n- {name: admin, token_file: admin.token, skills: ['*']}\n",
            0o600,
        )
        .script("one", "echo 1")
        .script("two", "echo 2");
    let file = server.root().join("callers.yml").display().to_string();
    let server = server.flags(&["--callers", &file]).start();
    let send = |token: &str, head: &str, body: &str| {
        let mut connection = Connection::open(server.place());
        let length = body.len();
        connection.write(
            format!(
                "{head} HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: {token}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        connection.answer().unwrap()
    };
    let (agent, admin) = ("agent-token-0123456789", "admin-token-0123456789");
    assert_eq!(send(agent, "GET /skills", "").text(), r#"{"skills":[{"name":"one"}]}"#);
    assert_eq!(send(admin, "GET /skills", "").text(), r#"{"skills":[{"name":"one"},{"name":"two"}]}"#);
    assert_eq!(send(agent, "POST /skill/one", "{}").status, 200);
    assert_eq!(send(agent, "POST /skill/two", "{}").status, 403);
    assert_eq!(send(agent, "POST /skill/absent", "{}").status, 403, "what there is is not told");
    assert_eq!(send(admin, "POST /skill/two", "{}").status, 200);
    assert_eq!(send("nobody", "POST /skill/one", "{}").status, 401);

    let task = send(admin, "POST /skill/two", r#"{"timeout":60}"#).json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(send(agent, &format!("GET /task/{task}"), "").status, 404);
    assert_eq!(send(agent, &format!("DELETE /task/{task}"), "").status, 404);
    assert_eq!(send(admin, &format!("GET /task/{task}"), "").status, 200);
}

#[test]
fn a_task_can_be_cancelled() {
    let server = Server::builder().script("wait", "echo $$; exec sleep 300").script("quick", "echo done").start();
    let id = server.start_task("wait", r#"{"timeout":60}"#);
    wait_until("the run has started", || server.audit().contains("started"));
    let answer = server.send("DELETE", &format!("/task/{id}"), "");
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!((&answer["cancelled"], &answer["exit_code"]), (&true.into(), &(-1).into()), "{answer}");
    assert_eq!(server.children(), Vec::<u32>::new());
    assert_eq!(server.get(&format!("/task/{id}")).status, 404);

    let id = server.start_task("quick", r#"{"timeout":60}"#);
    server.result(&id);
    assert_eq!(server.send("DELETE", &format!("/task/{id}"), "").json()["stdout"], "done\n");
    assert_eq!(server.send("DELETE", &format!("/task/{id}"), "").status, 404);
}

#[test]
fn a_caller_that_hangs_up_ends_its_run() {
    let server = Server::builder().script("wait", "exec sleep 300").start();
    let mut connection = server.connect();
    connection.write(
        format!(
            "POST /skill/wait HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: {}\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n{{}}",
            crate::support::TOKEN
        )
        .as_bytes(),
    );
    wait_until("the run goes on", || !server.children().is_empty());
    drop(connection);
    wait_until("the run is dead", || server.children().is_empty());
    wait_until("the end is recorded", || server.audit().contains(r#""outcome":"cancelled""#));
}

#[test]
fn kept_results_are_bounded() {
    let server =
        Server::builder().script("big", "head -c 900000 /dev/zero | tr '\\0' x").flags(&["--results-mib", "4"]).start();
    let mut kept = Vec::new();
    let refused = loop {
        let answer = server.run("big", r#"{"timeout":60}"#);
        match answer.status {
            202 => kept.push(answer.json()["task_id"].as_str().unwrap().to_owned()),
            _ => break answer,
        }
        server.result(kept.last().unwrap());
    };
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!((2..=4).contains(&kept.len()), "{} results of 0.9 MB in 4 MiB", kept.len());
    for id in &kept {
        assert_eq!(server.get(&format!("/task/{id}")).status, 200, "what was promised is kept");
    }
    server.send("DELETE", &format!("/task/{}", kept[0]), "");
    assert_eq!(server.run("big", r#"{"timeout":60}"#).status, 202);
}

/// An answer may take many times what the program wrote: a NUL byte takes six in JSON.
#[test]
fn a_result_takes_no_more_than_was_reserved_for_it() {
    let server = Server::builder()
        .script("nuls", "head -c 900000 /dev/zero; head -c 900000 /dev/zero >&2")
        .flags(&["--results-mib", "4"])
        .start();
    let mut kept = Vec::new();
    let refused = loop {
        let answer = server.run("nuls", r#"{"timeout":60}"#);
        match answer.status {
            202 => kept.push(answer.json()["task_id"].as_str().unwrap().to_owned()),
            _ => break answer,
        }
        assert_eq!(server.result(kept.last().unwrap())["truncated"], true);
    };
    assert_eq!(refused.status, 429);
    assert!(kept.len() >= 3, "{} results in 4 MiB", kept.len());
    let size: usize = kept.iter().map(|id| server.get(&format!("/task/{id}")).body.len()).sum();
    assert!(size <= 4 << 20, "{size} bytes are kept");
    // An answer that nobody keeps is whole.
    let answer = server.run("nuls", "{}").json();
    assert_eq!((answer.get("truncated"), answer["stdout"].as_str().unwrap().len()), (None, 900_000));
}

/// Reads the audit log once it has as many lines as these.
fn audit(server: &Server, lines: usize) -> Vec<serde_json::Value> {
    wait_until("everything is recorded", || server.audit().lines().count() >= lines);
    server.audit().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each start has its end, and each accepted run both, also one that never came to run.
#[test]
fn runs_that_never_start_are_recorded_too() {
    let server = Server::builder()
        .script("slow", "exec sleep 300")
        .script("keyed", "true")
        .manifest("keyed", "env: {file: {KEY: /no/such/key}}")
        .flags(&["--runs", "1"])
        .start();
    let slow = server.start_task("slow", r#"{"timeout":60}"#);
    wait_until("the run goes on", || !server.children().is_empty());
    // The first is not given its turn in its time, the caller has the second cancelled.
    assert_eq!(server.run("slow", r#"{"timeout":1,"args":["late"]}"#).status, 429);
    let waiting = server.start_task("slow", r#"{"timeout":60,"args":["waiting"]}"#);
    assert_eq!(server.send("DELETE", &format!("/task/{waiting}"), "").json()["cancelled"], true);
    assert_eq!(server.send("DELETE", &format!("/task/{slow}"), "").json()["cancelled"], true);
    let id = server.start_task("keyed", r#"{"timeout":60,"args":["keyless"]}"#);
    let answer = server.result(&id);
    assert!(answer["stderr"].as_str().unwrap().contains("cannot read the credential `KEY`"), "{answer}");

    let lines = audit(&server, 8);
    assert_eq!(lines.len(), 8, "{lines:?}");
    for (args, outcome) in [
        (json!([]), "cancelled"),
        (json!(["late"]), "not_started"),
        (json!(["waiting"]), "cancelled"),
        (json!(["keyless"]), "not_started"),
    ] {
        let start = lines.iter().find(|line| line["event"] == "started" && line["args"] == args).unwrap();
        let end = lines.iter().find(|line| line["event"] == "finished" && line["run"] == start["run"]).unwrap();
        assert_eq!((&end["outcome"], &end["caller"]), (&outcome.into(), &"default".into()), "{args}");
    }
    wait_until("the log says it too", || server.log().contains("cannot read the credential `KEY`"));
}

#[test]
fn the_audit_log_tells_who_ran_what_and_no_secret() {
    let server = Server::builder()
        .env("API_KEY", "s3cr3t-value-123")
        .script("call", "echo $API_KEY >&2; exit 3")
        .manifest("call", "env: {grant: [API_KEY]}\nredact: ['--password', 'user:.*']")
        .start();
    let body = json!({
        "args": ["--password", "hunter2", "user:x", "https://example/?k=s3cr3t-value-123", "plain"],
        "env": { "SKILL_PIN": "caller-secret" },
        "stdin": "stdin-secret",
    });
    assert_eq!(server.run("call", &body.to_string()).json()["exit_code"], 3);
    wait_until("the end is recorded", || server.audit().contains("finished"));
    let audit = server.audit();
    let lines: Vec<serde_json::Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0]["args"],
        json!(["--password", "[redacted]", "[redacted]", "https://example/?k=[redacted]", "plain"])
    );
    assert_eq!((&lines[0]["caller"], &lines[0]["skill"]), (&"default".into(), &"call".into()));
    assert_eq!(lines[0]["run"], lines[1]["run"]);
    assert_eq!((&lines[1]["outcome"], &lines[1]["exit_code"]), (&"failed".into(), &3.into()));
    for secret in ["s3cr3t", "hunter2", "caller-secret", "stdin-secret", crate::support::TOKEN] {
        assert!(!audit.contains(secret), "{secret}");
        assert!(!server.log().contains(secret), "{secret}");
    }
}
