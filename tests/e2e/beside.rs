//! What runs beside a virtual machine: what carries its network, and what shares its host's folders with it.
//!
//! None of it needs a system in the machine. That a guest has the folders, and a network, is shown where one boots.

use crate::kit::{Result, World};

/// What a machine of Debian's needs to carry machines; passt is in every guest.
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive
    apt-get install --quiet --quiet --yes --no-install-recommends \
        qemu-system-x86 qemu-utils openssh-client virtiofsd >/dev/null";

/// A disk that seems to be one, and machines made of it.
const DECLARE: &str = r"truncate --size 2M disk.raw
    printf '\125\252' | dd of=disk.raw bs=1 seek=510 conv=notrunc status=none
    mkdir shared
    cat >charly.yml <<'END'
vm:
  beside:
    source: {imported: {disk_path: ~/disk.raw}}
    ram: 128M
    share: [{source: ~/shared, target: /srv/shared}, {source: ~/shared, target: /srv/shown, read_only: true}]
    network: {backend: passt, port_forwards: ['18080:80']}
  own:
    source: {imported: {disk_path: ~/disk.raw}}
    ram: 128M
  nowhere:
    source: {imported: {disk_path: ~/disk.raw}}
    share: [{source: ~/nothing, target: /srv}]
END";

/// Counts what runs beside machines.
const RUNNING: &str = "pgrep --count 'passt|virtiofsd'";

/// Says what carries a machine's network.
#[track_caller]
fn network(world: &World, machine: &str) -> String {
    let shown = world.json("deploy", &format!("vm show {machine}")).exits(0);
    shown.lines[0]["item"]["state"]["observed"]["network"].as_str().unwrap().to_owned()
}

#[test]
fn what_runs_beside_a_machine_ends_with_it() -> Result {
    let Some(world) = World::prepared("beside", INSTALL)? else { return Ok(()) };
    world.ok("deploy", DECLARE);
    let home = "~/.local/state/charly/vm/beside";
    let is_alone = || world.await_in_guest("! pgrep \"passt|virtiofsd\"");

    world.code("deploy", 0, "charly vm create beside --no-wait");
    assert_eq!(network(&world, "beside"), "passt");
    // Each virtiofsd is two: one waits for the other, which sees nothing but the folder.
    assert_eq!(world.ok("deploy", RUNNING).trim(), "5");
    // Both ports lead into it, from the loopback alone, and no socket has a name that could be left behind.
    let listening = world.ok("root", "ss --listening --tcp --numeric --processes --no-header | grep passt");
    let addresses: Vec<_> = listening.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert!(addresses.len() == 2 && addresses.iter().all(|at| at.starts_with("127.0.0.1:")), "{listening}");
    assert!(addresses.contains(&"127.0.0.1:18080"), "{listening}");
    world.ok("deploy", &format!("! ls {home} | grep --extended-regexp --line-regexp 'share[0-9]+'"));

    // However it ends: its port is free again before the next start wants it.
    world.ok("deploy", &format!("kill -KILL $(cat {home}/pid)"));
    is_alone();
    for verb in ["start beside --no-wait", "restart beside --no-wait --force --shutdown-timeout 0"] {
        let said = world.code("deploy", 0, &format!("charly vm {verb}")).stderr;
        assert!(!said.contains("port was taken"), "{said}");
        assert_eq!(network(&world, "beside"), "passt");
    }
    world.code("deploy", 0, "charly vm stop beside --force --shutdown-timeout 0");
    is_alone();

    // A start that comes to nothing leaves nothing running.
    world.ok("deploy", "mv shared elsewhere");
    let said = world.code("deploy", 3, "charly vm start beside --no-wait").stderr;
    assert!(said.contains("/home/deploy/shared` is no folder that could be shared"), "{said}");
    is_alone();
    world.ok("deploy", "mv elsewhere shared");
    world.ok("root", "mv /usr/libexec/virtiofsd /root");
    let said = world.code("deploy", 1, "charly vm start beside --no-wait").stderr;
    assert!(said.contains("`virtiofsd` is not there\nhint: install `virtiofsd`"), "{said}");
    is_alone();
    world.ok("root", "mv /root/virtiofsd /usr/libexec; systemd-run --quiet --unit=taker systemd-socket-activate --listen=127.0.0.1:18080 cat");
    world.await_in_guest("ss --listening --tcp --numeric | grep --quiet 127.0.0.1:18080");
    let said = world.code("deploy", 5, "charly vm start beside --no-wait").stderr;
    assert!(said.contains("a port of `beside` is somebody else's"), "{said}");
    world.ok("root", "systemctl stop taker");

    // Where nothing is said, QEMU itself carries what it emulates; where passt is, it must be there.
    world.code("deploy", 0, "charly vm create own --no-wait");
    assert_eq!(network(&world, "own"), "qemu");
    world.ok("root", "mv /usr/bin/passt /root");
    let said = world.code("deploy", 1, "charly vm start beside --no-wait").stderr;
    assert!(said.contains("`passt` is not there\nhint: install `passt`"), "{said}");
    world.ok("root", "mv /root/passt /usr/bin");

    let said = world.code("deploy", 3, "charly vm create nowhere").stderr;
    assert!(said.contains("charly.yml:12:22") && said.contains("/home/deploy/nothing` is not there"), "{said}");
    world.ok("deploy", "test ! -e ~/.local/state/charly/vm/nowhere");

    for machine in ["beside", "own"] {
        world.code("deploy", 0, &format!("charly vm destroy {machine} --disk -y"));
    }
    is_alone();
    Ok(())
}
