//! Authors' own commands: as whom they run, what they leave, and how they misbehave.

use std::time::{Duration, Instant};

use crate::kit::{Result, World};

#[test]
fn a_command_runs_as_whom_it_names_and_is_undone() -> Result {
    let Some(world) = World::new("commands")? else { return Ok(()) };
    world.json("deploy", "bundle add local commands -y").exits(0);
    assert_eq!(world.ok("root", "cat /opt/e2e/deep/word /etc/motd"), "it is spoken\ncharly was here\n");
    assert_eq!(world.ok("root", "cat ~deploy/e2e-mine"), "deploy\n/home/deploy\n");
    assert_eq!(world.ok("root", "cat ~fishy/e2e-theirs; stat -c %U ~fishy/e2e-theirs"), "fishy\nfishy\n");

    assert_eq!(world.json("deploy", "bundle add local -y").exits(0).changed(), 0);
    world.ok("root", "rm -r /opt/e2e");
    assert_eq!(world.json("deploy", "bundle add local -y").exits(0).changed(), 1, "what it is undone by was gone");
    let again = world.json("deploy", "bundle add local -y --rerun commands/command:as-root-over-a-file-that-was-there");
    assert_eq!(again.exits(0).changed(), 1);
    assert_eq!(world.ok("root", "cat /var/log/e2e-runs"), "ran\nran\nran\n");

    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn hooks_run_beside_a_service_and_what_it_makes_is_brought_back() -> Result {
    let Some(world) = World::new("hooked")? else { return Ok(()) };
    world.json("deploy", "bundle add local hooked -y").exits(0);
    assert_eq!(world.ok("root", "cat /opt/e2e-hooked/after"), "active\n");
    let got = world.ok("deploy", "stat -c '%a %U' /dev/shm/e2e-hooked/token; cat /dev/shm/e2e-hooked/token");
    assert_eq!(got, "640 deploy\nserver=e2e.example word=xyzzy\n");
    assert_eq!(world.ok("root", "cat /opt/e2e-hooked/token"), "server=127.0.0.1 word=xyzzy\n");
    // What the user may not read, root's engine reads; but only for a deploy that root's ledger knows to want it.
    world.ok("root", "chmod 700 /opt/e2e-hooked; chmod 600 /opt/e2e-hooked/token; rm /dev/shm/e2e-hooked/token");
    world.code("deploy", 1, "cat /opt/e2e-hooked/token");
    let shown = world.ok("deploy", &format!("cd {} && charly bundle plan local", crate::kit::FIXTURES));
    assert!(shown.contains("brings back /opt/e2e-hooked/token to /dev/shm/e2e-hooked/token"), "{shown}");
    world.json("deploy", "bundle add local -y").exits(0);
    let again = world.ok("deploy", "stat -c '%a %U' /dev/shm/e2e-hooked/token; cat /dev/shm/e2e-hooked/token");
    assert_eq!(again, got);
    let closed = world.json("deploy", "bundle add other closed -y").exits(1).error();
    assert!(closed.starts_with("`/etc/shadow` cannot be brought back: `deploy` may not read it"), "{closed}");
    world.code("deploy", 1, "test -e /dev/shm/e2e-closed");
    world.json("deploy", "bundle del other -y").exits(0);

    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.ok("root", "cat /run/e2e-hooked-before"), "active\n");
    world.ok("root", "rm -r /run/e2e-hooked-before /dev/shm/e2e-hooked");
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_failing_command_is_gone_on_from() -> Result {
    let Some(world) = World::new("failing")? else { return Ok(()) };
    let failed = world.json("deploy", "bundle add local failing -y").exits(1);
    assert_eq!(
        failed.error(),
        "step `failing/command:what-may-fail` failed: the command ended with status 3: its last words:\n\
         looking for the part\nthe part is missing\nhint: mend what is named above; the same command goes on here"
    );
    assert_eq!(world.ok("root", "ls /opt/failing"), "first\n");
    assert!(world.ok("deploy", "charly bundle list").contains("interrupted"));

    world.ok("root", "touch /var/tmp/e2e-part");
    assert_eq!(world.json("deploy", "bundle add local failing -y").exits(0).changed(), 2);
    assert_eq!(world.ok("root", "cat /opt/failing/*"), "first\nfitted\nlast\n");
    world.ok("root", "rm /var/tmp/e2e-part");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");

    // What failed and is never mended goes as well.
    world.json("deploy", "bundle add local failing -y").exits(1);
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_command_that_hangs_ends_with_all_it_started() -> Result {
    let Some(world) = World::new("hanging")? else { return Ok(()) };
    let hung = world.json("deploy", "bundle add local hanging -y").exits(1);
    assert_eq!(
        hung.error(),
        "step `hanging/command:hang` failed: the command was still running after 2 s and was killed with all it had \
         started\nhint: a step that needs longer may say so with `timeout:`"
    );
    assert_eq!(world.run("root", "pgrep --count --exact sleep").stdout, "0\n");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_command_that_floods_fills_no_memory() -> Result {
    let Some(world) = World::new("flooding")? else { return Ok(()) };
    let output =
        world.code("deploy", 0, &format!("cd {} && charly bundle add local flooding -y", crate::kit::FIXTURES));
    let told = output.stdout.len() + output.stderr.len();
    assert!(told < 1 << 20, "{told} bytes were told");
    let sizes = world.ok("root", "cat /opt/flooding-kb");
    let sizes: Vec<u32> = sizes.lines().map(|line| line.parse().unwrap()).collect();
    assert!(sizes.len() >= 3, "charly, and the engine twice: {sizes:?}");
    assert!(sizes.iter().all(|kb| *kb < 64 << 10), "{sizes:?} kB");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_daemon_that_keeps_the_output_open_keeps_nobody_waiting() -> Result {
    let Some(world) = World::new("daemonic")? else { return Ok(()) };
    let start = Instant::now();
    world.json("deploy", "bundle add local daemonic -y").exits(0);
    // The daemon stays for two hours.
    assert!(start.elapsed() < Duration::from_mins(2), "{:?}", start.elapsed());
    assert_eq!(world.ok("root", "cat /opt/daemonic"), "went on\n");
    world.ok("root", "kill $(cat /run/e2e-daemon)");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}
