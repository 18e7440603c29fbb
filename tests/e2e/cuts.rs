//! Connections that break, machines that go away, and controllers that never come back.

use std::time::Duration;

use charly_lab::fault::{Act, Direction, Fault};

use crate::kit::{Result, World};
use crate::remote::Remote;

/// How many moments of a run are cut at where nobody asks for more with `CHARLY_CUTS`. Many take hours; `CHARLY_CUTS_FROM` goes on
/// with those behind some number of them.
const CUTS: u64 = 30;

/// A run of a bit of everything with a reboot in its middle, cut at moments spread over all of it. Each is gone on with by the
/// same command, and ends as one that nobody disturbed.
#[test]
fn a_run_that_is_cut_anywhere_is_gone_on_with() -> Result {
    let Some(mut remote) = Remote::new("cuts")? else { return Ok(()) };
    remote.world.guest.reboot()?; // Some units run at the first boot alone.
    remote.world.remember()?;
    let asked = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (from, cuts) = (asked("CHARLY_CUTS_FROM").unwrap_or(0), asked("CHARLY_CUTS").unwrap_or(CUTS));
    let add = "bundle add @ boots everything once -y";
    // The engine's way there is another test's: it would be most of what is cut.
    let ready = |remote: &Remote| remote.run("deploy", "bundle status @").exits(0);
    ready(&remote);
    // Undisturbed, for its length and for what it leaves.
    let began = remote.proxy.counts();
    remote.run_through("deploy", add).exits(0);
    let ended = remote.proxy.counts();
    let placed = remote.placed();
    remote.run_through("deploy", "bundle del @ -y").exits(0);
    assert_eq!(remote.world.traces(), "");
    ready(&remote);

    let (mut before_reboot, mut after_reboot) = (0, 0);
    let lengths = [
        (Direction::ToServer, ended.to_server - began.to_server),
        (Direction::ToClient, ended.to_client - began.to_client),
    ];
    for cut in from..cuts {
        let (direction, length) = lengths[usize::try_from(cut % 2).unwrap()];
        // The greeting of SSH is of no interest beyond its first few cuts.
        let at = 200 + (length - 200) * cut / cuts;
        // Silence takes a minute to be told from patience, so there is little of it.
        let act = match cut {
            cut if cut % 30 == 13 => Act::Stall,
            cut => [Act::Reset, Act::Close, Act::Corrupt][usize::try_from(cut / 2 % 3).unwrap()],
        };
        let what = format!("{act:?} after {at} of {length} bytes {direction:?}");
        remote.proxy.heal();
        remote.proxy.harm(Fault { direction, at, act });
        let harmed = remote.run_through("deploy", add);
        let is_harmed = remote.proxy.pending().is_empty();
        let is_rebooting = !harmed.events("rebooting").is_empty();
        match harmed.exit {
            // What was cut was an attempt to reach a machine that was still rebooting, or had nothing more to say.
            0 => assert!(is_rebooting || !is_harmed || at + 2_000 > length, "{what}: {harmed}"),
            4 if harmed.to_string().contains("run-started") => {
                let said = harmed.error();
                assert!(said.contains("steps are done for certain; the same command goes on"), "{what}: {said}");
            }
            4 => {}
            // The byte was one of the machine's key.
            5 => assert!(act == Act::Corrupt && harmed.error().contains("the key of"), "{what}: {harmed}"),
            _ => panic!("{what}: {harmed}"),
        }
        before_reboot += u64::from(is_harmed && !is_rebooting);
        after_reboot += u64::from(is_harmed && is_rebooting);
        remote.proxy.heal();
        remote.await_reach();
        let resumed = remote.run_through("deploy", add);
        assert_eq!(resumed.exit, 0, "{what}: {harmed}\nthen {resumed}");
        assert_eq!(remote.placed(), placed, "{what}");
        assert_eq!(remote.run_through("deploy", add).exits(0).changed(), 0, "{what}");
        remote.run_through("deploy", "bundle del @ -y").exits(0);
        if cut % 5 == 4 {
            assert_eq!(remote.world.traces(), "", "{what}");
            ready(&remote);
        }
    }
    assert_eq!(remote.world.traces(), "");
    // How much is said while a machine reboots differs a little from one time to the next.
    let (done, all) = (before_reboot + after_reboot, cuts - from);
    assert!(done * 5 >= all * 4, "{done} of {all} cuts came before the run's end");
    assert!(before_reboot > 0 && after_reboot > 0, "{before_reboot} before the reboot, {after_reboot} after it");
    Ok(())
}

