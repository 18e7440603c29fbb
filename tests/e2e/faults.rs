//! What goes wrong: kills, power cuts, full and read-only disks, damaged ledgers.

use std::time::Duration;

use crate::kit::{FIXTURES, Result, World};

const SYSTEM: &str = "/var/lib/opencharly/installed";

#[test]
fn a_run_that_is_killed_is_gone_on_with_or_undone() -> Result {
    let Some(world) = World::new("killed")? else { return Ok(()) };
    // Once undisturbed, so that what apt fetches is there and the delays below mean something.
    world.json("deploy", "bundle add local everything -y").exits(0);
    world.json("deploy", "bundle del local -y").exits(0);
    let victims = ["--exact charly", "--oldest --euid deploy charly-guest", "--oldest --euid root charly-guest"];
    for (round, victim) in victims.iter().cycle().take(9).enumerate() {
        let delay = [0.3, 0.9, 1.5][round / 3] + f64::from(std::process::id() % 10) / 20.0;
        let what = format!("`pkill {victim}` after {delay:.2} s");
        world.ok(
            "root",
            &format!(
                "cd {FIXTURES}
                 sudo -u deploy -i sh -c 'cd {FIXTURES} && charly bundle add local everything -y' >/dev/null 2>&1 &
                 sleep {delay}; pkill -KILL {victim}; wait"
            ),
        );
        // An engine whose controller is gone ends by itself, after the step it is at.
        world.await_in_guest("! pgrep charly-guest");
        if round % 2 == 0 {
            let resumed = world.json("deploy", "bundle add local everything -y");
            assert_eq!(resumed.exit, 0, "{what}: {resumed}");
            assert_eq!(world.run("deploy", "charly drift local").status, 0, "{what}");
        }
        let gone = world.json("deploy", "bundle del local -y");
        assert!([0, 3].contains(&gone.exit), "{what}: {gone}");
        if gone.exit == 3 {
            // It was killed before its first record, so there is no deploy; its folders go with the next one.
            world.json("deploy", "bundle add local everything -y").exits(0);
            world.json("deploy", "bundle del local -y").exits(0);
        }
        if round > 4 {
            assert_eq!(world.traces(), "", "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_run_that_loses_its_power_is_gone_on_with() -> Result {
    let Some(mut world) = World::new("powerless")? else { return Ok(()) };
    world.guest.reboot()?; // Some units run at the first boot alone.
    world.remember()?;
    for delay in [400, 1200] {
        let mut run = world.start("deploy", "bundle add local everything -y");
        // At some moment of the run; whichever it is, what follows must hold.
        std::thread::sleep(Duration::from_millis(delay));
        let pulled = world.guest.pull();
        run.wait().unwrap();
        pulled?;
        world.guest.boot()?;
        world.json("deploy", "bundle add local everything -y").exits(0);
        world.code("deploy", 0, "charly drift local");
        world.json("deploy", "bundle del local -y").exits(0);
        assert_eq!(world.traces(), "", "after {delay} ms");
    }
    Ok(())
}

#[test]
fn a_full_disk_ends_the_run_there() -> Result {
    let prepare = format!(
        "mkdir /opt/small && mount -t tmpfs -o size=1m small /opt/small
         head -c 3M /dev/urandom >{FIXTURES}/candy/big/blob && cp {FIXTURES}/candy/big/blob {FIXTURES}/candy/homely
         cp -a /home/plain /tmp/plain && mount -t tmpfs -o size=1m,mode=700,uid=$(id -u plain),gid=$(id -g plain) small /home/plain
         cp -a /tmp/plain/. /home/plain && rm -r /tmp/plain"
    );
    let Some(world) = World::prepared("full", &prepare)? else { return Ok(()) };
    for (user, candy, disk) in [("deploy", "big", "/opt/small"), ("plain", "homely", "/home/plain")] {
        let full = world.json(user, &format!("bundle add local {candy} -y")).exits(1);
        let error = full.error();
        assert!(error.contains("No space left on device"), "{error}");
        let left = world.ok("root", &format!("find {disk} -name '*blob*' -o -name '.charly*'"));
        assert_eq!(left, "", "half a file");

        world.ok("root", &format!("mount -o remount,size=20m {disk}"));
        world.json(user, &format!("bundle add local {candy} -y")).exits(0);
        world.ok("root", &format!("cmp $(find {disk} -name blob) {FIXTURES}/candy/big/blob"));
        world.json(user, "bundle del local -y").exits(0);
    }
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_disk_that_turns_read_only_leaves_a_run_to_go_on_with() -> Result {
    let Some(world) = World::prepared("readonly", "mkdir /opt/slow && mount -t tmpfs slow /opt/slow")? else {
        return Ok(());
    };
    let mut run = world.start("deploy", "bundle add local slow -y");
    world.await_in_guest(&format!("grep --quiet command:wait {SYSTEM}/lock"));
    world.ok("root", "mount -o remount,ro /opt/slow && touch /run/e2e-go-on");
    assert_eq!(run.wait().unwrap().code(), Some(1));
    for arguments in ["bundle add local slow -y", "bundle del local -y"] {
        let error = world.json("deploy", arguments).exits(1).error();
        assert!(error.contains("Read-only file system") && error.contains("/opt/slow"), "{error}");
    }
    world.ok("root", "mount -o remount,rw /opt/slow");
    world.json("deploy", "bundle add local slow -y").exits(0);
    assert_eq!(world.ok("root", "cat /opt/slow/*"), "first\nlast\n");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_damaged_ledger_is_refused_and_never_overwritten() -> Result {
    let Some(world) = World::new("damaged")? else { return Ok(()) };
    world.json("deploy", "bundle add local files -y").exits(0);
    for (owner, ledger) in [("root", SYSTEM), ("deploy", "/home/deploy/.config/opencharly/installed")] {
        for file in ["layers/files.json", "deploys/1000-local.json"] {
            let path = format!("{ledger}/{file}");
            world.ok(owner, &format!("cp {path} /tmp/good && printf '{{\\n  garbage\\n' >{path}"));
            for arguments in ["bundle add local files one -y", "bundle del local -y"] {
                let refused = world.json("deploy", arguments);
                assert!(refused.exit != 0, "{path}: {refused}");
                assert!(refused.error().contains(&format!("{path}:2:")), "{path}: {refused}");
            }
            assert_eq!(world.ok(owner, &format!("cat {path}")), "{\n  garbage\n");
            world.ok(owner, &format!("cat /tmp/good >{path} && rm /tmp/good"));
        }
    }
    world.ok("root", &format!("chmod o+w {SYSTEM}/layers/files.json"));
    let refused = world.json("deploy", "bundle del local -y");
    assert!(refused.exit != 0 && refused.error().contains("others may write to it"), "{refused}");
    world.ok("root", &format!("chmod o-w {SYSTEM}/layers/files.json"));

    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_torn_journal_is_read_and_a_damaged_one_is_not() -> Result {
    let Some(world) = World::new("torn")? else { return Ok(()) };
    let mut run = world.start("deploy", "bundle add local slow -y");
    world.await_in_guest(&format!("grep --quiet command:wait {SYSTEM}/lock"));
    world.ok("root", "pkill -KILL --oldest --euid root charly-guest; touch /run/e2e-go-on");
    assert_ne!(run.wait().unwrap().code(), Some(0));

    world.ok(
        "root",
        &format!(
            "cp {SYSTEM}/journal /tmp/good && sed -i '2s/./X/20' {SYSTEM}/journal && cp {SYSTEM}/journal /tmp/bad"
        ),
    );
    let refused = world.json("deploy", "bundle add local slow -y");
    assert!(refused.exit != 0, "{refused}");
    assert!(refused.error().contains("journal:2: the record is damaged"), "{refused}");
    world.ok(
        "root",
        &format!("cmp {SYSTEM}/journal /tmp/bad && cat /tmp/good >{SYSTEM}/journal && rm /tmp/good /tmp/bad"),
    );

    world.ok("root", &format!("printf '01234567 {{\"begin\":' >>{SYSTEM}/journal"));
    world.json("deploy", "bundle add local slow -y").exits(0);
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}
