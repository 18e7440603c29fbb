//! Machines over SSH: the same candies from outside, whoever logs in and whatever their shell does.

use std::process::Command;

use crate::kit::Result;
use crate::remote::Remote;

#[test]
fn every_small_candy_comes_and_goes_over_ssh() -> Result {
    let Some(remote) = Remote::new("sshsmall")? else { return Ok(()) };
    for candy in ["hello", "ripgrep", "tmux", "direnv", "sshd-hardening"] {
        remote.there("deploy", candy);
        remote.gone("deploy", candy);
    }
    remote.there("root", "hello");
    remote.gone("root", "hello");
    Ok(())
}

#[test]
fn every_server_comes_and_goes_over_ssh() -> Result {
    let Some(remote) = Remote::new("sshservers")? else { return Ok(()) };
    for candy in ["postgresql", "valkey", "caddy", "workstation"] {
        remote.there("deploy", candy);
        remote.gone("deploy", candy);
    }
    Ok(())
}

#[test]
fn the_tree_is_the_same_from_inside_and_from_outside() -> Result {
    let Some(remote) = Remote::new("sshsame")? else { return Ok(()) };
    remote.run("deploy", "bundle add @ everything -y").exits(0);
    let outside = remote.placed();
    // The same deploy: what was added from outside is taken away from inside.
    remote.world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(remote.world.traces(), "");
    remote.world.json("deploy", "bundle add local everything -y").exits(0);
    assert_eq!(remote.placed(), outside);
    assert!(outside.lines().count() > 20, "{outside}");
    remote.gone("deploy", "what was added from inside");
    Ok(())
}

#[test]
fn any_login_will_do() -> Result {
    const NOISE: &str = "
        su - fishy -c true; su - cshy -c true
        for home in /home/deploy; do printf 'echo noise; sleep 0.3\\n' >$home/.bashrc.new
            cat $home/.bashrc >>$home/.bashrc.new 2>/dev/null; mv $home/.bashrc.new $home/.bashrc; done
        printf 'MaxSessions 1\\n' >/etc/ssh/sshd_config.d/e2e.conf
        sed -i 's/^Subsystem.*//' /etc/ssh/sshd_config
        systemctl restart ssh";
    let Some(remote) = Remote::prepared("sshlogins", NOISE)? else { return Ok(()) };
    for user in ["fishy", "cshy", "deploy", "root"] {
        remote.there(user, "hello");
        let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
        let owner = remote.world.ok("root", &format!("stat -c %U {home}/.local/bin/charly-hello"));
        assert_eq!(owner.trim(), user, "it is in that user's home, and theirs");
        remote.gone(user, "hello");
    }
    Ok(())
}

