//! Runs real programs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tree::Stat;
use super::{Cancel, Captured, Exit, Identity, Program, Stream, keeper, run, run_captured};

/// Far beyond what anything here takes, and far below what a hang would.
const LONG: Duration = Duration::from_secs(30);

fn sh(body: &str) -> Program {
    Program {
        argv: ["sh", "-c", body].map(Into::into).to_vec(),
        env: BTreeMap::from([("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())]),
        cwd: PathBuf::from("/"),
        user: None,
        stdin: Vec::new(),
        limit: Some(LONG),
        script: None,
    }
}

fn captured(program: &Program) -> Captured {
    run_captured(program, &Cancel::default(), 1 << 20).unwrap()
}

fn stdout(program: &Program) -> String {
    let captured = captured(program);
    assert_eq!(captured.exit, Exit::Status(0), "{}", captured.stderr.text());
    captured.stdout.text().into_owned()
}

fn is_alive(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_dead())
}

fn pids(text: &str) -> Vec<i32> {
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn hard() -> Cancel {
    let cancel = Cancel::default();
    cancel.escalate();
    cancel.escalate();
    cancel
}

#[test]
fn the_end_and_both_streams_are_reported() {
    for (body, exit, out, err) in [
        ("echo out; echo err >&2; exit 7", Exit::Status(7), "out\n", "err\n"),
        ("true", Exit::Status(0), "", ""),
        ("kill -USR1 $$", Exit::Signal(10), "", ""),
        ("printf late; exec 1>&-; exec 2>&-; exit 4", Exit::Status(4), "late", ""),
    ] {
        let captured = captured(&sh(body));
        assert_eq!((captured.exit, &*captured.stdout.text(), &*captured.stderr.text()), (exit, out, err), "{body}");
    }
}

#[test]
fn what_is_beyond_the_cap_is_dropped_and_said() {
    let captured = run_captured(&sh("printf 12345678; printf 1234 >&2"), &Cancel::default(), 4).unwrap();
    assert_eq!((&*captured.stdout.text(), captured.stdout.truncated), ("1234", true));
    assert_eq!((&*captured.stderr.text(), captured.stderr.truncated), ("1234", false));
}

#[test]
fn the_environment_is_exact() {
    let mut program = sh("");
    program.argv = vec!["env".into()];
    program.env.insert("A".into(), "b c".into());
    assert_eq!(stdout(&program), "A=b c\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
}

#[test]
fn folder_mask_and_session_are_its_own() {
    let mut program = sh("pwd; umask; cut -d' ' -f5-7 /proc/$$/stat; echo $$ $$ 0; cat /proc/$$/status | grep SigBlk");
    program.cwd = "/proc".into();
    let text = stdout(&program);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["/proc", "0022"]);
    assert_eq!(lines[2], lines[3], "process group, session and no terminal");
    assert_eq!(lines[4], "SigBlk:\t0000000000000000");
}

#[test]
fn no_descriptor_is_inherited() {
    // A descriptor that this process itself would hand on to whatever it starts.
    let leak = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(stdout(&sh("ls /proc/$$/fd")), "0\n1\n2\n");
    drop(leak);
}

#[test]
fn input_is_given_whole_or_is_dev_null() {
    assert_eq!(stdout(&sh("readlink /proc/self/fd/0")), "/dev/null\n");
    let mut program = sh("sha256sum");
    program.stdin = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let digest = charly_ir::Digest::of(&program.stdin);
    assert_eq!(stdout(&program), format!("{digest}  -\n"));
    program.argv[2] = "exit 0".into();
    assert_eq!(stdout(&program), "", "input that nobody reads does not hang");
}

#[test]
fn a_program_that_cannot_start_says_why() {
    for (name, cwd, kind) in [
        ("no-such-program", "/", std::io::ErrorKind::NotFound),
        ("sh", "/no/such/folder", std::io::ErrorKind::NotFound),
        ("/etc/passwd", "/", std::io::ErrorKind::PermissionDenied),
    ] {
        let mut program = sh("");
        program.argv[0] = name.into();
        program.cwd = cwd.into();
        let error = run_captured(&program, &Cancel::default(), 0).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (kind, format!("cannot start `{name}`")));
        let source = error.get_ref().and_then(std::error::Error::source).unwrap().to_string();
        assert!(source.contains("os error"), "{source}");
    }
    let nameless = Program { argv: vec![], ..sh("") };
    assert!(run_captured(&nameless, &Cancel::default(), 0).is_err());
}

#[test]
fn a_flood_is_handed_on_and_not_kept() {
    const ALONE: &str = "CHARLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // The peak is a whole process's, so this goes on in one without other tests.
        let name = "process::tests::a_flood_is_handed_on_and_not_kept";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // The first run pages the program's own code in.
    run(&sh("head -c 1048576 /dev/zero"), &Cancel::default(), &mut |_, _| {}).unwrap();
    let (before, mut length, mut largest) = (peak(), 0_u64, 0);
    let exit = run(&sh("head -c 1073741824 /dev/zero"), &Cancel::default(), &mut |_, bytes| {
        length += bytes.len() as u64;
        largest = largest.max(bytes.len());
    });
    assert_eq!((exit.unwrap(), length), (Exit::Status(0), 1 << 30));
    assert!(largest <= 64 << 10);
    let grown = peak() - before;
    assert!(grown < 1024, "{grown} kB");
}

#[test]
fn output_comes_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let body = format!("mkfifo {0}; echo first; read line < {0}; echo $line", gate.display());
    let mut seen = Vec::new();
    run(&sh(&body), &Cancel::default(), &mut |_, bytes| {
        if seen.is_empty() {
            // The program only goes on once its first line has been handed on.
            std::fs::write(&gate, "second\n").unwrap();
        }
        seen.extend_from_slice(bytes);
    })
    .unwrap();
    assert_eq!(seen, b"first\nsecond\n");
}

/// Starts every sort of descendant that is hard to get rid of, and prints their numbers.
const STUBBORN: &str = "
    trap '' TERM HUP
    sleep 300 & echo $!
    setsid sleep 300 & echo $!
    (setsid sh -c 'sleep 300 & echo $!' &)
    sh -c 'sh -c \"sleep 300 & echo \\$!; exec sleep 300\" & echo $!; wait' & echo $!
    echo $$
    wait; sleep 300; sleep 300";

const STUBBORN_COUNT: usize = 7;

/// Runs the stubborn and calls back once all have announced themselves.
fn run_stubborn(cancel: &Cancel, limit: Duration, mut all_there: impl FnMut()) -> (Exit, Vec<i32>) {
    let mut text = String::new();
    let program = Program { limit: Some(limit), ..sh(STUBBORN) };
    let exit = run(&program, cancel, &mut |_, bytes| {
        text.push_str(std::str::from_utf8(bytes).unwrap());
        if text.lines().count() == STUBBORN_COUNT {
            all_there();
        }
    });
    (exit.unwrap(), pids(&text))
}

#[test]
fn a_hard_cancel_ends_the_whole_tree() {
    let (cancel, began) = (Cancel::default(), Instant::now());
    let (exit, pids) = run_stubborn(&cancel, LONG, || {
        cancel.escalate();
        cancel.escalate();
    });
    assert_eq!((exit, pids.len()), (Exit::Killed, STUBBORN_COUNT));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert!(began.elapsed() < LONG);
}

#[test]
fn the_time_limit_ends_the_whole_tree() {
    let (exit, pids) = run_stubborn(&Cancel::default(), Duration::from_secs(2), || {});
    assert_eq!(exit, Exit::TimedOut);
    assert!(!pids.is_empty());
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
}

#[test]
fn a_soft_cancel_lets_the_program_end() {
    let cancel = Cancel::default();
    cancel.escalate();
    assert_eq!(run_captured(&sh("echo done"), &cancel, 9).unwrap().exit, Exit::Status(0));
}

#[test]
fn a_program_may_put_its_things_in_order_when_it_is_ended() {
    let cancel = Cancel::default();
    let program = sh("trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.01; done");
    let mut text = Vec::new();
    let exit = run(&program, &cancel, &mut |stream, bytes| {
        if stream == Stream::Stdout {
            text.extend_from_slice(bytes);
        }
        cancel.escalate();
        cancel.escalate();
    });
    assert_eq!((exit.unwrap(), &text[..]), (Exit::Killed, &b"hi\nbye\n"[..]));
}

#[test]
fn a_daemon_that_keeps_the_output_open_lives_and_does_not_hang_the_run() {
    let began = Instant::now();
    let captured = captured(&sh("setsid sleep 300 & echo $!; exit 3"));
    let took = began.elapsed();
    let [daemon] = pids(&captured.stdout.text())[..] else { panic!("{captured:?}") };
    assert_eq!(captured.exit, Exit::Status(3));
    assert!(is_alive(daemon));
    kill_process(Pid::from_raw(daemon).unwrap(), Signal::KILL).unwrap();
    assert!(took < LONG / 3, "{took:?}");
}

#[test]
fn a_daemon_that_never_stops_writing_does_not_hang_the_run() {
    let captured = captured(&sh("yes & echo $! >&2"));
    assert_eq!(captured.exit, Exit::Status(0));
    // It ends by itself: nobody reads what it writes.
    assert_eq!(pids(&captured.stderr.text()).len(), 1);
}

#[test]
fn orphans_are_waited_for_while_the_program_runs() {
    // Ends only once the keeper, the parent of both shell and orphans, has no dead child on record.
    let body = "
        for i in 1 2 3 4 5 6 7 8 9; do (true & true &); done
        while cat /proc/[0-9]*/stat 2>/dev/null | grep -q \") Z $PPID \"; do sleep 0.01; done";
    assert_eq!(captured(&sh(body)).exit, Exit::Status(0));
}

#[test]
fn runs_beside_each_other_do_not_end_each_other() {
    let mut orphans = Vec::new();
    let outer = run(&sh("(setsid sleep 300 & echo $!); exec sleep 0.1"), &Cancel::default(), &mut |_, bytes| {
        orphans = pids(std::str::from_utf8(bytes).unwrap());
        assert_eq!(run_captured(&sh("sleep 300"), &hard(), 9).unwrap().exit, Exit::Killed);
    });
    assert_eq!(outer.unwrap(), Exit::Status(0));
    assert!(orphans.len() == 1 && is_alive(orphans[0]));
    kill_process(Pid::from_raw(orphans[0]).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_panic_in_the_callers_output_leaves_no_process() {
    let mut seen = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&sh("setsid sleep 300 & echo $!; wait"), &Cancel::default(), &mut |_, bytes| {
            seen = pids(std::str::from_utf8(bytes).unwrap());
            panic!("the caller gives up");
        })
    }));
    assert!(outcome.is_err() && seen.len() == 1 && !is_alive(seen[0]));
}