#[test]
fn a_connection_that_only_falls_silent_holds_no_lock() -> Result {
    let Some(remote) = Remote::new("silent")? else { return Ok(()) };
    let mut run = remote.start_through("deploy", "bundle add @ slow -y");
    remote.world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
    let status = remote.run("deploy", "bundle status @").exits(0);
    assert!(status.to_string().contains("interrupted"), "{status}");
    let refused = remote.run("deploy", "bundle add @ slow -y").exits(5).error();
    assert!(refused.contains("slow") || refused.contains("wait"), "who holds it, and at what: {refused}");

    remote.proxy.harm(Fault { direction: Direction::ToServer, at: 0, act: Act::Stall });
    // Longer than an engine waits for a sign of life; then the step it is at may end, and with it the run.
    remote.world.ok("root", "sleep 75; touch /run/e2e-go-on");
    remote.world.await_in_guest("! pgrep charly-guest");
    assert_eq!(run.wait().unwrap().code(), Some(4), "whoever hears nothing does not wait for ever");
    assert_eq!(remote.world.ok("root", "ls /opt/slow"), "first\n", "nothing was begun after the silence");
    let status = remote.run("deploy", "bundle status @").exits(0);
    assert!(status.to_string().contains("interrupted"), "{status}");
    remote.run("deploy", "bundle add @ slow -y").exits(0);
    assert_eq!(remote.world.ok("root", "cat /opt/slow/*"), "first\nlast\n");
    remote.world.ok("root", "rm /run/e2e-go-on");
    remote.gone("deploy", "slow");
    Ok(())
}

#[test]
fn a_server_that_restarts_and_a_machine_that_loses_its_power_are_gone_on_with() -> Result {
    let Some(mut remote) = Remote::new("sshdrestart")? else { return Ok(()) };
    remote.world.guest.reboot()?; // Some units run at the first boot alone.
    remote.world.remember()?;
    // A server that restarts does not end the sessions it has.
    let mut run = remote.start("deploy", "bundle add @ slow -y");
    remote.world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
    remote.world.ok("root", "systemctl restart ssh; touch /run/e2e-go-on");
    assert_eq!(run.wait().unwrap().code(), Some(0));
    remote.world.ok("root", "rm /run/e2e-go-on");
    remote.gone("deploy", "slow");

    let mut run = remote.start("deploy", "bundle add @ everything -y");
    std::thread::sleep(Duration::from_millis(900));
    let pulled = remote.world.guest.pull();
    let code = run.wait().unwrap().code();
    pulled?;
    assert!([Some(0), Some(4)].contains(&code), "{code:?}");
    remote.run("deploy", "bundle add @ everything -y").exits(4);
    remote.world.guest.boot()?;
    remote.run("deploy", "bundle add @ everything -y").exits(0);
    remote.run("deploy", "drift @").exits(0);
    remote.gone("deploy", "everything");
    Ok(())
}

#[test]
fn a_disk_that_is_full_over_there_ends_the_run_with_its_name() -> Result {
    let Some(remote) = Remote::prepared("sshfull", "mkdir /opt/small && mount -t tmpfs -o size=1m small /opt/small")?
    else {
        return Ok(());
    };
    let project = remote.copy_of_the_project();
    let blob: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(project.path().join("candy/big/blob"), &blob).unwrap();
    let add = format!("-C {} bundle add @ big -y", project.path().display());
    let error = remote.run("deploy", &add).exits(1).error();
    assert!(error.contains("No space left on device") && error.contains("/opt/small"), "{error}");
    remote.world.ok("root", "mount -o remount,size=20m /opt/small");
    remote.run("deploy", &add).exits(0);
    assert_eq!(remote.world.ok("root", "wc -c </opt/small/blob").trim(), "3000000");
    remote.gone("deploy", "big");
    Ok(())
}

