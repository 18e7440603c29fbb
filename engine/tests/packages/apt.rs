//! apt in a minimal Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use charly_engine::packages::{self, Fault, Mark, State};
use charly_ir::facts::PackageManager;

use crate::venue::{Venue, can_run, run};

/// Makes a root with fresh indexes, once, and unpacks a copy.
fn venue(test: &str) -> Option<Venue> {
    static IMAGE: LazyLock<Mutex<PathBuf>> =
        LazyLock::new(|| Mutex::new(PathBuf::from("/var/tmp/charly-lab/packages/trixie.tar")));
    if !can_run(test, &["mmdebstrap", "chroot", "tar"]) {
        return None;
    }
    let image = IMAGE.lock().unwrap();
    if !image.exists() {
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        let part = image.with_extension("part.tar");
        let mirror = std::env::var("GUEST_MIRROR").ok();
        let mut arguments = vec!["--quiet", "--variant=minbase", "--format=tar", "trixie", part.to_str().unwrap()];
        arguments.extend(mirror.as_deref());
        run("mmdebstrap", &arguments);
        fs::rename(&part, &*image).unwrap();
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    run("tar", &["-C", root.to_str().unwrap(), "-xf", image.to_str().unwrap()]);
    // Nothing is started in a root that does not run.
    let policy = root.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)).unwrap();
    Some(Venue::new(PackageManager::Apt, folder))
}

#[test]
fn servers_leave_nothing() {
    for name in ["nginx", "postgresql"] {
        let Some(mut venue) = venue("servers_leave_nothing") else { return };
        // A script of a package that postgresql needs deletes this one, whoever made it.
        std::os::unix::fs::symlink("../locale.conf", venue.root().join("etc/default/locale")).unwrap();
        let before = venue.picture();
        let tx = venue.add(&[name]).unwrap_or_else(|error| panic!("{error}\n{}", error.evidence));
        assert_ne!(before.differences(&venue.picture()), Vec::<String>::new());
        let (_, torn) = venue.release(&tx, &mut [], false);
        assert_eq!(torn.kept, [], "{}", venue.log);
        assert_eq!(before.differences(&venue.picture()), Vec::<String>::new(), "{}", venue.log);
    }
}

#[test]
fn the_first_of_two_leaves_the_second() {
    // They share most of what they need.
    let (Some(mut both), Some(mut alone)) = (venue("the_first_of_two"), venue("the_first_of_two")) else { return };
    let before = both.picture();
    let first = both.add(&["redis-server"]).unwrap();
    let mut second = both.add(&["valkey-server", "liblzf1"]).unwrap();
    assert!(!second.installed.contains_key("libjemalloc2"));
    both.release(&first, &mut [&mut second], false);
    let only = alone.add(&["valkey-server", "liblzf1"]).unwrap();
    // Users get the next free number, and the first claim had taken one.
    let numbered = |line: &String| {
        !line.contains("valkey")
            && !["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"].iter().any(|file| line.ends_with(file))
    };
    let differences = alone.picture().differences(&both.picture());
    assert_eq!(differences.into_iter().filter(numbered).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!((&second.wanted, &second.installed, &second.users), (&only.wanted, &only.installed, &only.users));
    both.release(&second, &mut [], false);
    assert_eq!(before.differences(&both.picture()), Vec::<String>::new());
}

#[test]
fn data_and_edits_stay_until_they_are_purged() {
    let Some(mut venue) = venue("data_and_edits_stay") else { return };
    let before = venue.picture();
    let tx = venue.add(&["redis-server"]).unwrap();
    let root = venue.root();
    let (data, conf) = (root.join("var/lib/redis/dump.rdb"), root.join("etc/redis/redis.conf"));
    fs::write(&data, "precious").unwrap();
    fs::write(&conf, "bind 127.0.0.1\n").unwrap();
    fs::write(root.join("var/log/redis/redis-server.log"), "started\n").unwrap();
    let (_, torn) = venue.release(&tx, &mut [], false);
    let kept: Vec<&str> = torn.kept.iter().map(|kept| kept.subject.as_str()).collect();
    assert_eq!(kept, ["/etc/redis/redis.conf", "/var/lib/redis", "user redis", "group redis"]);
    assert_eq!(fs::read_to_string(&data).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&conf).unwrap(), "bind 127.0.0.1\n");
    let now = venue.snapshot();
    assert_eq!(now.0["redis-server"].state, State::Residual);
    assert!(!now.0.contains_key("libjemalloc2"));
    let rest = torn.remainder.unwrap();
    assert!(rest.wanted.is_empty() && rest.installed.contains_key("redis-server"), "{rest:?}");
    assert!(!rest.installed.contains_key("libjemalloc2"), "{rest:?}");

    // Added again it answers for what it left then, too.
    let mut again = venue.add(&["redis-server"]).unwrap();
    again.absorb(&rest, &mut *venue.manager).unwrap();
    let (_, torn) = venue.release(&again, &mut [], false);
    let kept: Vec<&str> = torn.kept.iter().map(|kept| kept.subject.as_str()).collect();
    assert_eq!(kept, ["/etc/redis/redis.conf", "/var/lib/redis", "user redis", "group redis"]);
    let rest = torn.remainder.unwrap();

    // What somebody installs by hand meanwhile is theirs, and so is its data.
    let inside = |arguments: &[&str]| {
        run("chroot", &[&[root.to_str().unwrap(), "env", "DEBIAN_FRONTEND=noninteractive"], arguments].concat());
    };
    inside(&["apt-get", "-qq", "install", "redis-server"]);
    let (_, torn) = venue.release(&rest, &mut [], true);
    assert!(torn.removed.is_empty() && torn.remainder.is_some(), "{torn:?}");
    assert_eq!(fs::read_to_string(&data).unwrap(), "precious");
    inside(&["apt-get", "-qq", "remove", "--autoremove", "redis-server"]);
    // Not among what goes by itself: apt needs it, or something else that is there.
    inside(&["apt-get", "-qq", "purge", "adduser"]);

    let (_, torn) = venue.release(&rest, &mut [], true);
    assert_eq!((torn.kept, torn.remainder), (vec![], None));
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}

