//! What keeps virtual machines: their disks whatever is done and whatever ends it, their start with their host, their time.
//!
//! None of it needs a system in the machine: its disk is empty, and it waits for one to boot from.

use crate::kit::{Result, World};

/// What a machine of Debian's needs to carry machines.
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive
    apt-get install --quiet --quiet --yes --no-install-recommends \
        qemu-system-x86 qemu-utils openssh-client strace >/dev/null";

/// Makes a disk that seems to be one.
const DISK: &str = "truncate --size 2M disk.raw
    printf '\\125\\252' | dd of=disk.raw bs=1 seek=510 conv=notrunc status=none";

/// Brings the machine `demo` into a state before each line of its input, runs `charly` with that line, and prints it with what tells
/// the machine's disk from any other.
const TRY: &str = r#"set -eu
home=~/.local/state/charly/vm/demo
gone() { while pgrep --exact charly-demo >/dev/null; do sleep 0.02; done; }
bring() {
  [ ! -e $home/pid ] || kill -KILL "$(cat $home/pid)" 2>/dev/null || :
  gone
  rm -f $home/pid
  cp -a ~/saved/. $home
  case $1 in
    half-made) sed -i 's/"made": "whole"/"made": "begun"/' $home/state.json ;;
    built) sed -i 's/"made": "whole"/"made": "built"/' $home/state.json ;;
    stopped) ;;
    absent) rm $home/state.json ;;
    damaged) echo '{' >$home/state.json ;;
    booting) charly --quiet vm start demo --no-wait ;;
    paused)
      charly --quiet vm start demo --no-wait
      (cd $home && perl -MIO::Socket::UNIX -e '
        my $s = IO::Socket::UNIX->new(Peer => "qmp") or die; <$s>;
        for ("qmp_capabilities", "stop") { print $s "{\"execute\":\"$_\"}\n"; <$s> }') ;;
    crashed)
      charly --quiet vm start demo --no-wait
      kill -KILL "$(cat $home/pid)"
      gone ;;
  esac
}
which() { echo "$(stat --format %i $home/disk.qcow2) $(qemu-img snapshot -l --force-share $home/disk.qcow2 | grep -c ' mark ')"; }
while read -r verb; do
  bring $1 2>/dev/null
  # What it says is another test's matter; what waits for a system in the machine would wait for ever.
  timeout --signal KILL 3 charly $verb </dev/null >/dev/null 2>&1 || :
  echo "$(which) $1: $verb"
  charly vm destroy copy --disk -y >/dev/null 2>&1 || :
done"#;

/// Every verb that has to do with a machine, but those that are told to delete its disk; with `-y`, where that is no such order.
const VERBS: &[(&str, &str)] = &[
    ("build", "vm build demo --from disk.raw --allow-unverified"),
    ("create", "vm create demo --from disk.raw --allow-unverified --no-start"),
    ("create", "vm create demo --from disk.raw --allow-unverified --no-start --adopt -y"),
    ("start", "vm start demo --no-wait"),
    ("start", "vm start demo --no-wait --reseed"),
    ("stop", "vm stop demo --force --shutdown-timeout 0"),
    ("restart", "vm restart demo --force --shutdown-timeout 0 --no-wait"),
    ("destroy", "vm destroy demo -y"),
    ("destroy", "vm destroy demo --disk"),
    ("list", "vm list"),
    ("show", "vm show demo"),
    ("ssh", "vm ssh demo true"),
    ("console", "vm console demo --log"),
    ("snapshot", "vm snapshot create demo one"),
    ("snapshot", "vm snapshot list demo"),
    ("snapshot", "vm snapshot revert demo mark -y"),
    ("snapshot", "vm snapshot delete demo one -y"),
    ("clone", "vm clone demo copy"),
    ("import", "vm import demo disk.raw -y"),
    ("autostart", "vm autostart demo off"),
    ("reap", "vm reap -y"),
    ("cp-box", "vm cp-box demo none"),
    ("", "bundle add vm:demo hello -y"),
    ("", "bundle del vm:demo -y"),
    ("", "bundle del vm:demo --purge -y"),
    ("", "update vm:demo"),
    ("", "ssh-config demo"),
    ("", "ssh-config --include"),
    ("", "ssh-config --no-include"),
];

