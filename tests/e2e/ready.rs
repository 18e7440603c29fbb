//! Machines that answer before they are ready.

use crate::kit::Result;
use crate::remote::Remote;

/// Something that takes its time with every start, and leaves what cloud-init would. It ends when it is let.
const SETS_UP: &str = r#"
    cat >/usr/local/sbin/e2e-set-up <<'END'
#!/bin/sh
mkdir -p /run/cloud-init && touch /run/cloud-init/enabled
echo '{"v1": {"stage": "modules-final"}}' >/run/cloud-init/status.json
until [ -e /run/e2e-go-on ]; do sleep 0.05; done
cp /etc/e2e-result.json /run/cloud-init/result.json
END
    chmod 755 /usr/local/sbin/e2e-set-up
    printf '[Service]\nType=oneshot\nExecStart=/usr/local/sbin/e2e-set-up\n[Install]\nWantedBy=multi-user.target\n' \
        >/etc/systemd/system/e2e-set-up.service
    systemctl enable --quiet e2e-set-up.service
    echo '{"v1": {"errors": []}}' >/etc/e2e-result.json"#;

#[test]
fn a_machine_is_ready_after_its_start_and_not_when_it_answers() -> Result {
    let Some(remote) = Remote::prepared("sshready", SETS_UP)? else { return Ok(()) };
    let add = "bundle add @ boots hello -y";
    let run = remote.start_until("deploy", add, "waiting for its start (systemd says starting)");
    // Whoever waits is not put off by a server that restarts, and by one that throws them out.
    remote
        .world
        .ok("root", "systemctl restart ssh; pkill -KILL -u deploy; [ ! -e /home/deploy/.local/bin/charly-hello ]; touch /run/e2e-go-on");
    let (code, said) = run.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("it is back after"), "{said}");
    remote.world.ok("deploy", "test -e ~/.local/bin/charly-hello");
    remote.run("deploy", "bundle del @ -y").exits(0);

    // One that is up and was not set up as it should be is another error than one that never came back.
    remote.world.ok("root", r#"echo '{"v1": {"errors": ["boom"]}}' >/etc/e2e-result.json"#);
    let run = remote.start_until("deploy", add, "waiting for its start");
    remote.world.ok("root", "touch /run/e2e-go-on");
    let (code, said) = run.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("came back from its reboot, but is not ready: cloud-init (boom) failed"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    remote.world.ok("deploy", "! test -e ~/.local/bin/charly-hello");
    // Whoever has seen to it goes on there, and is reminded.
    let resumed = remote.run("deploy", add).exits(0);
    assert!(resumed.events("rebooting").is_empty(), "{resumed}");
    assert!(resumed.to_string().contains("something went wrong when it started: cloud-init (boom)"), "{resumed}");
    remote.run("deploy", "bundle del @ -y").exits(0);
    Ok(())
}

#[test]
fn only_who_wants_packages_waits_for_whoever_else_installs_some() -> Result {
    let Some(remote) = Remote::new("sshlocked")? else { return Ok(()) };
    remote.world.ok(
        "root",
        "systemd-run --quiet flock /var/lib/dpkg/lock-frontend sh -c 'until [ -e /run/e2e-unlock ]; do sleep 0.05; done'
         until ! flock --nonblock /var/lib/dpkg/lock-frontend true; do sleep 0.05; done",
    );
    remote.run("deploy", "bundle add @ hello -y").exits(0);
    let run = remote.start_until("deploy", "bundle add @ tmux -y", "waiting for its package manager (");
    remote.world.ok("root", "touch /run/e2e-unlock");
    let (code, said) = run.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("holds /var/lib/dpkg/lock-frontend)"), "{said}");
    remote.world.ok("root", "rm /run/e2e-unlock");
    remote.gone("deploy", "tmux");
    Ok(())
}
