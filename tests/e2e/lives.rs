//! Virtual machines in a guest: made, used, put back and taken away, by the real QEMU.

use charly_lab::Output;

use crate::kit::{FIXTURES, Result, World};

/// What a machine of Debian's needs to carry machines. What makes their images is among it.
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive
    apt-get install --quiet --quiet --yes --no-install-recommends \
        qemu-system-x86 qemu-utils mmdebstrap openssh-client e2fsprogs virtiofsd ovmf >/dev/null";

/// A machine with an agent, which shares folders with its host.
const DECLARE: &str = "mkdir shared shown && echo host | tee shared/host >shown/host
    cat >charly.yml <<'END'
vm:
  demo:
    source: {bootstrap: {distro: debian, package: [qemu-guest-agent]}}
    disk_size: 5G
    ram: 1G
    share: [{source: ~/shared, target: /srv/shared}, {source: ~/shown, target: /srv/shown, read_only: true}]
END";

/// The same machine by other means: it boots from UEFI, the key goes in without cloud-init, for another user, and it lives for a while only.
const DECLARE_OTHERWISE: &str = "cat >charly.yml <<'END'
vm:
  demo:
    source: {bootstrap: {distro: debian}}
    firmware: uefi-secure
    disk_size: 6G
    ssh: {user: root, key_injection: {smbios: true, cloud_init: false}}
deploy:
  brief: {vm: demo, ephemeral: {ttl: 8h}}
END";

/// Where `demo` keeps what it is made of.
const HOME: &str = "~/.local/state/charly/vm/demo";

/// Runs a verb of machines as the one user who may only use software emulation.
#[track_caller]
fn vm(world: &World, code: i32, arguments: &str) -> Output {
    world.code("deploy", code, &format!("charly vm {arguments}"))
}

/// Runs a command in a machine.
#[track_caller]
fn inside(world: &World, machine: &str, command: &str) -> String {
    vm(world, 0, &format!("ssh {machine} -- '{command}'")).stdout
}

/// Says where a machine stands.
#[track_caller]
fn stage(world: &World, machine: &str) -> String {
    let said = world.json("deploy", "vm list").exits(0);
    let lines = said.lines.iter().filter(|line| line["item"]["name"] == machine);
    lines.map(|line| line["item"]["stage"].as_str().unwrap().to_owned()).collect()
}

