//! Images on their way into a machine's podman: once, in part, again, damaged, in use, cut off.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use charly_ir::Digest;
use charly_lab::fault::{Act, Direction, Fault};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{FIXTURES, Result, Said, World};
use crate::remote::Remote;

/// What the image does when it runs.
static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("hello.c"), folder.path().join("hello"));
    let text = r#"#include <stdio.h>
        #include <unistd.h>
        int main(int c, char **v) { char b[99]; if (c > 1) pause(); FILE *f = fopen("/etc/word", "r"); puts(f && fgets(b, 99, f) ? b : "?"); return 0; }"#;
    std::fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-static", "-O1", "-s", "-o"]).args([&program, &source]).status().unwrap();
    assert!(made.success());
    std::fs::read(program).unwrap()
});

/// Images as `docker save` would write them, made without one.
struct Shelf(TempDir);

type Layer<'a> = &'a [(&'a str, &'a [u8])];

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Makes an archive of an image that says a word.
    fn image(&self, name: &str, word: &str, more: &[Layer<'_>]) -> PathBuf {
        let folder = self.0.path().join(name);
        let program: Layer<'_> =
            &[("bin/hello", &PROGRAM), ("srv/data", b"data that is long enough to be cut short\n")];
        let word: Layer<'_> = &[("etc/word", word.as_bytes())];
        let (mut files, mut ids) = (Vec::new(), Vec::new());
        for (number, layer) in std::iter::once(&program).chain(more).chain([&word]).enumerate() {
            let tree = folder.join(format!("tree{number}"));
            for (path, bytes) in *layer {
                let path = tree.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, bytes).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let file = format!("{number}.tar");
            // A folder that its owner alone may enter, and that is somebody's who is nobody outside.
            std::fs::create_dir_all(tree.join(format!("private{number}/within"))).unwrap();
            tar(&folder.join(&file), &tree, &["--mode=u=rwX,go=rX", "--exclude=./private*"]);
            let private = format!("./private{number}");
            tar(&folder.join(&file), &tree, &["--append", "--owner=33", "--group=33", "--mode=0700", &private]);
            ids.push(format!("sha256:{}", Digest::of(&std::fs::read(folder.join(&file)).unwrap())));
            files.push(file);
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/hello"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let manifest = json!([{ "Config": "config.json", "RepoTags": ["web:latest"], "Layers": files }]);
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        let archive = self.0.path().join(format!("{name}.tar"));
        let mut members: Vec<&str> = vec!["manifest.json", "config.json"];
        members.extend(files.iter().map(String::as_str));
        tar(&archive, &folder, &members);
        archive
    }
}

fn tar(archive: &Path, folder: &Path, more: &[&str]) {
    let mut tar = Command::new("tar");
    if more.contains(&"--append") {
        tar.args(more);
    } else {
        tar.args(["--create", "--owner=0", "--group=0"]).args(more);
        tar.args(more.iter().all(|word| word.starts_with('-')).then_some("."));
    }
    tar.args(["--sort=name", "--mtime=@1700000000", "--numeric-owner", "--file"]).arg(archive);
    let output = tar.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn delivered(said: &Said) -> &Value {
    let item = said.lines.iter().find_map(|line| line["item"].get("delivered"));
    item.unwrap_or_else(|| panic!("nothing was delivered: {said}"))
}

/// The two storages of a machine: what they are asked for by, and who looks into them.
const STORAGES: [(&str, &str); 2] = [(" --rootless", "deploy"), ("", "root")];

impl Remote {
    #[track_caller]
    fn cp(&self, image: &Path, more: &str) -> Said {
        self.run("deploy", &format!("vm cp-box @ {}{more}", image.display()))
    }

    /// Runs the image, and gives what it says.
    #[track_caller]
    fn says(&self, user: &str, name: &str) -> String {
        self.world.ok(user, &format!("podman run --rm --network none {name}")).trim().to_owned()
    }
}

#[test]
fn an_image_is_brought_once_and_then_in_part() -> Result {
    // Nobody may forward anything there: the image comes through the conversation itself.
    let closed = "echo AllowTcpForwarding no >/etc/ssh/sshd_config.d/closed.conf && systemctl reload ssh.service";
    let Some(remote) = Remote::prepared("images", closed)? else { return Ok(()) };
    let shelf = Shelf::new();
    let (one, two) = (shelf.image("one", "first", &[]), shelf.image("two", "second", &[]));
    remote.world.guest.put("root", &one, "/tmp/one.tar", 0o644)?;
    let listening = || remote.world.ok("root", "ss --no-header --listening --tcp --numeric");
    let before = listening();
    for (storage, user) in STORAGES {
        // What podman got by itself is there, and stays: it has no name but the one that it is to have.
        remote.world.ok(user, "podman load --quiet --input /tmp/one.tar");
        for _ in 0..2 {
            let said = remote.cp(&one, storage).exits(0);
            assert_eq!(delivered(&said)["was_there"], true, "{said}");
            assert_eq!(remote.says(user, "web"), "first", "{user}");
        }
        remote.world.ok(user, "podman image rm --force web");

        let said = remote.cp(&one, storage).exits(0);
        let what = delivered(&said);
        assert_eq!(
            (&what["name"], &what["layers"], &what["sent_layers"]),
            (&json!("localhost/web:latest"), &json!(2), &json!(2))
        );
        assert_eq!(remote.says(user, "web"), "first", "{user}");

        // It has run, which is no harm done to its layers.
        let again = remote.cp(&one, storage).exits(0);
        assert_eq!(
            (&delivered(&again)["was_there"], &delivered(&again)["sent_layers"]),
            (&json!(true), &json!(0)),
            "{again}"
        );

        let id = remote.world.ok(user, "podman image inspect --format '{{.Id}}' web");
        let id = id.trim();
        let changed = remote.cp(&two, storage).exits(0);
        assert_eq!(
            (&delivered(&changed)["sent_layers"], &delivered(&changed)["was_there"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(remote.says(user, "web"), "second");
        remote.world.code(user, 1, &format!("podman image exists {id}"));

        // Another name for what is there, and a generation that a container needs.
        remote.cp(&two, &format!("{storage} --as team/web:2")).exits(0);
        assert_eq!(remote.says(user, "localhost/team/web:2"), "second");
        remote.world.ok(user, "podman untag web localhost/web:latest && podman create --name user --network none localhost/team/web:2 >/dev/null");
        remote.cp(&one, &format!("{storage} --as team/web:2")).exits(0);
        assert_eq!(remote.says(user, "localhost/team/web:2"), "first");
        assert_eq!(remote.world.ok(user, "podman start --attach user").trim(), "second");
    }
    assert_eq!(listening(), before, "nothing listens any more");
    let left = "ls -d /home/deploy/.cache/charly/image /var/cache/charly/image /var/tmp/container_images* 2>/dev/null";
    assert_eq!(remote.world.run("root", left).stdout, "");
    Ok(())
}

#[test]
fn a_torn_layer_is_found_and_replaced_and_never_below_a_container() -> Result {
    let Some(remote) = Remote::new("imagestorn")? else { return Ok(()) };
    let shelf = Shelf::new();
    let (one, two) = (shelf.image("one", "first", &[]), shelf.image("two", "second", &[]));
    for (storage, user) in STORAGES {
        remote.cp(&one, storage).exits(0);
        let root = remote.world.ok(user, "podman info --format '{{.Store.GraphRoot}}'");
        let data = format!("$(ls -d {}/overlay/*/diff/srv/data)", root.trim());
        for harm in [
            format!("rm {data}"),
            format!("truncate --size 5 {data}"),
            format!("dd if=/dev/zero of={data} bs=8 count=1 conv=notrunc status=none"),
            format!("touch {data}.more"),
            // Neither its size nor its times tell.
            format!(
                "t=$(stat -c @%Y {data}) && printf X | dd of={data} conv=notrunc status=none && touch -d $t {data}"
            ),
        ] {
            remote.world.ok(user, &harm);
            let said = remote.cp(&one, storage).exits(0);
            let what = delivered(&said);
            assert_eq!(what["damaged"], json!(["localhost/web:latest"]), "{harm}: {said}");
            remote.world.ok(user, "podman system check");
            assert_eq!(remote.says(user, "web"), "first", "{harm}");
            assert_eq!(delivered(&remote.cp(&one, storage).exits(0))["was_there"], true, "{harm}");
        }
        // What the next generation would share is damaged: it must not come to rest on that.
        remote.world.ok(user, &format!("rm {data}"));
        let said = remote.cp(&two, storage).exits(0);
        assert_eq!(delivered(&said)["damaged"].as_array().unwrap().len(), 2, "{said}");
        remote.world.ok(user, "podman system check");
        assert_eq!(remote.says(user, "web"), "second");

        remote.world.ok(user, "podman run --detach --name busy --network none web /bin/hello wait >/dev/null");
        remote.world.ok(user, &format!("rm {data}"));
        let refused = remote.cp(&two, storage).exits(5).error();
        assert!(refused.contains("busy") && refused.contains("podman rm --force busy"), "{refused}");
        remote.world.ok(
            user,
            "podman image exists web && podman exec busy /bin/hello && podman rm --force --time 0 busy >/dev/null",
        );
        remote.cp(&two, storage).exits(0);
        assert_eq!(remote.says(user, "web"), "second");
    }
    Ok(())
}

#[test]
fn a_delivery_that_is_cut_is_gone_on_with() -> Result {
    let Some(remote) = Remote::new("imagescut")? else { return Ok(()) };
    let shelf = Shelf::new();
    let noise = |seed: u64| {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[3]
        };
        (0..12 << 20).map(|_| next()).collect::<Vec<_>>()
    };
    let (low, high) = (noise(1), noise(2));
    let former = shelf.image("one", "first", &[]);
    let image = shelf.image("large", "large", &[&[("srv/low", &low)], &[("srv/high", &high)]]);
    let (size, part) = (24 << 20, 6 << 20);
    let remote = remote.with_bandwidth(part);
    for (storage, user) in STORAGES {
        remote.cp(&former, storage).exits(0);
        let began = remote.proxy.counts().to_server;
        for _ in 0..3 {
            remote.proxy.heal();
            remote.proxy.harm(Fault { direction: Direction::ToServer, at: part, act: Act::Reset });
            let cut = remote.run_through("deploy", &format!("vm cp-box @ {}{storage}", image.display()));
            assert_eq!(cut.exit, 4, "{cut}");
            remote.world.await_in_guest("! pgrep --list-full --exact charly-guest");
            assert_eq!(remote.says(user, "web"), "first", "the one that was there has the name until then");
        }
        remote.proxy.heal();
        let said = remote.run_through("deploy", &format!("vm cp-box @ {}{storage}", image.display())).exits(0);
        assert_eq!(remote.says(user, "web"), "large", "{said}");
        let crossed = remote.proxy.counts().to_server - began;
        // What was under way at each cut, and what else there is to say.
        assert!(crossed < size + size / 4, "{crossed} bytes for {size}");
    }
    Ok(())
}

#[test]
fn an_image_comes_from_podmans_storage_or_charlys_own() -> Result {
    let Some(world) = World::new("imagesfrom")? else { return Ok(()) };
    let shelf = Shelf::new();
    world.guest.put("root", &shelf.image("one", "first", &[]), "/tmp/one.tar", 0o644)?;
    // Root has the images, and a user of the same machine is brought them.
    world.ok(
        "root",
        "ssh-keygen -q -N '' -f ~/.ssh/id_ed25519 && ssh-keyscan localhost >>~/.ssh/known_hosts 2>/dev/null &&
         cat ~/.ssh/id_ed25519.pub >>/home/deploy/.ssh/authorized_keys && podman load --quiet --input /tmp/one.tar",
    );
    let cp = |image: &str| world.json("root", &format!("vm cp-box ssh:deploy@localhost {image} --rootless")).exits(0);
    let spare = "ls -d /var/tmp/charly-image-* /tmp/charly-image-* 2>/dev/null; true";
    for image in ["web", "localhost/web:latest"] {
        let said = cp(image);
        let sent = if image == "web" { 2 } else { 0 };
        assert_eq!(delivered(&said)["sent_layers"], sent, "{said}");
        assert_eq!(world.ok("deploy", "podman run --rm --network none web"), "first\n");
        // Put together from the unpacked files: nothing was saved first.
        assert_eq!(world.ok("root", spare), "");
    }

    world.ok("root", &format!("cd {FIXTURES} && charly box build same-nothing"));
    let read = "podman unshare sh -c 'cat $(podman image mount localhost/same-nothing)/etc/e2e/note'";
    for (sent, was_there) in [(1, false), (0, true)] {
        let said = cp("same-nothing");
        let what = delivered(&said);
        assert_eq!((&what["sent_layers"], &what["was_there"]), (&json!(sent), &json!(was_there)), "{said}");
        assert_eq!(world.ok("deploy", read), "as declared\n");
    }
    Ok(())
}

#[test]
fn what_is_in_the_way_is_told_with_a_way_out() -> Result {
    let Some(remote) = Remote::new("imagesway")? else { return Ok(()) };
    let shelf = Shelf::new();
    let image = shelf.image("one", "first", &[]);
    let missing = remote.run("deploy", "vm cp-box @ docker-archive:/nowhere/x.tar");
    assert!(missing.exit != 0 && missing.error().contains("/nowhere/x.tar"), "{missing}");
    let unnamed =
        remote.run("deploy", &format!("vm cp-box @ docker-archive:{}:none", image.display())).exits(3).error();
    assert!(unnamed.contains("hint: there is `web:latest`"), "{unnamed}");

    let denied = remote.run("plain", &format!("vm cp-box @ {}", image.display())).exits(5).error();
    assert!(denied.contains("sudo"), "{denied}");
    remote.world.ok(
        "root",
        "install -d -o plain -g plain /home/plain/.local /home/plain/.local/share /home/plain/.local/share/containers",
    );
    remote.world.ok(
        "root",
        "mount -t tmpfs -o size=600k,uid=$(id -u plain),gid=$(id -g plain) small /home/plain/.local/share/containers",
    );
    let full = remote.run("plain", &format!("vm cp-box @ {} --rootless", image.display())).exits(1).error();
    assert!(full.contains("no space left on device"), "{full}");
    remote.world.ok("root", "mount -o remount,size=100m /home/plain/.local/share/containers");
    remote.run("plain", &format!("vm cp-box @ {} --rootless", image.display())).exits(0);

    remote.world.ok("root", "mv /usr/bin/podman /usr/bin/podman.away");
    let none = remote.run("deploy", &format!("vm cp-box @ {} --rootless", image.display()));
    remote.world.ok("root", "mv /usr/bin/podman.away /usr/bin/podman");
    assert_eq!(none.exit, 3, "{none}");
    assert!(none.error().contains("there is no podman") && none.error().contains("hint: install it"), "{none}");
    Ok(())
}