/// Waits for a process that is nobody's child here, and that has let go of its streams already.
fn wait_for_the_end(pid: i32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};
    match pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        Err(error) => assert_eq!(error, rustix::io::Errno::SRCH),
        Ok(process) => {
            let timeout = Timespec::try_from(LONG).unwrap();
            let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
            assert_eq!(ended, Ok(1), "{pid} lives");
        }
    }
}

#[test]
fn the_program_is_ended_when_the_engine_dies() {
    // To the kernel a process's parent is the thread that forked it, so a thread's end stands for the engine's.
    let script = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
    let program = Program { script: Some(script.clone()), ..sh("sleep 300 & echo $!; wait") };
    let kept = std::thread::spawn(move || keeper::start(&program).unwrap()).join().unwrap();
    let keeper::Kept { mut keeper, stdout, mut status, .. } = kept;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    // The line may or may not have been written by then; the streams end in any case, because their writers do.
    stdout.read_line(&mut line).unwrap();
    stdout.read_to_end(&mut Vec::new()).unwrap();
    status.read_to_end(&mut Vec::new()).unwrap();
    keeper.wait().unwrap();
    for pid in pids(&line) {
        wait_for_the_end(pid);
    }
    assert!(!script.exists(), "nobody else is left to remove it");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn another_user_has_its_groups_and_can_open_its_own_streams() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: switching users needs root");
        return;
    }
    let mut program = sh("id -u; id -g; id -G; echo err > /dev/stderr; grep ^Cap[PE] /proc/self/status");
    program.user = Some(Identity { uid: 4321, gid: 4322, groups: vec![4322, 4323] });
    let captured = captured(&program);
    let none = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n";
    assert_eq!(captured.stdout.text(), format!("4321\n4322\n4322 4323\n{none}"));
    assert_eq!(captured.stderr.text(), "err\n");
    program.user = Some(Identity { uid: 4321, gid: 4322, groups: vec![] });
    program.cwd = tempfile::tempdir().unwrap().path().into();
    assert!(run_captured(&program, &Cancel::default(), 0).is_err(), "the folder is gone");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn nothing_is_started_with_rights_that_could_be_taken_back() {
    use rustix::process::Uid;
    if !rustix::process::geteuid().is_root() {
        println!("not run: acting as another user needs root");
        return;
    }
    // Only this thread's effective user changes, and the thread ends here.
    let outcome = std::thread::spawn(|| {
        rustix::thread::set_thread_res_uid(None::<Uid>, Some(Uid::from_raw(4321)), None::<Uid>).unwrap();
        run_captured(&sh("id -u"), &Cancel::default(), 99).map_err(|error| error.kind())
    });
    assert_eq!(outcome.join().unwrap(), Err(std::io::ErrorKind::PermissionDenied));
}

#[test]
fn a_stream_is_told_from_the_other() {
    let mut order = Vec::new();
    run(&sh("echo a >&2; echo b >&2"), &Cancel::default(), &mut |stream, _| order.push(stream)).unwrap();
    assert!(!order.is_empty() && order.iter().all(|stream| *stream == Stream::Stderr));
}