#[test]
fn no_verb_deletes_a_disk_that_is_not_told_to() -> Result {
    let Some(world) = World::prepared("keeping", INSTALL)? else { return Ok(()) };
    world.ok("deploy", DISK);
    world.ok("deploy", &format!("cat > try.sh <<'END'\n{TRY}\nEND"));
    world.code("deploy", 0, "charly vm import demo disk.raw --ram 128M && charly vm snapshot create demo mark");
    world.ok("deploy", "cp -a ~/.local/state/charly/vm/demo saved && rm saved/disk.qcow2");
    let before = world.ok("deploy", "stat --format '%i 1' ~/.local/state/charly/vm/demo/disk.qcow2");

    // One that is forgotten here would never be tried.
    let help = world.ok("deploy", "charly vm --help | sed --quiet '/^Commands:/,/^$/s/^  \\([a-z-]*\\) .*/\\1/p'");
    for verb in help.lines().filter(|verb| *verb != "help") {
        assert!(VERBS.iter().any(|(known, _)| *known == verb), "`vm {verb}` is tried in no state");
    }
    let verbs = VERBS.iter().map(|(_, verb)| *verb).collect::<Vec<_>>().join("\n");
    for state in ["half-made", "built", "stopped", "absent", "damaged", "booting", "paused", "crashed"] {
        let tried = world.ok("deploy", &format!("sh try.sh {state} <<'END'\n{verbs}\nEND"));
        assert_eq!(tried.lines().count(), VERBS.len(), "{tried}");
        for line in tried.lines() {
            assert!(line.starts_with(&format!("{} {state}: ", before.trim())), "{line}, and it was {before}");
        }
    }
    let last =
        "sh try.sh stopped </dev/null; charly vm destroy demo --disk -y; ! test -e ~/.local/state/charly/vm/demo";
    world.ok("deploy", last);
    Ok(())
}

#[test]
fn a_making_that_is_killed_at_any_step_goes_on() -> Result {
    let Some(world) = World::prepared("killed", INSTALL)? else { return Ok(()) };
    world.ok("deploy", DISK);
    // Calls that change what is on a disk, or wait for a program that does: charly is killed as it makes the Nth of each.
    let calls =
        "?rename ?renameat ?renameat2 ?link ?linkat ?unlink ?unlinkat ?mkdir ?mkdirat ?chmod fchmod ftruncate fsync
        fdatasync copy_file_range sendfile wait4 waitid";
    let create = "charly vm create demo --from disk.raw --allow-unverified --disk-size 64M --ram 128M --no-start";
    let home = ".local/state/charly/vm/demo";
    let look = format!(
        "ls -A {home}; qemu-img check -q {home}/disk.qcow2; qemu-img info {home}/disk.qcow2 | grep -E '^(virtual|backing)'; \
                        ls -A .local/share/charly/base"
    );
    let forget = "charly vm destroy demo --disk -y && rm -rf .local/share/charly .cache/charly";
    world.ok("deploy", create);
    let whole = world.ok("deploy", &look);
    world.ok("deploy", forget);
    let mut cuts = 0;
    for call in calls.split_whitespace() {
        for nth in 1.. {
            let cut = format!("--trace={call} --inject={call}:signal=KILL:when={nth}");
            let killed = world.run("deploy", &format!("strace --output=/dev/null {cut} {create}; exit $?"));
            if killed.status == 0 {
                world.ok("deploy", forget);
                break;
            }
            assert_eq!(killed.status, 128 + 9, "{killed:?}");
            cuts += 1;
            let listed = world.json("deploy", "vm list").exits(0);
            let stage = listed.lines.first().and_then(|line| line["item"]["stage"].as_str()).unwrap_or("absent");
            match stage {
                "stopped" => drop(world.code("deploy", 5, create)),
                "absent" | "half made" | "built" => drop(world.code("deploy", 0, create)),
                other => panic!("{cut}: it is {other}"),
            }
            assert_eq!(world.ok("deploy", &look), whole, "{cut}: when it was {stage}");
            world.ok("deploy", forget);
        }
    }
    // Fewer would mean that they were not made where this looks for them.
    assert!(cuts > 30, "only {cuts} calls");
    Ok(())
}