/// One machine's whole life: emulated, so every boot counts.
#[test]
fn a_machine_lives_and_loses_nothing() -> Result {
    let Some(world) = World::prepared("machines", INSTALL)? else { return Ok(()) };
    let absent = world.code("deploy", 3, "charly bundle add vm:demo hello");
    assert!(absent.stderr.contains("charly vm create demo"), "{}", absent.stderr);
    world.ok("deploy", DECLARE);

    // A kill while the base is made, and one as soon as the disk is there: the same command goes on.
    let create = "create demo --timeout 900";
    for made in [".cache/charly/vm/bootstrap-*/root.tar", ".local/state/charly/vm/demo/disk.qcow2"] {
        let mut killed = world.start("deploy", &format!("--directory ~ vm {create}"));
        // A base takes a minute, a busy host's two.
        let kill =
            format!("until test -e /home/deploy/{made}; do sleep 0.02; done; pkill --signal KILL --exact charly");
        world.ok("root", &format!("timeout 600 sh -c '{kill}'"));
        assert!(!killed.wait().unwrap().success());
    }
    let left = stage(&world, "demo");
    if left == "half made" || left == "built" {
        vm(&world, 0, create);
    }
    vm(&world, 0, "start demo --timeout 900");
    assert_eq!(stage(&world, "demo"), "ready");

    // A first boot that cloud-init itself finds nothing to say about, on a root that filled its disk.
    assert_eq!(inside(&world, "demo", "cloud-init status --wait").trim(), "status: done");
    let schema = inside(&world, "demo", "sudo cloud-init schema --system");
    assert!(schema.contains("Valid schema user-data") && schema.contains("Valid schema network-config"), "{schema}");
    assert_eq!(inside(&world, "demo", "id --user --name; hostname").trim(), "debian\ndemo");
    assert_eq!(inside(&world, "demo", "df --block-size=1G --output=size / | tail --lines=1").trim(), "5");

    // It has its host's folders, as the user whose they are, and what it leaves there is theirs.
    let mounted = inside(&world, "demo", "findmnt --noheadings --output TARGET,FSTYPE,OPTIONS --types virtiofs");
    let mounted = mounted.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(mounted, ["/srv/shared virtiofs rw,relatime", "/srv/shown virtiofs ro,relatime"]);
    inside(
        &world,
        "demo",
        "cmp /srv/shared/host /srv/shown/host; echo guest >/srv/shared/guest; sudo touch /srv/shared/root",
    );
    inside(&world, "demo", "! touch /srv/shown/guest 2>/dev/null");
    assert_eq!(
        world.ok("deploy", "cat shared/guest; stat --format %U shared/*; ls shown"),
        "guest\ndeploy\ndeploy\ndeploy\nhost\n"
    );

    // Plain `ssh` gets there, for whom charly's own keys are strangers.
    world.code("deploy", 0, "charly ssh-config --include");
    let said = world.ok("deploy", "ssh -o BatchMode=yes charly-demo hostname");
    assert_eq!(said.trim(), "demo");

    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle add vm:demo hello boots -y"));
    assert_eq!(inside(&world, "demo", "cat .local/share/charly-hello/greeting | wc --lines").trim(), "1");
    assert_eq!(inside(&world, "demo", "cat /opt/boots/first").trim(), "first");
    inside(&world, "demo", "echo kept > mark; sync");

    // The power goes in the middle of an add; what was done is there, and the same command does the rest.
    let mut cut = world.start("deploy", "bundle add vm:demo slow -y");
    let begun = "until charly vm ssh demo -- test -e /opt/slow/first; do sleep 0.5; done";
    world.ok("deploy", &format!("timeout 300 sh -c '{begun}'"));
    world.ok("deploy", &format!("kill -KILL $(cat {HOME}/pid); while pgrep --exact charly-demo; do sleep 0.05; done"));
    assert_ne!(cut.wait().unwrap().code(), Some(0));
    vm(&world, 0, "start demo --timeout 900");
    inside(&world, "demo", "sudo touch /run/e2e-go-on");
    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle add vm:demo slow -y"));
    assert_eq!(inside(&world, "demo", "cat /opt/slow/*").trim(), "first\nlast");
    // The next boot knows nothing of what lets it go on.
    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle del vm:demo slow -y"));

    // A crash is told, and survived; a shutdown is a shutdown.
    world.ok("deploy", &format!("kill -KILL $(cat {HOME}/pid); while pgrep --exact charly-demo; do sleep 0.05; done"));
    assert_eq!(stage(&world, "demo"), "crashed");
    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle add vm:demo -y"));
    assert_eq!(inside(&world, "demo", "cat mark").trim(), "kept");
    let tree = "sudo find /home /opt /usr/local -xdev -type f -exec sha256sum {} + | sort | sha256sum";
    let before = inside(&world, "demo", tree);
    // Its agent brings the file systems to rest for a snapshot, and lets them go on.
    vm(&world, 0, "snapshot create demo live");
    let taken = world.json("deploy", "vm snapshot list demo").exits(0);
    assert_eq!(taken.lines[0]["item"]["at_rest"], true, "{taken}");
    let said = inside(&world, "demo", "sudo journalctl --boot --unit qemu-guest-agent --output cat");
    assert!(said.contains("guest-fsfreeze called") && said.contains("guest-fsthaw called"), "{said}");
    vm(&world, 0, "stop demo --shutdown-timeout 600");
    assert_eq!(stage(&world, "demo"), "stopped");
    world.await_in_guest("! pgrep virtiofsd");

    // Original and copy run side by side, each as itself, on one base.
    vm(&world, 0, "snapshot create demo calm");
    vm(&world, 0, "clone demo copy --snapshot calm");
    for machine in ["demo", "copy"] {
        vm(&world, 0, &format!("start {machine} --timeout 900"));
    }
    let identity = "hostname; cat /etc/machine-id mark /etc/ssh/ssh_host_ed25519_key.pub";
    let (demo, copy) = (inside(&world, "demo", identity), inside(&world, "copy", identity));
    let differ: Vec<_> = demo.lines().zip(copy.lines()).map(|(demo, copy)| demo != copy).collect();
    assert_eq!(differ, [true, true, false, true], "{demo}{copy}");
    assert_eq!(inside(&world, "copy", "cat /srv/shared/host").trim(), "host");

    // What was changed since a snapshot is gone after it; what runs is not put back.
    world.ok("deploy", "ssh -o BatchMode=yes charly-copy true");
    inside(&world, "demo", "rm mark; touch changed; sudo sh -c \"echo other > /opt/boots/first\"; sync");
    let one = format!("cd {FIXTURES} && charly bundle add vm:demo one -y");
    world.code("deploy", 0, &one);
    vm(&world, 5, "snapshot revert demo calm");
    vm(&world, 0, "stop demo --force --shutdown-timeout 600");
    vm(&world, 0, "snapshot revert demo calm");
    vm(&world, 0, "snapshot delete demo live");
    vm(&world, 0, "start demo --timeout 900");
    assert_eq!(inside(&world, "demo", "ls").trim(), "mark");
    assert_eq!(inside(&world, "demo", tree), before);
    // The ledger went back with it, and what it no longer knows is placed again.
    let held = world.json("deploy", "bundle status vm:demo").exits(0).to_string();
    assert!(held.contains("hello") && !held.contains("\"one\""), "{held}");
    world.code("deploy", 0, &one);
    inside(&world, "demo", "ls /opt/shared/one");

    // Nobody is deleted unasked, and a disk only by name.
    vm(&world, 5, "destroy demo");
    inside(&world, "demo", "echo late >late");
    vm(&world, 0, "destroy demo -y");
    world.ok("deploy", &format!("test -e {HOME}/disk.qcow2"));
    // What stays was shut down, and holds what was on its way to it.
    vm(&world, 5, create);
    vm(&world, 0, &format!("{create} --adopt"));
    vm(&world, 0, "start demo --timeout 900");
    assert_eq!(inside(&world, "demo", "cat late").trim(), "late");
    vm(&world, 0, "destroy demo --disk -y");
    vm(&world, 0, "destroy copy --disk -y");
    world.ok("deploy", &format!("test ! -e {HOME} && ! pgrep --exact charly-demo"));
    world.ok("deploy", "charly ssh-config --no-include && test ! -e ~/.ssh/config");
    Ok(())
}

