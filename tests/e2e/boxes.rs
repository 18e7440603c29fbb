//! Images built by somebody who is nobody special, and the same recipe on the machine itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::{FIXTURES, Result, World};

/// Where Debian's `golang-github-opencontainers-image-spec-dev` has the JSON schemas of the image specification.
const SCHEMAS: &str = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema";

/// Shows each path below some with kind, mode, owner, link and content, and what programs may.
const TREE: &str = r#"for path in /opt/same /opt/same-run /usr/local/bin/same /usr/local/bin/same-tool /usr/bin/same-through \
  /home/deploy/.same /home/deploy/.same-run /home/deploy/.same-after; do
  [ -e "$path" ] && find "$path" -printf "%p %y %m %U:%G %l " -exec sh -c 'if [ -f "$1" ] && [ ! -L "$1" ]; then sha256sum <"$1"; else echo; fi' _ {} \;
done | sort; /usr/sbin/getcap -r /opt/same-run"#;

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
    assert!(image.contains("/opt/same-run/tool cap_net_raw=ep"), "{image}");

    world.ok("deploy", "ssh-keygen -q -N '' -f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub >>~/.ssh/authorized_keys && ssh-keyscan localhost >>~/.ssh/known_hosts 2>/dev/null");
    for venue in ["ssh:deploy@localhost", "local"] {
        world.ok("deploy", &format!("cd {FIXTURES} && charly bundle add {venue} same same-run -y"));
        assert_eq!(image, world.ok("root", TREE), "{venue}");
        if venue != "local" {
            world.ok("deploy", &format!("cd {FIXTURES} && charly bundle del {venue} -y"));
        }
    }

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

    // A machine made of an image knows what that brought: nothing is run or changed, and nothing of it goes.
    build("same-root", "--load");
    let all = "find / -xdev \\( -path /root/.cache -o -path /var/cache/charly -o -path \"/var/cache/apt/*\" -o -path \"/tmp/*\" \\) -prune -o \\
        -type d -printf \"%p %m %U:%G\\n\" -o -printf \"%p %y %m %U:%G %T@ %l\\n\" | sort";
    let script = format!(
        "set -e; cd {FIXTURES}; {all} >/tmp/before; charly bundle add local same same-run -y --format json >/tmp/said
         test -e /var/lib/opencharly/installed; charly bundle del local -y >/dev/null; {all} >/tmp/after; diff /tmp/before /tmp/after >&2; tail -n 1 /tmp/said"
    );
    let given = format!("-v /usr/local/bin/charly:/usr/local/bin/charly:ro -v {FIXTURES}:{FIXTURES}:ro");
    let said =
        world.ok("deploy", &format!("{HERE} && podman run --rm {given} localhost/same-root:latest bash -c '{script}'"));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["result"]["run"]["changed"], 0, "{said}");

    // The same recipe once more, and by root, is the same image, whatever was kept of the first time or was not.
    assert_eq!(build("same-all", ""), id);
    assert_eq!(build("same-all", "--no-cache"), id);
    let files = build("same-files", "");
    let by_root = world.ok("root", &format!("{HERE} && umask 077 && charly box build same-files")).trim().to_owned();
    let layers = |user: &str| {
        let text = world.ok(user, &format!("{HERE} && charly box inspect same-files"));
        let image: serde_json::Value = serde_json::from_str(&text).unwrap();
        image["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()
    };
    let (mine, roots) = (layers("deploy"), layers("root"));
    assert_eq!(mine.last(), roots.last(), "{files} {by_root}");

    // What was taken away and made again is there, and nothing of what was taken away.
    build("gone", "--load");
    let want = "/opt\n/opt/anew\n/opt/anew/within\n/opt/away\n/opt/away/within\n/opt/away/within/deep\n/opt/led\n/opt/led/within\n";
    assert_eq!(run("gone", "find /opt | LC_ALL=C sort"), want);

    // Nobody else comes near the programs of images, which would run as whoever built them.
    let modes = world.ok("root", "stat -c %a /tmp/deploy/charly/sandbox /tmp/deploy/charly/images");
    assert_eq!(modes, "700\n700\n");

    // What a candy adds to its base is told by path, and is nothing but what it adds.
    let diff = world.ok("deploy", &format!("{HERE} && charly box diff same-base same-files --ignore-times"));
    assert!(diff.lines().any(|line| line == "+ /opt/same/tree/deep/er"), "{diff}");
    assert!(diff.lines().all(|line| line.starts_with('+')), "{diff}");
    Ok(())
}