#[test]
fn a_databases_data_and_configuration_stay_together() {
    let Some(mut venue) = venue("a_databases_data_and_configuration_stay_together") else { return };
    let before = venue.picture();
    let tx = venue.add(&["postgresql"]).unwrap();
    let root = venue.root();
    let version = fs::read_dir(root.join("etc/postgresql")).unwrap().next().unwrap().unwrap().file_name();
    let of = |folder: &str| root.join(folder).join(&version).join("main");
    fs::write(of("var/lib/postgresql").join("base/1/16384"), "a table").unwrap();
    let (_, torn) = venue.release(&tx, &mut [], false);
    let kept: Vec<&str> = torn.kept.iter().map(|kept| kept.subject.as_str()).collect();
    assert_eq!(kept, ["/var/lib/postgresql", "user postgres", "group postgres", "group ssl-cert"]);
    // Without that group the server could not read its certificate's key, and would not start again.
    let groups = fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(groups.lines().any(|line| line.starts_with("ssl-cert:") && line.ends_with(":postgres")), "{groups}");
    assert!(of("var/lib/postgresql").join("base/1/16384").exists());
    assert!(of("etc/postgresql").join("postgresql.conf").exists());
    let (_, torn) = venue.release(&tx, &mut [], true);
    assert_eq!(torn.kept, []);
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}

#[test]
fn what_was_there_is_put_back_as_it_was() {
    let Some(mut venue) = venue("what_was_there_is_put_back") else { return };
    let root = venue.root();
    let inside = |arguments: &[&str]| {
        run("chroot", &[&[root.to_str().unwrap(), "env", "DEBIAN_FRONTEND=noninteractive"], arguments].concat());
    };
    // Residual configuration, a package that is there automatically, and one that was left half-way.
    venue.add(&["redis-server", "libatomic1"]).unwrap();
    inside(&["apt-get", "-qq", "remove", "redis-server"]);
    inside(&["apt-mark", "-qq", "auto", "libatomic1"]);
    inside(&["sh", "-c", "cd /tmp && apt-get -qq download jq libjq1 libonig5 && dpkg --unpack *.deb"]);
    assert!(venue.manager.snapshot().unwrap().is_broken());
    let now = venue.snapshot();
    assert!(now.installed("jq").is_some_and(|package| package.state == State::Installed), "{}", venue.log);

    let before = venue.picture();
    let tx = venue.add(&["redis-server", "libatomic1", "jq"]).unwrap();
    assert_eq!(tx.installed.keys().collect::<Vec<_>>(), ["redis-server"]);
    assert_eq!(tx.marked.iter().collect::<Vec<_>>(), ["libatomic1"]);
    assert_eq!(venue.snapshot().0["libatomic1"].mark, Mark::Manual);
    let again = venue.add(&["redis-server", "libatomic1", "jq"]).unwrap();
    assert!(again.installed.is_empty() && again.marked.is_empty() && again.paths.is_empty());
    venue.release(&tx, &mut [], false);
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}

#[test]
fn refusals_say_what_to_do() {
    let Some(mut venue) = venue("refusals_say_what_to_do") else { return };
    // A fresh root has no indexes, and a dry run fetches none.
    let (now, request) = (venue.snapshot(), venue.request(&["ngnix"]));
    let error = packages::simulate(&mut *venue.manager, &request, &now, None).unwrap_err();
    assert_eq!(
        error.problem().hint.unwrap(),
        "look the name up on this distribution, or add the repository that has it to the candy"
    );
    assert!(!venue.manager.is_fresh());
    let error = venue.add(&["ngnix"]).unwrap_err();
    assert!(matches!(&error.fault, Fault::Unknown { names, .. } if names == &["ngnix"]));
    assert_eq!(error.to_string(), "no repository has `ngnix`");
    assert_eq!(error.problem().hint.as_deref(), Some("did you mean `nginx`?"));
    // dma and msmtp-mta are both the one mail transport agent.
    venue.add(&["dma"]).unwrap();
    let before = venue.picture();
    assert_eq!(venue.add(&["msmtp-mta"]).unwrap_err().to_string(), "`dma` would have to be removed");
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}
