//! Many runs of every kind at once: nothing may be left of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use serde_json::json;

use crate::support::{Connection, Server, TOKEN, print, processes, wait_until};

/// How many runs; `CHARLY_SOAK_RUNS=10000` is the long one.
const RUNS: usize = 1500;
const CLIENTS: usize = 8;

/// What the server may grow by while it runs; allocators keep a little of what was free.
const GROWTH_KIB: u64 = 6 * 1024;

/// What runs answer that leave something behind.
const LEFT: &str = r#"{"status":"ok","stdout":"done\n","stderr":"","exit_code":0}"#;

#[test]
fn nothing_is_left_of_many_runs() {
    let runs = std::env::var("CHARLY_SOAK_RUNS").map_or(RUNS, |text| text.parse().unwrap());
    let server = Arc::new(
        Server::builder()
            .program("true", "/bin/true")
            .program("cat", "/bin/cat")
            .script("fail", "exit 3")
            .script("noise", "head -c 200000 /dev/zero; head -c 100000 /dev/zero >&2")
            .script("files", "mkdir -p a/b; echo x > a/b/c; ln -s / root; chmod 000 a")
            .script("leave", "sleep 300 & echo done")
            .script("escape", "setsid sleep 300 >/dev/null 2>&1 & sleep 0.01; echo done")
            .script("slow", "sleep 300")
            .flags(&["--results-mib", "8", "--queue", "256"])
            .start(),
    );
    // The first runs fill caches and start threads.
    let mut connection = server.connect();
    for at in 0..runs / 10 {
        one(&server, &mut connection, at);
    }
    settle(&server);
    let (resident, descriptors) = (server.resident_kib(), server.descriptors());

    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (server, next) = (server.clone(), next.clone());
            thread::spawn(move || {
                let mut connection = server.connect();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= runs {
                        return;
                    }
                    one(&server, &mut connection, at);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let took = began.elapsed();
    settle(&server);

    let grown = server.resident_kib().saturating_sub(resident);
    print(&format!(
        "{runs} runs in {took:.1?}: {} KiB resident, grown by {grown} KiB; descriptors {descriptors:?} before, {:?} after",
        server.resident_kib(),
        server.descriptors()
    ));
    assert!(grown < GROWTH_KIB, "grown from {resident} by {grown} KiB");
    match descriptors {
        Some(before) => {
            wait_until("every descriptor is closed", || server.descriptors().is_some_and(|now| now <= before));
        }
        None => print("descriptors not counted: that takes root"),
    }
    assert_eq!(server.get("/healthz").text(), "ok");
}

/// Waits until no process and no file of any run is left.
fn settle(server: &Server) {
    wait_until("every run has ended", || server.children().is_empty());
    wait_until("every folder is removed", || server.leftovers().is_empty());
    // A request whose caller hung up may be taken up only now, so both are counted again each time.
    wait_until("every end is recorded", || {
        let audit = server.audit();
        audit.matches(r#""event":"started""#).count() == audit.matches(r#""event":"finished""#).count()
    });
    wait_until("every run has ended", || server.children().is_empty());
    let own = server.root.path().to_str().unwrap();
    let left = processes().into_iter().filter(|process| {
        let read = |file: &str| std::fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
        ![server.pid(), server.supervisor()].contains(&process.pid)
            && process.state != 'Z'
            && String::from_utf8_lossy(&read("environ")).contains(own)
    });
    assert_eq!(left.count(), 0, "processes of runs");
}

fn one(server: &Server, connection: &mut Connection, at: usize) {
    match at % 50 {
        0 => assert_eq!(connection.run("fail", "{}").json()["exit_code"], 3),
        1 => {
            let answer = connection.run("noise", "{}").json();
            assert_eq!(answer["stdout"].as_str().unwrap().len(), 200_000);
        }
        2 | 3 => assert_eq!(connection.run("files", "{}").json()["status"], "ok"),
        4 | 5 => assert_eq!(connection.run("leave", "{}").text(), LEFT),
        6 => assert_eq!(connection.run("escape", "{}").text(), LEFT),
        7..=12 => {
            let text = at.to_string().repeat(5000);
            let body = json!({ "stdin": text, "args": ["-"], "env": { "SKILL_AT": text } }).to_string();
            assert!(connection.run("cat", &body).json()["stdout"] == text.as_str());
        }
        13 => {
            // Fetched, or left to be cancelled.
            let answer = connection.run("cat", r#"{"timeout":60,"stdin":"later"}"#);
            assert_eq!(answer.status, 202, "{}", answer.text());
            let id = answer.json()["task_id"].as_str().unwrap().to_owned();
            assert_eq!(server.result(&id)["stdout"], "later");
            assert_eq!(connection.request("DELETE", &format!("/task/{id}"), &[], "").status, 200);
        }
        14 => {
            let answer = connection.run("slow", r#"{"timeout":60}"#);
            let id = answer.json()["task_id"].as_str().unwrap().to_owned();
            assert_eq!(connection.request("DELETE", &format!("/task/{id}"), &[], "").json()["cancelled"], true);
        }
        15 => {
            // A caller that hangs up.
            let head = format!("Host: localhost\r\nX-Skill-Token: {TOKEN}\r\nContent-Type: application/json\r\n");
            let mut connection = server.connect();
            connection.write(format!("POST /skill/slow HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}").as_bytes());
        }
        16 => assert_eq!(connection.run("absent", "{}").status, 404),
        17 if at % 1000 == 17 => assert_eq!(connection.run("slow", r#"{"timeout":1}"#).json()["timed_out"], true),
        _ => {
            assert_eq!(connection.run("true", "{}").text(), r#"{"status":"ok","stdout":"","stderr":"","exit_code":0}"#);
        }
    }
}
