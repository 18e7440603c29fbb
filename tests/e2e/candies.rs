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
