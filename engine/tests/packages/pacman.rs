//! pacman on a home-made repository.

use std::fs;
use std::path::Path;

use charly_engine::packages::{Fault, Mark};
use charly_ir::facts::PackageManager;

use crate::venue::{Venue, can_run, run};

/// Packages by name, version and the lines that say what they are to others.
const PACKAGES: [(&str, &str, &str); 6] = [
    ("base-tool", "1", ""),
    ("libdep", "1", "provides = cap=1\n"),
    ("app", "1.20", "depend = cap\n"),
    ("server", "1", "depend = libdep>=1\ndepend = base-tool\n"),
    ("plugin", "1", "depend = libdep>=2\n"),
    ("rival", "1", "conflict = server\n"),
];

fn venue(test: &str) -> Option<Venue> {
    if !can_run(test, &["pacman", "bsdtar", "repo-add"]) {
        return None;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path().join("root");
    for path in ["etc", "repo", "var/lib/pacman", "var/cache/pacman/pkg", "var/log"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for (name, version, lines) in PACKAGES {
        build(&root, name, version, lines);
    }
    // Paths are those of the root.
    let conf = "[options]\nArchitecture = auto\nSigLevel = Never\n[home]\nServer = file:///repo\n";
    fs::write(root.join("etc/pacman.conf"), conf).unwrap();
    run("pacman", &["--sysroot", root.to_str().unwrap(), "-Sy", "--noconfirm", "base-tool"]);
    Some(Venue::new(PackageManager::Pacman, folder))
}

fn build(root: &Path, name: &str, version: &str, lines: &str) {
    let repo = root.join("repo");
    let work = tempfile::tempdir().unwrap();
    for folder in ["etc", "usr/share"] {
        fs::create_dir_all(work.path().join(folder).join(name)).unwrap();
    }
    fs::write(work.path().join("usr/share").join(name).join("data"), version).unwrap();
    fs::write(work.path().join("etc").join(name).join("conf"), "conf\n").unwrap();
    let info = format!(
        "pkgname = {name}\npkgbase = {name}\npkgver = {version}-1\npkgdesc = x\nurl = x\nbuilddate = 1\npackager = x\nsize = 10\narch = any\n{lines}backup = etc/{name}/conf\n"
    );
    fs::write(work.path().join(".PKGINFO"), info).unwrap();
    let package = repo.join(format!("{name}-{version}-1-any.pkg.tar.gz"));
    let work = work.path().to_str().unwrap();
    run("bsdtar", &["-C", work, "-czf", package.to_str().unwrap(), ".PKGINFO", "etc", "usr"]);
    run("repo-add", &["-q", repo.join("home.db.tar.gz").to_str().unwrap(), package.to_str().unwrap()]);
}

#[test]
fn claims_come_and_go() {
    let Some(mut venue) = venue("pacman::claims_come_and_go") else { return };
    let before = venue.picture();
    let mut app = venue.add(&["app"]).unwrap();
    assert_eq!(app.installed.keys().collect::<Vec<_>>(), ["app", "libdep"]);
    let mut server = venue.add(&["server", "libdep"]).unwrap();
    assert_eq!(server.installed.keys().collect::<Vec<_>>(), ["server"]);
    assert_eq!(server.marked.iter().collect::<Vec<_>>(), ["libdep"]);
    venue.release(&app, &mut [&mut server], false);
    assert_eq!(venue.snapshot().installed_names().collect::<Vec<_>>(), ["base-tool", "libdep", "server"]);
    app = venue.add(&["app"]).unwrap();
    venue.release(&server, &mut [&mut app], false);
    assert_eq!(venue.snapshot().0["libdep"].mark, Mark::Auto);
    fs::write(venue.root().join("etc/app/conf"), "mine").unwrap();
    let (_, torn) = venue.release(&app, &mut [], true);
    assert_eq!(torn.kept, []);
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}

#[test]
fn edits_stay_and_conflicts_are_refused() {
    let Some(mut venue) = venue("pacman::edits_stay_and_conflicts_are_refused") else { return };
    let before = venue.picture();
    let tx = venue.add(&["server"]).unwrap();
    fs::write(venue.root().join("etc/server/conf"), "mine").unwrap();
    assert_eq!(venue.add(&["rival"]).unwrap_err().to_string(), "`server` would have to be removed");
    assert!(matches!(venue.add(&["plugin"]).unwrap_err().fault, Fault::Unmet));
    let error = venue.add(&["sever"]).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.problem().hint.as_deref()),
        ("no repository has `sever`", Some("did you mean `server`?"))
    );

    build(&venue.root(), "libdep", "2", "provides = cap=2\n");
    venue.manager.mark_stale();
    let plugin = venue.add(&["plugin"]).unwrap();
    let pair = ("1-1".to_owned(), "2-1".to_owned());
    assert_eq!(plugin.upgraded.iter().collect::<Vec<_>>(), [(&"libdep".to_owned(), &pair)]);
    venue.release(&plugin, &mut [], false);

    // A pacman that was killed leaves its lock behind.
    fs::write(venue.root().join("var/lib/pacman/db.lck"), "4194305").unwrap();
    let (_, torn) = venue.release(&tx, &mut [], false);
    assert_eq!(torn.kept.iter().map(|kept| kept.subject.as_str()).collect::<Vec<_>>(), ["/etc/server/conf.pacsave"]);
    assert_eq!(before.differences(&venue.picture()), ["left: /etc/server", "left: /etc/server/conf.pacsave"]);
}
