//! What a run through the server costs beside a bare `fork` and `exec` of the same program.
//!
//! `cargo bench -p charly-skill` prints the figures and fails where one misses what the project promises. It drives the
//! release build of the real program over keep-alive connections. How many programs can be started in a second is the
//! machine's affair, so the rate that as many clients reach without any server stands beside the server's.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

#[path = "../tests/it/support.rs"]
mod support;

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{Connection, Server, print};

const PROGRAM: &str = "/bin/true";
const SAMPLES: usize = 1500;
const CLIENTS: usize = 4;
const SECONDS: u64 = 5;

/// Runs a second.
const RATE: u64 = 2000;

fn main() -> ExitCode {
    // `cargo test --benches` only asks whether this runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let samples = if quick { 20 } else { SAMPLES };
    let seconds = if quick { 0 } else { SECONDS };

    let mut met = true;
    for (title, flags) in [("sandboxed", &["--sandbox", "auto"][..]), ("without sandbox", &["--sandbox", "off"])] {
        let server = Server::builder().program("true", PROGRAM).flags(flags).start();
        let (mut bare, mut served) = (Vec::new(), Vec::new());
        let mut connection = server.connect();
        // Taken in turn, so that whatever else the machine does weighs on both alike.
        for _ in 0..samples {
            bare.push(time(run_bare));
            served.push(time(|| assert_run(&mut connection)));
        }
        let (bare, served) = (median(bare), median(served));
        let overhead = served.saturating_sub(bare);
        let span = Duration::from_secs(seconds);
        let floor = rate(span, || run_bare);
        let before = server.processor_time();
        let rate = rate(span, || {
            let mut connection = server.connect();
            move || assert_run(&mut connection)
        });
        let runs = u32::try_from(rate * seconds).unwrap().max(1);
        let each = server.processor_time().saturating_sub(before) / runs;
        let resident = server.resident_kib();
        print(&format!(
            "{title}: bare {bare:.0?}, served {served:.0?}, overhead {overhead:.0?} (median of {samples}); \
             {rate} runs/s with {CLIENTS} connections, {floor} of them bare; {each:.0?} of processor time a run, the program's own included; \
             {resident} KiB resident"
        ));
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let part = rate as f64 / floor.max(1) as f64;
        print(&format!("{title}: {part:.2} of what the same clients reach bare"));
        met &= overhead <= Duration::from_millis(1) && resident <= 12 * 1024 && rate >= RATE;
    }
    if met || quick { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_bare() {
    let status = Command::new(PROGRAM).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn assert_run(connection: &mut Connection) {
    let answer = connection.run("true", "{}");
    assert_eq!(answer.text(), r#"{"status":"ok","stdout":"","stderr":"","exit_code":0}"#);
}

fn time(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs each of several clients' work over and over, all at one time; returns how often a second.
fn rate<Work: FnMut() + Send + 'static>(span: Duration, client: impl Fn() -> Work) -> u64 {
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut work = client();
            thread::spawn(move || {
                let mut runs = 0;
                while began.elapsed() < span {
                    work();
                    runs += 1;
                }
                runs
            })
        })
        .collect();
    let runs: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    runs * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap().max(1)
}