#[test]
fn a_containerfile_is_the_same_image() -> Result {
    let install = "apt-get update -qq && apt-get install -y -qq mmdebstrap uidmap buildah >/dev/null";
    let Some(world) = World::prepared("boxfile", install)? else { return Ok(()) };
    let run = |command: &str| world.ok("deploy", &format!("{HERE} && {command}"));
    run("charly box build same-all && charly box generate same-all -o /tmp/context");
    run("buildah build --network host -q -t localhost/generated /tmp/context >/dev/null");
    run("buildah push -q localhost/generated oci-archive:/tmp/generated.tar:localhost/generated:latest");
    let diff = run("charly box diff same-all oci-archive:/tmp/generated.tar --ignore-times");
    // Files that buildah mounts its own over, and a copy of dpkg's of what was before.
    let others = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/var/lib/dpkg/status-old"];
    let unlike: Vec<_> =
        diff.lines().filter(|line| !line.split(' ').nth(1).is_some_and(|path| others.contains(&path))).collect();
    assert_eq!(unlike, Vec::<&str>::new());
    // Of a base that had things taken away, too.
    run("charly box build gone-above && charly box generate gone-above -o /tmp/gone");
    run("podman build --network host -q -t localhost/gone /tmp/gone >/dev/null");
    run("podman push -q localhost/gone oci-archive:/tmp/gone.tar:localhost/gone:latest");
    let diff = run("charly box diff gone-above oci-archive:/tmp/gone.tar --ignore-times");
    let unlike: Vec<_> =
        diff.lines().filter(|line| !line.split(' ').nth(1).is_some_and(|path| others.contains(&path))).collect();
    assert_eq!(unlike, Vec::<&str>::new());

    // Others build upon an image that was merged.
    run(
        "charly box merge gone-above --keep 1 --as localhost/merged:1 && charly box push localhost/merged:1 oci:/tmp/merged",
    );
    run("printf 'FROM oci:/tmp/merged\nLABEL a=b\n' >/tmp/onto && buildah build -q -f /tmp/onto /tmp/merged");

    // And it runs the same.
    let config = |image: &str| -> serde_json::Value {
        let said: serde_json::Value = serde_json::from_str(&run(&format!("charly box inspect {image}"))).unwrap();
        let mut config = said["config"]["config"].clone();
        // buildah's own.
        config["Labels"].as_object_mut().unwrap().remove("io.buildah.version");
        config
    };
    assert_eq!(config("oci-archive:/tmp/generated.tar"), config("same-all"));
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
    assert!(built.stderr.contains("[1/1] bad is built"), "{}", built.stderr);

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

#[test]
fn what_is_written_is_what_the_specifications_schemas_say() {
    if !Path::new(SCHEMAS).is_dir() {
        let why = format!("there is no `{SCHEMAS}`; `tests/lab/install` installs it");
        assert!(std::env::var_os("CHARLY_LAB").is_none_or(|asked| asked != "1"), "{why}");
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: {why}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "charly.yml",
        "version: 2026.001.0000
box:
  low: {base: scratch, candy: [low], env: {A: b}, label: {org.example.x: y}, port: ['8080:80', 53/udp]}
  high: {base: low, candy: [high], user: app, uid: 1234, volume: [{name: data, path: ~/data}], command: [a, b],
    entrypoint: [c], init: systemd, security: {cap_add: [NET_ADMIN]}}
",
    );
    for name in ["low", "high"] {
        let text = format!(
            "candy: {{name: {name}, version: 2026.001.0000, description: A file, env: {{{name}: '1'}}, plan: [{{run: f, write: ~/{name}, content: x}}]}}\n"
        );
        write(&format!("candy/{name}/charly.yml"), &text.replace("low:", "LOW:").replace("high:", "HIGH:"));
    }
    let charly = |arguments: &str| {
        let mut charly = Command::new(env!("CARGO_BIN_EXE_charly"));
        charly.env_clear().env("HOME", folder.path().join("home")).env("PATH", "/usr/bin:/bin");
        let output = charly.current_dir(folder.path()).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    fs::create_dir(folder.path().join("home")).unwrap();
    let judge = |layout: &Path| -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/schemas.py");
        // Debian's own, which has the packages.
        Command::new("/usr/bin/python3").arg(script).arg(SCHEMAS).arg(layout).output().unwrap()
    };
    for compression in ["gzip", "zstd", "none"] {
        charly(&format!("box build high --compression {compression} -o oci:{compression}"));
    }
    let archive = |name: &str| {
        charly(&format!("box push high oci-archive:{name}.tar"));
        let unpacked = folder.path().join(name);
        fs::create_dir(&unpacked).unwrap();
        let tar = Command::new("tar")
            .arg("-xf")
            .arg(format!("{name}.tar"))
            .arg("-C")
            .arg(&unpacked)
            .current_dir(folder.path())
            .status();
        assert!(tar.unwrap().success());
        unpacked
    };
    charly("box merge high --as localhost/merged:1");
    let store = folder.path().join("home/.local/share/charly/images");
    for layout in
        ["gzip", "zstd", "none"].map(|name| folder.path().join(name)).into_iter().chain([archive("archive"), store])
    {
        let judged = judge(&layout);
        let (said, error) = (String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
        assert!(judged.status.success(), "{}: {error}", layout.display());
        assert!(said.matches("config-schema.json").count() >= 1, "{}: {said}", layout.display());
    }
    // It would have said so.
    write(
        "gzip/index.json",
        &fs::read_to_string(folder.path().join("gzip/index.json")).unwrap().replace("sha256:", "sha256-"),
    );
    let refused = judge(&folder.path().join("gzip"));
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("does not match"),
        "{refused:?}"
    );
}