/// A machine that is made anew holds what its deploys held, and nothing else.
#[test]
#[ignore = "takes ten minutes where QEMU has to emulate; run with `--ignored`"]
fn a_machine_that_is_made_anew_holds_what_it_held() -> Result {
    let Some(world) = World::prepared("anew", INSTALL)? else { return Ok(()) };
    vm(&world, 0, "create demo --from debian-13 --disk-size 5G --ram 1G --timeout 900");
    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle add vm:demo hello one -y"));
    world.code("deploy", 0, &format!("cd {FIXTURES} && charly bundle del vm:demo one -y"));
    inside(&world, "demo", "touch mark");
    world.code("deploy", 0, "charly ssh-config --include");
    let whose = "cat /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys";
    let before = inside(&world, "demo", whose);

    world.code("deploy", 5, "charly update vm:demo");
    assert_eq!(inside(&world, "demo", "ls").trim(), "mark");
    // As it is declared by now, but for what was given by hand. Nobody need be asked: it lives for a while only.
    world.ok("deploy", DECLARE_OTHERWISE);
    world.code("deploy", 0, "charly update vm:demo");
    assert_eq!(
        inside(&world, "demo", "id --user --name; ls; cat .local/share/charly-hello/greeting | wc --lines").trim(),
        "root\n1"
    );
    assert_eq!(inside(&world, "demo", whose), before);
    let given = "df --block-size=1G --output=size / | tail --lines=1; grep --quiet \"^MemTotal: *9[0-9]\\{5\\} kB\" /proc/meminfo && echo 1G";
    assert_eq!(inside(&world, "demo", given).trim(), "5\n1G");
    assert!(inside(&world, "demo", "dmesg").contains("Secure boot enabled"));
    let held = world.json("deploy", "bundle status vm:demo").exits(0);
    assert!(held.to_string().contains("hello") && !held.to_string().contains("\"one\""), "{held}");
    world.ok("deploy", "ssh -o BatchMode=yes charly-demo true");

    // What a purge forgets is what the deploys said and held; all else of the machine stays as it was, and so does its disk.
    let state = || world.json("deploy", "vm show demo").exits(0).lines[0]["item"]["state"].clone();
    let disk = || {
        world.ok(
            "deploy",
            &format!("stat --format %i {HOME}/disk.qcow2; md5sum {HOME}/id_ed25519 {HOME}/host_key {HOME}/seed.img"),
        )
    };
    let (mut before, disk_before) = (state(), disk());
    assert_eq!(before["deployed"]["disposition"]["ephemeral"]["ttl"], 28800, "{before}");
    world.code("deploy", 0, "charly bundle del vm:demo --purge -y");
    assert_eq!(
        before["deployed"]["deploys"].as_object_mut().unwrap().remove("vm:demo").unwrap()["layers"][0]["candy"],
        "hello"
    );
    before["deployed"]["disposition"] = serde_json::json!({ "disposable": false, "ephemeral": null });
    assert_eq!((state(), disk()), (before, disk_before));
    assert_eq!(stage(&world, "demo"), "ready");
    vm(&world, 0, "destroy demo --disk -y");
    Ok(())
}