#[test]
fn a_machine_starts_with_its_host_and_leaves_no_unit() -> Result {
    let Some(world) = World::prepared("autostart", INSTALL)? else { return Ok(()) };
    world.ok("deploy", DISK);
    let lingers = || world.run("root", "test -e /var/lib/systemd/linger/deploy").status == 0;
    let unit = "~/.config/systemd/user/charly-demo.service";
    let declared = "vm: {demo: {source: {imported: {disk_path: /home/deploy/disk.raw}}, ram: 128M, autostart: true}}";
    world.ok("deploy", &format!("echo '{declared}' > charly.yml"));
    world.code("deploy", 0, "charly vm create demo --no-start");
    assert!(lingers());
    world.ok("deploy", &format!("systemd-analyze --user verify {unit}"));

    world.guest.reboot()?;
    world.await_in_guest("pgrep --exact charly-demo");
    let said = world.json("deploy", "vm list").exits(0);
    assert_eq!(said.lines[0]["item"]["stage"], "booting");
    assert_eq!(world.ok("deploy", "systemctl --user is-active charly-demo").trim(), "active");

    // What it brought goes with it, whether it is told or taken away.
    world.code("deploy", 0, "charly vm autostart demo off");
    assert!(!lingers());
    world.ok("deploy", "test ! -e ~/.config/systemd");
    world.ok("root", "loginctl enable-linger deploy");
    world.code("deploy", 0, "charly vm autostart demo on && systemctl --user is-enabled charly-demo");
    world.code(
        "deploy",
        0,
        "charly vm destroy demo --disk -y && test ! -e ~/.config/systemd && ! pgrep --exact charly-demo",
    );
    assert!(lingers(), "it did before anybody asked for it");
    Ok(())
}

#[test]
fn only_what_has_outlived_its_deploy_is_reaped() -> Result {
    let Some(world) = World::prepared("reaped", INSTALL)? else { return Ok(()) };
    world.ok("deploy", DISK);
    let project = "deploy:
  brief: {vm: brief, ephemeral: {ttl: 1s}}
  long: {vm: long, ephemeral: {ttl: 1h}}
  any: {vm: disposable, disposable: true}";
    world.ok("deploy", &format!("echo '{project}' > charly.yml"));
    for name in ["brief", "long", "disposable", "plain"] {
        world.code("deploy", 0, &format!("charly vm import {name} disk.raw --ram 128M"));
    }
    world.code("deploy", 0, "charly vm start brief --no-wait; sleep 1.1");
    assert_eq!(world.code("deploy", 0, "charly vm reap --dry-run").stdout.trim(), "brief would end");
    world.ok("deploy", "test -e ~/.local/state/charly/vm/brief/disk.qcow2 && pgrep --exact charly-brief");
    // What was declared is remembered, for whoever reaps from elsewhere.
    assert_eq!(world.code("deploy", 0, "cd / && charly vm reap").stdout.trim(), "brief ended");
    world.ok("deploy", "test ! -e ~/.local/state/charly/vm/brief && ! pgrep --exact charly-brief");
    assert_eq!(world.code("deploy", 0, "charly vm reap").stdout, "");

    // One that may go is not asked about, and any other is.
    world.code("deploy", 5, "charly vm destroy plain --disk");
    world.code("deploy", 0, "charly vm destroy disposable --disk && charly vm destroy long --disk");
    world.code("deploy", 0, "charly vm list | grep --quiet plain");
    Ok(())
}

#[test]
fn a_uefi_has_variables_of_its_machines_own() -> Result {
    let install =
        format!("{INSTALL}\n    apt-get install --quiet --quiet --yes --no-install-recommends ovmf >/dev/null");
    let Some(world) = World::prepared("uefi", &install)? else { return Ok(()) };
    world.ok("deploy", DISK);
    let source = "source: {imported: {disk_path: /home/deploy/disk.raw}}, ram: 256M";
    let project =
        format!("vm:\n  plain: {{{source}, firmware: uefi-insecure}}\n  secure: {{{source}, firmware: uefi-secure}}");
    world.ok("deploy", &format!("echo '{project}' > charly.yml"));
    for machine in ["plain", "secure"] {
        let home = format!("/home/deploy/.local/state/charly/vm/{machine}");
        let template = if machine == "secure" { "OVMF_VARS_4M.ms.fd" } else { "OVMF_VARS_4M.fd" };
        world.code("deploy", 0, &format!("charly vm create {machine} --no-wait"));
        // It finds nothing to boot from, and says so; that it wrote is in its own variables.
        world
            .ok("root", &format!("timeout 240 sh -c 'until grep -a -q BdsDxe {home}/console.log; do sleep 0.5; done'"));
        world.ok("root", &format!("! cmp -s {home}/uefi.fd /usr/share/OVMF/{template}"));
        world.code("deploy", 0, &format!("charly vm destroy {machine} -y && test -e {home}/uefi.fd"));
        world.code("deploy", 0, &format!("charly vm destroy {machine} -y --disk && test ! -e {home}"));
    }
    Ok(())
}
