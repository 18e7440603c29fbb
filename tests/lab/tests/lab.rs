//! The lab, tried on itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use charly_lab::{ALLOWED, Error, Subject};

type Result = std::result::Result<(), Error>;

#[test]
fn a_guest_boots_and_obeys() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.nspawn("obeys")?;

    let output = guest.ssh("deploy", "echo out; echo err >&2; exit 7")?;
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    let error = output.success().unwrap_err();
    assert_eq!(error.to_string(), "`echo out; echo err >&2; exit 7` exited with 7: err");
    assert_eq!(guest.ssh("root", "hostname; systemctl is-system-running")?.success()?, "obeys\nrunning\n");
    let scanned = guest.ssh("root", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")?.success()?;
    assert_eq!(scanned.trim(), guest.host_key()?);

    for (user, shell, sudo) in
        [("deploy", "/bin/bash", 0), ("fishy", "/usr/bin/fish", 0), ("cshy", "/bin/tcsh", 0), ("plain", "/bin/bash", 1)]
    {
        assert_eq!(guest.ssh(user, "echo $SHELL")?.success()?.trim(), shell);
        assert_eq!(guest.ssh(user, "sudo -n true")?.status, sudo, "{user}");
    }

    let folder = tempfile::tempdir().map_err(|source| Error::Io { doing: "make a folder".into(), source })?;
    let file = folder.path().join("file");
    std::fs::write(&file, b"\0binary\xff\n").unwrap();
    for user in ["deploy", "fishy", "cshy"] {
        guest.put(user, &file, &format!("/home/{user}/it's here"), 0o750)?;
        let seen = guest.ssh("root", &format!("cd /home/{user} && stat -c '%U %a %s' *here"))?.success()?;
        assert_eq!(seen, format!("{user} 750 9\n"));
    }
    Ok(())
}

#[test]
fn a_snapshot_sees_what_changed_and_nothing_else() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.nspawn("sees")?;
    let before = guest.snapshot()?;
    assert_eq!(before.diff(&guest.snapshot()?, ALLOWED).to_string(), "");
    assert_eq!(before.get(Subject::File, "/bin"), Some("l 0:0 -> usr/bin"));
    assert_eq!(before.get(Subject::UnitFile, "ssh.service"), Some("enabled"));

    // Somebody being logged in is not a change, and neither is having been.
    guest.ssh("deploy", "systemctl --user is-system-running --wait")?;
    assert_eq!(before.diff(&guest.snapshot()?, ALLOWED).to_string(), "");

    guest
        .ssh(
            "root",
            "cd /home/plain && printf x >a && chmod 4755 a && ln -s a b && mkdir c && setfattr -n user.k -v v c \
             && printf 'same size' >'d\n  e' && echo 127.9.9.9 z >>/etc/hosts && chown 7:8 /srv && rm /etc/motd \
             && touch /tmp/left && loginctl enable-linger plain && systemctl --quiet enable fstrim.timer",
        )?
        .success()?;
    let after = guest.snapshot()?;
    let diff = before.diff(&after, ALLOWED);
    let seen: Vec<_> = diff.unexpected.iter().map(ToString::to_string).collect();
    let expected = [
        "changed file /etc/hosts: f 0644 0:0 ",
        "removed file /etc/motd: f 0644 0:0 ",
        "added file /etc/systemd/system/timers.target.wants: d 0755 0:0",
        "added file /etc/systemd/system/timers.target.wants/fstrim.timer: l 0:0 -> /usr/lib/systemd/system/fstrim.timer",
        "added file /home/plain/a: f 4755 0:0 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        "added file /home/plain/b: l 0:0 -> a",
        "added file /home/plain/c: d 0755 0:0 user.k=0x76",
        "added file /home/plain/d\n  e: f 0644 0:0 ",
        "changed file /srv: d 0755 0:0 => d 0755 7:8",
        "added file /tmp/left: f 0644 0:0 e3b0c442",
        "added file /var/lib/systemd/linger/plain: f 0644 0:0 e3b0c442",
        "added linger plain: on",
        "changed unit-file fstrim.timer: disabled => enabled",
    ];
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.starts_with(expected), "{seen}\nshould begin with\n{expected}");
    }
    assert_eq!(seen.len(), expected.len(), "{seen:#?}");

    // What has the same size, and a time that was set back, is read again all the same.
    guest.ssh("root", "cd /home/plain && printf 'SAME SIZE' >d* && touch -d @0 d*")?.success()?;
    let diff = after.diff(&guest.snapshot()?, ALLOWED);
    assert_eq!(diff.unexpected.len(), 1, "{diff}");
    Ok(())
}

#[test]
fn a_package_comes_through_the_proxy_and_goes_again() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.nspawn("packages")?;
    let before = guest.snapshot()?;
    guest
        .ssh("deploy", "sudo apt-get -q update && sudo apt-get -q -y install --no-install-recommends tree")?
        .success()?;
    let diff = before.diff(&guest.snapshot()?, ALLOWED);
    let has = |text: &str| diff.unexpected.iter().any(|change| change.to_string().starts_with(text));
    assert!(has("added package tree:amd64: install installed "), "{diff}");
    assert!(has("added file /usr/bin/tree: f 0755 0:0 "), "{diff}");

    guest.ssh("deploy", "sudo apt-get -q -y purge tree")?.success()?;
    let diff = before.diff(&guest.snapshot()?, ALLOWED);
    assert_eq!(diff.to_string(), "");
    assert!(diff.allowed.iter().any(|(change, _)| change.item().name == "/var/log/dpkg.log"));
    Ok(())
}

