//! Images built by somebody who is nobody special, and the same recipe on the machine itself.

use crate::kit::{FIXTURES, Result, World};

/// Shows each path below some with kind, mode, owner, link and content.
const TREE: &str = r#"for path in /opt/same /opt/same-run /usr/local/bin/same /usr/local/bin/same-tool /usr/bin/same-through \
  /home/deploy/.same /home/deploy/.same-run /home/deploy/.same-after; do
  [ -e "$path" ] && find "$path" -printf "%p %y %m %U:%G %l " -exec sh -c 'if [ -f "$1" ] && [ ! -L "$1" ]; then sha256sum <"$1"; else echo; fi' _ {} \;
done | sort"#;

/// The guest's own root is an overlay, on which the kernel lays no other; its `/tmp` is none.
const HERE: &str = "export XDG_DATA_HOME=/tmp/$(id -un) && mkdir -p $XDG_DATA_HOME && cd /usr/local/share/e2e";

#[test]
fn the_same_recipe_is_the_same_tree_in_an_image_and_on_a_machine() -> Result {
    let install = "apt-get update -qq && apt-get install -y -qq mmdebstrap uidmap >/dev/null";
    let Some(world) = World::prepared("boxes", install)? else { return Ok(()) };
    let build = |name: &str, more: &str| {
        world.ok("deploy", &format!("{HERE} && charly box build {name} {more}")).trim().to_owned()
    };
    // What runs in a sandbox needs no right that a user does not have.
    let id = build("same-all", "--load");
    assert!(id.starts_with("sha256:"), "{id}");
    let run = |image: &str, command: &str| {
        world.ok(
            "deploy",
            &format!(
                "{HERE} && podman run --rm --user 0 localhost/{image}:latest bash -c '{}'",
                command.replace('\'', r"'\''")
            ),
        )
    };
    let image = run("same-all", TREE);
    assert!(image.contains("/opt/same/closed d 700 0:0"), "{image}");

    world.ok("deploy", &format!("cd {FIXTURES} && charly bundle add local same same-run -y"));
    let machine = world.ok("root", TREE);
    assert_eq!(image, machine);

    // Who runs in it is who was asked for, with what the recipe brought.
    let who = world.ok(
        "deploy",
        &format!("{HERE} && podman run --rm localhost/same-all:latest bash -lc 'id -u; same; command -v tree'"),
    );
    assert_eq!(who, "1000\nsame\n/usr/bin/tree\n");
    let package = "dpkg-query -W -f '${Package}=${Version}\\n' tree";
    assert_eq!(run("same-all", package), world.ok("root", package));

    // Nothing of the making is in it.
    let traces = "ls -A /var/lib/opencharly /root/.config /var/lib/apt/lists/*_* /var/log/dpkg.log 2>/dev/null; true";
    assert_eq!(run("same-all", traces), "");

    // The same recipe once more, and by root, is the same image, whatever was kept of the first time.
    assert_eq!(build("same-all", ""), id);
    let files = build("same-files", "");
    let by_root = world.ok("root", &format!("{HERE} && umask 077 && charly box build same-files")).trim().to_owned();
    let layers = |user: &str| {
        let text = world.ok(user, &format!("{HERE} && charly box inspect same-files"));
        let image: serde_json::Value = serde_json::from_str(&text).unwrap();
        image["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()
    };
    let (mine, roots) = (layers("deploy"), layers("root"));
    assert_eq!(mine.last(), roots.last(), "{files} {by_root}");

    // What a candy adds to its base is told by path, and is nothing but what it adds.
    let diff = world.ok("deploy", &format!("{HERE} && charly box diff same-base same-files --ignore-times"));
    assert!(diff.lines().any(|line| line == "+ /opt/same/tree/deep/er"), "{diff}");
    assert!(diff.lines().all(|line| line.starts_with('+')), "{diff}");
    Ok(())
}

#[test]
fn a_build_that_fails_leaves_nothing_half_done() -> Result {
    let install = "apt-get update -qq && apt-get install -y -qq mmdebstrap uidmap >/dev/null";
    let Some(world) = World::prepared("boxfail", install)? else { return Ok(()) };
    let project = "mkdir -p ~/p/candy/bad && cd ~/p &&
        printf 'version: 2026.001.0000\nbox: {bad: {base: \"bootstrap:debian-13\", candy: [bad]}}\n' >charly.yml &&
        printf 'candy:\n  name: bad\n  version: 2026.001.0000\n  description: It fails\n  plan:\n    - {run: it fails, command: \"echo why >&2; exit 3\"}\n' >candy/bad/charly.yml";
    world.ok("deploy", project);
    let output = world.code("deploy", 1, &format!("{HERE} && cd ~/p && charly box build bad"));
    assert!(
        output.stderr.contains("the command ended with status 3") && output.stderr.contains("why"),
        "{}",
        output.stderr
    );
    let left = "ls -A /tmp/deploy/charly/sandbox/runs; find /tmp/deploy/charly/images -name '.tmp*'";
    assert_eq!(world.ok("deploy", left), "");
    let list = world.ok("deploy", &format!("{HERE} && cd ~/p && charly box list"));
    assert!(list.lines().any(|line| line.starts_with("bad ") && line.contains("not built")), "{list}");

    // Mended, it goes on after what was built.
    world.ok("deploy", "sed -i 's/exit 3/true/' ~/p/candy/bad/charly.yml");
    let built = world.code("deploy", 0, &format!("{HERE} && cd ~/p && charly box build bad"));
    assert!(built.stderr.contains("[1/1] bad changes nothing"), "{}", built.stderr);

    // Without a runtime it says which program is missing, and how to get it.
    world.ok("root", "mv /usr/bin/crun /usr/bin/crun-away");
    world.ok("deploy", "sed -i 's/true/echo x >\\/etc\\/x/' ~/p/candy/bad/charly.yml");
    let output = world.run("deploy", &format!("{HERE} && cd ~/p && charly box build bad"));
    world.ok("root", "mv /usr/bin/crun-away /usr/bin/crun");
    assert_ne!(output.status, 0);
    assert!(
        output.stderr.contains("`crun` cannot be started") && output.stderr.contains("apt-get install crun"),
        "{}",
        output.stderr
    );

    // On an overlay it says so, and what to do.
    world
        .ok("deploy", "printf 'box: {small: {base: scratch, candy: [bad]}}\nversion: 2026.001.0000\n' >~/p/charly.yml");
    let output = world.run("deploy", "cd ~/p && charly box build small");
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains("set XDG_DATA_HOME to a folder on another one"), "{}", output.stderr);
    Ok(())
}