/// What needs no system in the machine: one that only waits for a disk to boot from.
#[test]
fn an_empty_machine_is_held_by_its_name_alone() -> Result {
    let Some(world) = World::prepared("empty", INSTALL)? else { return Ok(()) };
    let sector = "printf '\\125\\252' | dd of=disk.raw bs=1 seek=510 conv=notrunc status=none";
    world.ok("deploy", &format!("truncate --size 2M disk.raw; {sector}; qemu-img create -q -f qcow2 own.qcow2 4M"));

    // A size that cannot be is refused, and the same command with another goes on.
    vm(&world, 3, "import demo disk.raw --ram 128M --disk-size 1M");
    assert_eq!(stage(&world, "demo"), "half made");
    vm(&world, 0, "import demo disk.raw --ram 128M --disk-size 64M");
    vm(&world, 0, "start demo --no-wait");
    assert_eq!(stage(&world, "demo"), "booting");
    let late = vm(&world, 1, "start demo --timeout 1");
    assert!(late.stderr.contains("nobody could log in to `demo` within 1 s"), "{}", late.stderr);
    world.code("deploy", 0, "printf '\\035' | timeout 60 charly vm console demo");

    // Snapshots of what runs; going back is for what does not.
    vm(&world, 0, "snapshot create demo live");
    vm(&world, 5, "snapshot revert demo live");
    vm(&world, 5, "clone demo copy");
    vm(&world, 0, "snapshot delete demo live");

    // It minds no button; its power is cut when that is asked for, and that is no crash.
    vm(&world, 1, "stop demo --shutdown-timeout 1");
    vm(&world, 0, "stop demo --shutdown-timeout 1 --force");
    assert_eq!(stage(&world, "demo"), "stopped");
    vm(&world, 0, "stop demo");

    // Somebody else has its port by now: it gets another, under which its host key is known.
    let port =
        |state: &str| world.ok("deploy", &format!("sed --quiet 's/.*\"ssh_port\": \\([0-9]*\\),/\\1/p' {state}"));
    let state = format!("{HOME}/state.json");
    let taken = port(&state);
    let taken = taken.trim();
    world.ok(
        "root",
        &format!("systemd-run --quiet --unit=taker systemd-socket-activate --listen=127.0.0.1:{taken} cat"),
    );
    world.await_in_guest(&format!("ss --listening --tcp --numeric | grep --quiet 127.0.0.1:{taken}"));
    let said = vm(&world, 0, "start demo --no-wait").stderr;
    assert!(said.contains("its port was taken"), "{said}");
    let now = port(&state);
    assert_ne!(now.trim(), taken);
    world.ok("deploy", &format!("grep --quiet --fixed-strings '[127.0.0.1]:{} ' {HOME}/known_hosts", now.trim()));

    // Two at once: the second is told.
    world.ok(
        "deploy",
        "flock ~/.local/state/charly/vm/.demo.lock sh -c '! charly vm stop demo 2>&1' | grep --quiet 'another charly'",
    );

    // A disk that was taken where it lay is its owner's.
    vm(&world, 3, "import own disk.raw --in-place");
    vm(&world, 0, "import own own.qcow2 --in-place");
    vm(&world, 0, "destroy own --disk -y");
    world.ok("deploy", "test -e own.qcow2");
    vm(&world, 0, "destroy demo --disk -y");
    world.ok("deploy", &format!("test ! -e {HOME} && ! pgrep --exact charly-demo"));
    Ok(())
}
