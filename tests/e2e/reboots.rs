//! The ends that a reboot may come to, each with its own words, and gone on with by the same command.

use crate::kit::Result;
use crate::remote::Remote;

/// Stands before the machine's own `systemctl`, and does something else where it is asked for a reboot.
fn diverted(remote: &Remote, instead: &str) {
    let script = format!("#!/bin/sh\n[ \"$1\" = reboot ] || exec /usr/bin/systemctl \"$@\"\n{instead}\n");
    let place = "cat >/usr/local/sbin/systemctl && chmod 755 /usr/local/sbin/systemctl";
    remote.world.ok("root", &format!("printf %s \"$(echo {} | base64 -d)\" | ({place})", base64(&script)));
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_reboot_that_comes_to_nothing_is_told_apart_and_gone_on_with() -> Result {
    let Some(mut remote) = Remote::new("sshnoreboot")? else { return Ok(()) };
    remote.world.guest.reboot()?; // Some units run at the first boot alone.
    remote.world.remember()?;
    let add = "bundle add @ boots hello -y --reboot-timeout";
    for (instead, patience, want) in [
        ("echo somebody is at work here >&2; exit 1", 60, "somebody is at work here"),
        ("exit 0", 8, "is still in the same boot"),
        ("exec /usr/bin/systemctl restart ssh", 15, "is still in the same boot"),
        ("exec /usr/bin/systemctl poweroff", 15, "never came back from its reboot within 15 s"),
    ] {
        diverted(&remote, instead);
        let ended = remote.run("deploy", &format!("{add} {patience}")).exits(1).error();
        assert!(ended.contains(want) && ended.contains("hint: "), "{instead}: {ended}");
        if instead.contains("poweroff") {
            remote.world.guest.boot()?;
        }
        remote.world.ok("root", "rm /usr/local/sbin/systemctl; test ! -e /home/deploy/.local/bin/charly-hello");
        let before = remote.world.guest.boot_id()?;
        let resumed = remote.run("deploy", &format!("{add} 120")).exits(0);
        // One that has gone down by itself owes no other.
        let owed = usize::from(!instead.contains("poweroff"));
        assert_eq!(resumed.events("rebooting").len(), owed, "{instead}: {resumed}");
        assert_eq!(remote.world.guest.boot_id()? != before, owed == 1, "{instead}");
        remote.world.ok("deploy", "test -e ~/.local/bin/charly-hello");
        remote.gone("deploy", "boots and hello");
    }
    Ok(())
}

#[test]
fn an_engine_that_a_power_failure_has_damaged_is_made_whole() -> Result {
    let Some(remote) = Remote::new("sshdamaged")? else { return Ok(()) };
    remote.run("deploy", "bundle add @ everything -y").exits(0);
    for harm in [
        "truncate --size 0 /home/deploy/.cache/charly/engine/charly-guest-*",
        "truncate --size 0 /var/cache/charly/engine/*/charly-guest",
        "truncate --size 100000 /var/cache/charly/engine/*/charly-guest",
        "echo x >>/var/cache/charly/engine/*/charly-guest",
    ] {
        remote.world.ok("root", harm);
        remote.world.ok("root", "echo tampered >/etc/motd");
        let mended = remote.run("deploy", "bundle add @ everything -y").exits(0);
        // The file, and the service of the same candy that takes it up.
        assert_eq!(mended.changed(), 2, "{harm}: {mended}");
    }
    // One that is there in part cannot be told from whole at no cost; the way out is said.
    remote.world.ok("root", "truncate --size 100000 /home/deploy/.cache/charly/engine/charly-guest-*");
    let error = remote.run("deploy", "bundle status @").exits(4).error();
    assert!(error.contains("--engine scp"), "{error}");
    remote.run("deploy", "bundle status @ --engine scp").exits(0);
    remote.gone("deploy", "everything");
    Ok(())
}

#[test]
fn how_the_engine_gets_there_is_the_users_to_say() -> Result {
    let Some(remote) = Remote::prepared(
        "sshdelivery",
        "mkdir -p /home/deploy/.cache && chown deploy: /home/deploy/.cache
         mount -t tmpfs -o size=1m,uid=deploy,mode=755 small /home/deploy/.cache",
    )?
    else {
        return Ok(());
    };
    let error = remote.run("deploy", "bundle status @ --engine skip").exits(4).error();
    assert!(error.contains("it has no engine") && error.contains("--engine auto"), "{error}");
    // A home without room is passed over, and if there is none anywhere that is what is said.
    let status = "bundle status @";
    remote.run("deploy", status).exits(0);
    remote.world.ok("deploy", "ls /var/tmp/charly-$(id -u)/charly-guest-*; ! ls ~/.cache/charly/engine/*");
    remote.run("deploy", "bundle status @ --engine skip").exits(0);
    let before = remote.proxy.counts().to_server;
    remote.run_through("deploy", status).exits(0);
    let sent = remote.proxy.counts().to_server - before;
    remote.run_through("deploy", "bundle status @ --engine scp").exits(0);
    let anew = remote.proxy.counts().to_server - before - sent;
    assert!(sent < 20_000 && anew > 1_000_000, "{sent} bytes where it is there, {anew} where it is sent anyway");
    remote.world.ok("root", "rm -rf /var/tmp/charly-*; mount -t tmpfs -o size=1m,mode=1777 small /var/tmp");
    let error = remote.run("deploy", status).exits(4).error();
    assert!(error.contains("there is no room there for the engine"), "{error}");
    remote.world.ok("root", "umount /var/tmp /home/deploy/.cache");
    let (code, said) = remote.on_a_terminal("deploy", "bundle add @ hello -y", "");
    assert_eq!((code, said.matches("the engine was not there yet, and was sent (").count()), (0, 1), "{said}");
    remote.run("deploy", "bundle del @ -y").exits(0);
    Ok(())
}
