//! Every shipped candy on a real machine: added, checked, added again, and gone.

use crate::kit::{Result, World};

#[test]
fn small_ones_come_and_go() -> Result {
    let Some(world) = World::new("small")? else { return Ok(()) };
    come_and_go(&world, &["hello", "ripgrep", "tmux", "direnv", "sshd-hardening"]);

    // `hello` needs no right that a user does not have.
    for user in ["plain", "root"] {
        there(&world, user, "hello");
        gone(&world, user, "hello");
    }
    Ok(())
}

#[test]
fn servers_come_and_go() -> Result {
    let Some(world) = World::new("servers")? else { return Ok(()) };
    come_and_go(&world, &["postgresql", "valkey", "caddy"]);
    Ok(())
}

#[test]
fn data_stays_until_it_is_purged() -> Result {
    let Some(world) = World::new("data")? else { return Ok(()) };
    let sql = |query: &str| format!("cd / && sudo -u postgres psql --tuples-only --no-align --command '{query}'");
    world.json("deploy", "bundle add local postgresql -y").exits(0);
    world.ok("deploy", &sql("CREATE TABLE kept AS SELECT 42 AS answer"));
    let kept = |run: &str| {
        let said = world.json("deploy", run).exits(0);
        let kept = said.result()["run"]["kept"].as_array().unwrap().clone();
        kept.iter().map(|kept| kept["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let stays = ["/var/lib/postgresql", "user postgres", "group postgres", "group ssl-cert"];
    assert_eq!(kept("bundle del local -y"), stays);
    let gone = world.json("deploy", "bundle del local -y").exits(3).error();
    assert!(
        gone.ends_with("hint: data of `postgresql` was kept; `charly bundle del local --purge` removes it"),
        "{gone}"
    );

    // Added again it has its data, and whoever takes it away then can still have all of it gone.
    world.json("deploy", "bundle add local postgresql -y").exits(0);
    assert_eq!(world.ok("deploy", &sql("SELECT answer FROM kept")), "42\n");
    assert_eq!(world.json("deploy", "bundle add local -y").exits(0).changed(), 0);
    assert_eq!(kept("bundle del local -y"), stays);
    world.json("deploy", "bundle add local hello -y").exits(0);
    let purged = world.ok("deploy", "charly bundle del local postgresql --purge -y 2>&1");
    assert!(purged.contains("- data /var/lib/postgresql"), "{purged}");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_workstation_comes_and_goes() -> Result {
    let Some(world) = World::new("workstation")? else { return Ok(()) };
    // One over the other, since hundreds of packages come with npm.
    there(&world, "deploy", "nodejs");
    there(&world, "deploy", "workstation");
    gone(&world, "deploy", "workstation");
    Ok(())
}

#[test]
fn what_asks_for_a_reboot_goes_on_after_it() -> Result {
    let Some(mut world) = World::new("limits")? else { return Ok(()) };
    world.guest.reboot()?; // Some units run at the first boot alone.
    world.remember()?;
    for again in [false, true] {
        let stopped = world.json("deploy", "bundle add local file-limits -y --reboot stop").exits(1);
        let error = stopped.error();
        assert!(error.starts_with("a reboot is due before the run can go on"), "again: {again}: {stopped}");
    }
    world.guest.reboot()?;
    there(&world, "deploy", "file-limits");
    gone(&world, "deploy", "file-limits");

    // This machine itself is never rebooted, whatever the candy asks for; its user is told.
    let before = world.guest.boot_id()?;
    let added = world.json("deploy", "bundle add local file-limits -y").exits(0);
    assert_eq!(added.events("warning").len(), 1, "{added}");
    assert_eq!(world.guest.boot_id()?, before);
    gone(&world, "deploy", "file-limits");
    Ok(())
}

fn come_and_go(world: &World, candies: &[&str]) {
    for candy in candies {
        there(world, "deploy", candy);
        gone(world, "deploy", candy);
    }
}

/// Adds a candy, has its checks evaluated, and adds it again to no effect.
fn there(world: &World, user: &str, candy: &str) {
    let add = format!("bundle add local {candy} -y");
    world.json(user, &add).exits(0);
    let checked = world.json(user, "check local").exits(0);
    let verdicts = checked.events("checked");
    assert!(!verdicts.is_empty(), "{candy}: {checked}");
    assert!(verdicts.iter().all(|verdict| verdict["result"] == "passed"), "{candy}: {checked}");
    assert_eq!(world.json(user, &add).exits(0).changed(), 0, "{candy}, a second time");
    world.code(user, 0, "charly drift local");
}

/// Takes everything away and finds no trace of it.
fn gone(world: &World, user: &str, candy: &str) {
    world.json(user, "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "", "what is left of {candy}");
}