#[test]
fn a_guest_reboots_and_survives_a_power_cut() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.nspawn("reboots")?;
    let first = guest.boot_id()?;
    guest.ssh("deploy", "touch kept; touch /tmp/lost; nohup sleep 1000 >/dev/null 2>&1 &")?.success()?;

    guest.reboot()?;
    let second = guest.boot_id()?;
    assert_ne!(first, second);
    assert_eq!(guest.ssh("deploy", "ls kept /tmp/lost 2>/dev/null; pgrep sleep")?.stdout, "kept\n");

    guest.pull()?;
    assert!(matches!(guest.ssh("deploy", "true"), Err(Error::Unreachable { .. })));
    guest.boot()?;
    assert_ne!(guest.boot_id()?, second);
    assert_eq!(guest.ssh("deploy", "ls")?.success()?, "kept\n");
    Ok(())
}

#[test]
fn a_network_is_cut_and_mended() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.nspawn("network")?;
    let mut echo = guest.ssh_command("deploy").arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(echo.stdout.take().unwrap()).lines();
    let mut say = echo.stdin.take().unwrap();
    writeln!(say, "before").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "before");

    guest.cut().unwrap();
    let start = Instant::now();
    assert!(matches!(guest.ssh("deploy", "true"), Err(Error::Unreachable { .. })));
    assert!(start.elapsed() > Duration::from_secs(2), "a cut network does not refuse, it is silent");
    guest.mend().unwrap();
    assert_eq!(guest.ssh("deploy", "true").unwrap().status, 0);
    // A connection that was open when the network went is there when it comes back.
    writeln!(say, "after").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "after");
    drop(say);
    assert!(echo.wait().unwrap().success());
    Ok(())
}

#[test]
fn guests_stand_side_by_side_and_leave_nothing() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let (one, two) = (lab.nspawn("left")?, lab.nspawn("right")?);
    assert_ne!(one.address(), two.address());
    assert_ne!(one.host_key()?, two.host_key()?);
    one.ssh("root", "touch /only-here")?.success()?;
    assert_eq!(two.ssh("root", "ls /only-here")?.status, 2);
    assert!(matches!(lab.nspawn("left"), Err(Error::Name(_))));

    let console = one.console();
    let folder = console.parent().unwrap().to_owned();
    let mode = std::fs::metadata(one.key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    one.down()?;
    assert!(!folder.exists());
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains(folder.to_str().unwrap()));
    drop(lab.nspawn("left")?);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn what_a_dead_run_left_is_swept() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_run_that_dies", "--nocapture"])
        .env("CHARLY_LAB_DIE", "1")
        .output()
        .unwrap();
    assert_eq!(run.status.signal(), Some(6), "{run:?}");
    let printed = String::from_utf8(run.stdout).unwrap();
    let (_, folder) = printed.split_once("left: ").unwrap_or_else(|| panic!("{printed}"));
    let folder = Path::new(folder.trim());

    // Whether it is this one or that of a test beside it: the next guest sweeps.
    let guest = lab.nspawn("sweeps")?;
    assert!(!folder.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()));
    guest.down()
}

/// Not a test of its own: the run that [`what_a_dead_run_left_is_swept`] lets die with a guest up.
#[test]
#[expect(clippy::print_stdout, reason = "the other process reads it")]
fn a_run_that_dies() -> Result {
    if std::env::var_os("CHARLY_LAB_DIE").is_none() {
        return Ok(());
    }
    let guest = charly_lab::require().expect("the test that starts this one has the lab").nspawn("dies")?;
    println!("left: {}", guest.console().parent().unwrap().display());
    std::process::abort();
}

#[test]
#[ignore = "takes minutes where QEMU has to emulate; run with `--ignored`"]
fn a_machine_boots_and_obeys() -> Result {
    let Some(lab) = charly_lab::require() else { return Ok(()) };
    let guest = lab.qemu("machine")?;
    assert_eq!(guest.ssh("deploy", "hostname; cloud-init status")?.success()?, "machine\nstatus: done\n");
    let scanned = guest.ssh("root", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")?.success()?;
    assert_eq!(scanned.trim(), guest.host_key()?);

    let before = guest.snapshot()?;
    guest.ssh("deploy", "sudo apt-get -q -y install --no-install-recommends tree; touch made; sync")?.success()?;
    let diff = before.diff(&guest.snapshot()?, ALLOWED);
    assert!(diff.to_string().contains("added package tree:amd64"), "{diff}");
    guest.ssh("deploy", "sudo apt-get -q -y purge tree; rm made")?.success()?;
    assert_eq!(before.diff(&guest.snapshot()?, ALLOWED).to_string(), "");

    guest.cut()?;
    assert!(matches!(guest.ssh("deploy", "true"), Err(Error::Unreachable { .. })));
    guest.mend()?;
    guest.ssh("deploy", "touch kept; sync")?.success()?;

    let first = guest.boot_id()?;
    guest.pull()?;
    guest.boot()?;
    assert_ne!(guest.boot_id()?, first);
    assert_eq!(guest.ssh("deploy", "ls")?.success()?, "kept\n");
    guest.reboot()?;
    guest.down()
}