#[test]
fn a_home_without_programs_and_a_sudo_that_asks_are_no_obstacle() -> Result {
    const PREPARE: &str = "
        cp -a /home/deploy /tmp/deploy && mount -t tmpfs -o noexec,mode=700,uid=$(id -u deploy),gid=$(id -g deploy) small /home/deploy
        cp -a /tmp/deploy/. /home/deploy && rm -r /tmp/deploy
        rm -f /etc/sudoers.d/*; echo 'deploy ALL=(ALL:ALL) ALL' >/etc/sudoers.d/e2e; chmod 440 /etc/sudoers.d/e2e
        echo 'deploy:open sesame' | chpasswd";
    let Some(remote) = Remote::prepared("sshsudo", PREPARE)? else { return Ok(()) };
    remote.run("deploy", "bundle add @ hello -y").exits(0);
    remote.run("deploy", "drift @").exits(0);
    remote.gone("deploy", "hello");

    let refused = remote.run("deploy", "bundle add @ files -y").exits(5).error();
    assert!(refused.contains("password") && refused.contains("--ask-sudo"), "{refused}");
    let wrong = remote.on_a_terminal("deploy", "bundle add @ files -y --ask-sudo", "close sesame");
    assert_ne!(wrong.0, 0, "{}", wrong.1);
    let (code, said) = remote.on_a_terminal("deploy", "bundle add @ files -y --ask-sudo", "open sesame");
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("open sesame"), "{said}");
    assert_eq!(remote.world.ok("root", "cat /etc/e2e/note"), "as declared\n");
    let seen = "grep -r 'open sesame' /var/lib/opencharly /home/deploy /var/log --include=* -l 2>/dev/null; true";
    assert_eq!(remote.world.ok("root", seen), "");
    let (code, said) = remote.on_a_terminal("deploy", "bundle del @ -y --ask-sudo", "open sesame");
    assert_eq!(code, 0, "{said}");
    assert_eq!(remote.world.traces(), "");
    Ok(())
}

#[test]
fn sudo_rs_grants_as_sudo_does() -> Result {
    const PREPARE: &str = "
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y sudo-rs >/dev/null
        ln -sf sudo-rs /usr/bin/sudo
        rm -f /etc/sudoers.d/*; echo 'deploy ALL=(ALL:ALL) ALL' >/etc/sudoers.d/e2e; chmod 440 /etc/sudoers.d/e2e
        echo 'deploy:open sesame' | chpasswd";
    let Some(mut remote) = Remote::prepared("sshsudors", PREPARE)? else { return Ok(()) };
    assert!(remote.world.ok("root", "sudo --version 2>&1").starts_with("sudo-rs"));
    let here = remote.world.json("deploy", "bundle add local files -y").exits(5).error();
    assert!(here.contains("`sudo` wants a password"), "{here}");
    let refused = remote.run("deploy", "bundle add @ files -y").exits(5).error();
    assert!(refused.contains("password") && refused.contains("--ask-sudo"), "{refused}");
    let (code, said) = remote.on_a_terminal("deploy", "bundle add @ files -y --ask-sudo", "close sesame");
    assert!(code == 5 && said.contains("`sudo` did not take the password"), "{code}: {said}");
    let (code, said) = remote.on_a_terminal("deploy", "bundle add @ files -y --ask-sudo", "open sesame");
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("open sesame"), "{said}");
    let (code, said) = remote.on_a_terminal("deploy", "bundle del @ -y --ask-sudo", "open sesame");
    assert_eq!(code, 0, "{said}");
    assert_eq!(remote.world.traces(), "");

    // And where it trusts the user.
    remote.world.ok("root", "echo 'deploy ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/e2e");
    remote.world.remember()?;
    remote.world.json("deploy", "bundle add local commands -y").exits(0);
    remote.gone("deploy", "what root's commands did");
    Ok(())
}

#[test]
fn only_machines_that_are_known_are_spoken_to() -> Result {
    let Some(remote) = Remote::new("sshkeys")? else { return Ok(()) };
    let address = remote.world.guest.address();
    let own = remote.world.guest.host_key()?;
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    for (known, want) in [
        (String::new(), "ssh-keyscan"),
        (format!("{address} {other}\n"), "ssh-keygen -R"),
        (format!("@revoked * {own}\n{address} {own}\n"), "revoked"),
    ] {
        remote.know(&known);
        let refused = remote.run("deploy", "bundle add @ hello -y").exits(5).error();
        assert!(refused.contains(want), "{known}: {refused}");
    }
    // What the error says to do is done as it says.
    let cure = |error: &str| {
        let hint = error.split_once("hint: ").unwrap().1;
        let cure = hint.split('`').nth(1).unwrap().to_owned();
        let done = Command::new("sh").args(["-c", &cure]).env("HOME", remote.home()).output().unwrap();
        assert!(done.status.success(), "`{cure}`: {done:?}");
    };
    remote.know(&format!("{address} {other}\n"));
    cure(&remote.run("deploy", "bundle status @").exits(5).error());
    for known_as in ["", " HostKeyAlias prod\n"] {
        remote.configure(&format!("Host *\n IdentitiesOnly yes\n{known_as}"));
        remote.know("# nobody\n");
        cure(&remote.run("deploy", "bundle status @").exits(5).error());
        remote.run("deploy", "bundle status @").exits(0);
    }
    remote.configure("");
    remote.know(&format!("{address} {own}\n"));
    remote.there("deploy", "hello");
    remote.gone("deploy", "hello");

    // Names may be written so that nobody can read them, and those of other ports have the port.
    let through = remote.proxy.address();
    remote.know(&format!("{address} {own}\n[{}]:{} {own}\n", through.ip(), through.port()));
    let known = remote.home().join("known_hosts");
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&known).status().unwrap().success());
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(hashed.starts_with("|1|") && !hashed.contains(&address.to_string()), "{hashed}");
    remote.run("deploy", "bundle status @").exits(0);
    remote.run_through("deploy", "bundle status @").exits(0);
    let both = hashed.lines().map(|line| format!("@revoked {line}\n")).collect::<Vec<_>>().concat();
    remote.know(&both);
    assert!(remote.run("deploy", "bundle status @").exits(5).error().contains("revoked"));
    Ok(())
}

#[test]
fn what_crosses_does_not_grow_with_the_number_of_steps() -> Result {
    // A start-up file that tells how often it was read: some take their time.
    const PREPARE: &str =
        "sed -i '1i mkdir -p ~/.cache/charly; echo read >>~/.cache/charly/e2e-read' /home/deploy/.bashrc";
    let Some(remote) = Remote::prepared("sshmany", PREPARE)? else { return Ok(()) };
    let project = remote.copy_of_the_project();
    for steps in [40, 400] {
        let folder = project.path().join(format!("candy/many{steps}"));
        std::fs::create_dir_all(&folder).unwrap();
        let step = |n| format!("    - {{run: file {n}, write: \"~/many/{steps}/{n}\", content: \"{n}\\n\"}}\n");
        let plan: String = (0..steps).map(step).collect();
        let head = format!("candy:\n  name: many{steps}\n  version: 2026.324.0000\n  description: Many\n  plan:\n");
        std::fs::write(folder.join("charly.yml"), head + &plan).unwrap();
    }
    remote.run("deploy", "bundle status @").exits(0); // The engine is sent once, whatever follows.
    let mut turns = Vec::new();
    for steps in [40, 400] {
        let add = format!("-C {} bundle add @ many{steps} -y", project.path().display());
        assert_eq!(remote.run_through("deploy", &add).exits(0).changed(), steps);
        remote.world.ok("root", "rm -f /home/deploy/.cache/charly/e2e-read");
        let before = remote.proxy.counts();
        assert_eq!(remote.run_through("deploy", &add).exits(0).changed(), 0);
        let after = remote.proxy.counts();
        assert_eq!(after.connections, before.connections + 1);
        assert_eq!(
            remote
                .world
                .ok("root", "wc -l </home/deploy/.cache/charly/e2e-read; rm /home/deploy/.cache/charly/e2e-read")
                .trim(),
            "1"
        );
        turns.push(after.round_trips - before.round_trips);
        let bytes = after.to_client + after.to_server - before.to_client - before.to_server;
        // Most of the first is SSH's own greeting, which a key exchange that withstands quantum computers makes longer.
        assert!(bytes <= 7_600 + 60 * steps, "{bytes} bytes for {steps} steps that are there");
    }
    assert!(turns[1] <= turns[0] + 1 && turns[0] <= 12, "{turns:?}");

    // What is there is looked at, not believed.
    remote.world.ok("deploy", "echo tampered >~/many/400/7");
    let add = format!("-C {} bundle add @ many400 -y", project.path().display());
    assert_eq!(remote.run_through("deploy", &add).exits(0).changed(), 1);
    assert_eq!(remote.world.ok("deploy", "cat ~/many/400/7"), "7\n");
    remote.gone("deploy", "many");
    Ok(())
}

#[test]
fn a_machine_may_lie_behind_others() -> Result {
    let Some(remote) = Remote::new("sshjump")? else { return Ok(()) };
    remote
        .configure("Host *\n IdentityFile KEY\n UserKnownHostsFile KNOWN\nHost gate\n HostName ADDRESS\n User fishy\n");
    let address = remote.world.guest.address();
    for jump in ["gate".to_owned(), format!("cshy@{address},gate,root@{address}:22")] {
        let status = remote.run("deploy", &format!("bundle status @ --jump {jump}")).exits(0);
        assert!(status.to_string().contains("deploy"), "{jump}: {status}");
    }
    // What lies on the way must be known as well.
    remote.configure("Host *\n IdentityFile KEY\n UserKnownHostsFile /dev/null\n GlobalKnownHostsFile /dev/null\n");
    let refused = remote.run("deploy", &format!("bundle status @ --jump root@{address}")).exits(5).error();
    assert!(refused.contains("is not known"), "{refused}");
    // A user whose shell runs nothing is told so in its own words.
    let error = remote.run("nobody", "bundle status @").exits(4).error();
    assert!(error.contains("nobody") || error.contains("not available"), "{error}");
    Ok(())
}

#[test]
fn a_container_of_a_machine_is_worked_on_in_its_stead() -> Result {
    // Programs and libraries are the machine's own, the rest is the container's.
    const PREPARE: &str = "
        mkdir -p /opt/inner && cd /opt/inner && mkdir -p usr etc root tmp run proc sys dev var/lib var/tmp
        mount --bind --read-only /usr usr && cp -a /bin /sbin /lib* . && cp -a /etc/passwd /etc/group /etc/os-release etc
        podman run --detach --name inner --network none --env HOME=/root --rootfs /opt/inner sleep infinity";
    const TREE: &str = "cd /opt/inner && rm -rf root/.cache/charly && find etc root var opt -xdev \\
        -printf '%p %y %m %U %G %l\\n' -type f -exec sha256sum {} \\; 2>/dev/null | sort";
    let Some(remote) = Remote::prepared("sshinside", PREPARE)? else { return Ok(()) };
    let world = &remote.world;
    world.ok("root", "podman exec inner mkdir -p /root/.cache /opt");
    let before = world.ok("root", TREE);

    let add = "bundle add @ hello files -y --inside podman:inner";
    assert!(remote.run("root", add).exits(0).changed() > 0);
    world.ok("root", "test -x /opt/inner/root/.local/bin/charly-hello && grep declared /opt/inner/etc/e2e/note");
    world.ok("root", "! test -e /root/.local && ! test -e /etc/e2e");
    assert_eq!(remote.run("root", add).exits(0).changed(), 0);
    remote.run("root", "check @ --inside podman:inner").exits(0);
    // The machine and its container hold different deploys of one name.
    assert!(!remote.run("root", "bundle status @").exits(0).to_string().contains("files"));

    // Whoever goes away in the middle leaves no lock there either.
    let mut run = remote.start("root", "bundle add @ slow -y --inside podman:inner");
    world.await_in_guest("grep --quiet command:wait /opt/inner/var/lib/opencharly/installed/lock");
    run.kill().unwrap();
    run.wait().unwrap();
    world.ok("root", "podman exec inner touch /run/e2e-go-on");
    world.await_in_guest("! pgrep charly-guest");
    remote.run("root", "bundle add @ slow -y --inside podman:inner").exits(0);
    assert_eq!(world.ok("root", "cat /opt/inner/opt/slow/*"), "first\nlast\n");
    remote.run("root", "bundle del @ -y --inside podman:inner").exits(0);
    assert_eq!(world.ok("root", TREE), before);

    let error = remote.run("root", "bundle status @ --inside podman:outer").exits(4).error();
    assert!(error.contains("no such container"), "{error}");
    // What the test and podman did in the container and its storage is compared above.
    let traces = remote.world.traces();
    let own = ["/opt/inner/", "/var/lib/containers/"];
    let others: Vec<_> = traces.lines().filter(|line| !own.iter().any(|folder| line.contains(folder))).collect();
    assert!(others.is_empty(), "{others:?}");
    Ok(())
}

#[test]
fn a_machine_is_rebooted_and_the_run_goes_on() -> Result {
    let Some(mut remote) = Remote::new("sshreboot")? else { return Ok(()) };
    remote.world.guest.reboot()?; // Some units run at the first boot alone.
    remote.world.remember()?;
    let before = remote.world.guest.boot_id()?;
    let added = remote.run("deploy", "bundle add @ file-limits -y").exits(0);
    assert_eq!(added.events("rebooting").len(), 1, "{added}");
    assert_ne!(remote.world.guest.boot_id()?, before);
    remote.there("deploy", "file-limits");
    remote.gone("deploy", "file-limits");

    let stopped = remote.run("deploy", "bundle add @ file-limits -y --no-reboot").exits(1);
    assert!(stopped.error().contains("a reboot is due"), "{stopped}");
    remote.world.guest.reboot()?;
    let resumed = remote.run("deploy", "bundle add @ file-limits -y").exits(0);
    assert!(resumed.events("rebooting").is_empty(), "it was rebooted by hand: {resumed}");
    remote.gone("deploy", "file-limits");
    Ok(())
}
