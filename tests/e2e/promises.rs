//! What charly promises before it does anything: gates, plans that touch nothing, requirements, secrets, locks.

use std::process::Stdio;

use crate::kit::{FIXTURES, Result, World};

#[test]
fn gates_stay_shut_where_nobody_can_be_asked() -> Result {
    let Some(world) = World::new("gates")? else { return Ok(()) };
    for (arguments, named, not_named) in [
        ("", &["--allow-root-tasks", "--with-services"][..], &[][..]),
        ("--with-services", &["--allow-root-tasks"], &["--with-services"]),
        ("--allow-root-tasks", &["--with-services"], &["--allow-root-tasks"]),
    ] {
        let refused = world.json("deploy", &format!("bundle add local commands ticker {arguments}")).exits(5);
        let error = refused.error();
        assert!(named.iter().all(|flag| error.contains(flag)), "{error}");
        assert!(!not_named.iter().any(|flag| error.contains(flag)), "{error}");
    }
    // Who has no sudo is refused before anything happens, and so is who would have to type a password.
    let refused = world.json("plain", "bundle add local one -y").exits(5);
    assert!(refused.error().contains("hint: "), "{refused}");
    assert_eq!(world.traces(), "");

    // With every gate opened by name there is nothing left to ask; without a gate there is nothing to ask at all.
    world.json("deploy", "bundle add local commands ticker --allow-root-tasks --with-services").exits(0);
    world.json("deploy", "bundle add local files").exits(0);
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn looking_touches_nothing() -> Result {
    let Some(world) = World::new("looking")? else { return Ok(()) };
    for user in ["deploy", "plain", "root"] {
        let plan = world.ok(user, &format!("cd {FIXTURES} && charly bundle plan local commands ticker one shells"));
        for part in ["/etc/systemd/system/charly-ticker-tick.service", "tree", "--allow-root-tasks", "--with-services"]
        {
            assert!(plan.contains(part), "{user}: {plan}");
        }
        world.ok(user, &format!("cd {FIXTURES} && charly bundle add local commands ticker one shells --dry-run -y"));
        world.json(user, "bundle list").exits(0);
        world.json(user, "doctor");
    }
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn what_is_missing_is_told_before_anything_happens() -> Result {
    let Some(world) = World::new("missing")? else { return Ok(()) };
    for (arguments, place, told) in [
        ("needy", "candy/needy/charly.yml:5:13", "no candy is named `nowhere`"),
        ("secretive --secret token=env:HOME", "candy/secretive/charly.yml:5:24", "`E2E_GREETED`: who is greeted"),
        ("secretive -e E2E_GREETED=x", "candy/secretive/charly.yml:6:27", "the secret `token`: what opens the door"),
    ] {
        let command = format!("cd {FIXTURES} && charly bundle add local {arguments} -y");
        let error = world.code("deploy", 3, &command).stderr;
        assert!(error.contains(place) && error.contains(told) && error.contains("hint: "), "{error}");
    }
    world.json("deploy", "bundle del local -y").exits(3);
    world.json("deploy", "bundle add nowhere hello -y").exits(3);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_secret_is_where_it_was_asked_for_and_nowhere_else() -> Result {
    let Some(world) = World::new("secretive")? else { return Ok(()) };
    let secret = "correct-horse-battery-staple";
    // On standard input, so that no argument of a shell holds it either.
    let mut printf = std::process::Command::new("printf").arg(secret).stdout(Stdio::piped()).spawn().unwrap();
    let add = format!(
        "cat >/dev/shm/token && cd {FIXTURES} && charly bundle add local secretive -y -v --format json \
         --secret token=file:/dev/shm/token -e E2E_GREETED=world"
    );
    let said = world.guest.ssh_from("deploy", &add, printf.stdout.take().unwrap());
    assert!(printf.wait().unwrap().success());
    let said = said?.success()?;
    assert!(!said.contains(secret), "{said}");
    assert!(said.contains("the token is [redacted], as everybody can see"), "{said}");

    let placed =
        world.ok("root", "stat -c '%a %U' ~deploy/.e2e-token /opt/e2e-token; cat ~deploy/.e2e-token /opt/e2e-token");
    assert_eq!(placed, format!("600 deploy\n600 root\n{secret}{secret}"));
    assert_eq!(world.ok("deploy", "cat e2e-length"), format!("{}\nworld\n", secret.len()));
    let processes = world.ok("deploy", "cat e2e-processes");
    assert!(processes.contains("charly bundle add local secretive") && !processes.contains(secret), "{processes}");
    // An entry may say where a secret is; then nothing need be said again.
    world.json("deploy", "bundle add other secretive -y").exits(0);
    assert_eq!(world.ok("deploy", "cat e2e-length"), format!("{}\nmoon\n", secret.len()));
    world.ok("root", "rm /dev/shm/token");
    let lost = world.json("deploy", "bundle add other secretive -y").exits(3);
    assert!(lost.error().starts_with("the secret `token` cannot be read: the file `/dev/shm/token`"), "{lost}");
    let holders =
        world.run("root", "grep -rl correct-horse-battery-staple / --exclude-dir=proc --exclude-dir=sys").stdout;
    let mut holders: Vec<_> = holders.lines().filter(|path| !path.starts_with("/var/log/journal/")).collect();
    holders.sort_unstable();
    assert_eq!(holders, ["/home/deploy/.e2e-token", "/opt/e2e-token"]);

    world.json("deploy", "bundle del other -y").exits(0);
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn of_two_runs_at_once_one_is_told_about_the_other() -> Result {
    let Some(world) = World::new("two")? else { return Ok(()) };
    let mut first = world.start("deploy", "bundle add local slow -y");
    world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
    for arguments in ["bundle add other one -y", "bundle add local one -y", "bundle del local -y"] {
        let refused = world.json("deploy", arguments).exits(5);
        assert!(refused.error().starts_with("another run holds the ledger: `local`, run "), "{refused}");
    }
    world.ok("root", "touch /run/e2e-go-on");
    assert!(first.wait().unwrap().success());
    assert_eq!(world.ok("root", "cat /opt/slow/*"), "first\nlast\n");
    world.json("deploy", "bundle add other one -y").exits(0);
    for deploy in ["local", "other"] {
        world.json("deploy", &format!("bundle del {deploy} -y")).exits(0);
    }
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn an_interrupt_ends_at_a_step_and_two_end_the_command() -> Result {
    let Some(world) = World::new("interrupted")? else { return Ok(()) };
    for interrupts in [1, 2] {
        let mut run = world.start("deploy", "bundle add local slow -y");
        world.await_in_guest("grep --quiet command:wait /var/lib/opencharly/installed/lock");
        world.ok("deploy", "pkill -INT --exact charly");
        if interrupts == 1 {
            world.ok("root", "touch /run/e2e-go-on");
        } else {
            world.ok("deploy", "sleep 0.3; pkill -INT --exact charly");
        }
        assert_eq!(run.wait().unwrap().code(), Some(130), "{interrupts}");
        assert_eq!(world.ok("root", "ls /opt/slow"), "first\n");
        world.ok("root", "touch /run/e2e-go-on");
        world.json("deploy", "bundle add local slow -y").exits(0);
        assert_eq!(world.ok("root", "ls /opt/slow"), "first\nlast\n");
        world.ok("root", "rm /run/e2e-go-on");
        world.json("deploy", "bundle del local -y").exits(0);
    }
    assert_eq!(world.traces(), "");
    Ok(())
}