#[test]
fn a_disk_that_holds_no_more_files_ends_the_run_with_its_name() -> Result {
    let Some(remote) =
        Remote::prepared("sshinodes", "mkdir /opt/small && mount -t tmpfs -o size=1m,nr_inodes=20 small /opt/small")?
    else {
        return Ok(());
    };
    let project = remote.copy_of_the_project();
    let folder = project.path().join("candy/crowd");
    std::fs::create_dir_all(&folder).unwrap();
    let file = |n| format!("    - {{run: file {n}, write: /opt/small/{n}, content: \"x\"}}\n");
    let files = (0..40).map(file).collect::<Vec<_>>().concat();
    let head = "candy:\n  name: crowd\n  version: 2026.324.0000\n  description: Many small files\n  plan:\n";
    std::fs::write(folder.join("charly.yml"), head.to_owned() + &files).unwrap();
    let add = format!("-C {} bundle add @ crowd -y", project.path().display());
    let error = remote.run("deploy", &add).exits(1).error();
    assert!(error.contains("No space left on device") && error.contains("/opt/small"), "{error}");
    assert_eq!(remote.world.ok("root", "find /opt/small -name '.charly*'"), "", "half a file");
    remote.world.ok("root", "mount -o remount,nr_inodes=100 /opt/small");
    remote.run("deploy", &add).exits(0);
    assert_eq!(remote.world.ok("root", "ls /opt/small | wc -l").trim(), "40");
    remote.gone("deploy", "crowd");
    Ok(())
}

/// There an engine dies with its session, in the middle of a step. Nothing of it is left behind, and the same command goes on.
#[test]
fn a_machine_that_kills_what_sessions_leave_is_gone_on_with() -> Result {
    const PREPARE: &str = "mkdir -p /etc/systemd/logind.conf.d
        printf '[Login]\\nKillUserProcesses=yes\\n' >/etc/systemd/logind.conf.d/e2e.conf
        systemctl restart systemd-logind";
    let Some(remote) = Remote::prepared("sshkilled", PREPARE)? else { return Ok(()) };
    let mut run = remote.start("deploy", "bundle add @ slow -y");
    remote.world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
    run.kill().unwrap();
    run.wait().unwrap();
    // The step waits for ever, and an engine by itself would wait for the step.
    remote.world.await_in_guest("! pgrep charly-guest && ! pgrep -f [e]2e-go-on");
    assert_eq!(remote.world.ok("root", "ls /opt/slow"), "first\n");
    let status = remote.run("deploy", "bundle status @").exits(0);
    assert!(status.to_string().contains("interrupted"), "{status}");
    remote.world.ok("root", "touch /run/e2e-go-on");
    let resumed = remote.run("deploy", "bundle add @ slow -y").exits(0);
    assert_eq!(resumed.changed(), 2, "what was done is not done again: {resumed}");
    assert_eq!(remote.world.ok("root", "cat /opt/slow/*"), "first\nlast\n");
    remote.world.ok("root", "rm /run/e2e-go-on");
    remote.gone("deploy", "slow");
    Ok(())
}

#[test]
fn two_controllers_are_told_of_each_other() -> Result {
    let Some(remote) = Remote::new("twoctl")? else { return Ok(()) };
    let world: &World = &remote.world;
    let mut first = remote.start("deploy", "bundle add @ slow -y");
    world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
    for second in [remote.run("deploy", "bundle del @ -y"), world.json("deploy", "bundle add local hello -y")] {
        let error = second.exits(5).error();
        assert!(error.contains("local") && error.contains("wait"), "{error}");
    }
    world.ok("root", "touch /run/e2e-go-on");
    assert_eq!(first.wait().unwrap().code(), Some(0));
    world.ok("root", "rm /run/e2e-go-on");
    remote.gone("deploy", "slow");
    Ok(())
}
