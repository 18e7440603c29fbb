//! dnf and rpm on a home-made repository.

use std::fs;
use std::path::Path;

use charly_engine::packages::{Fault, Mark};
use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

use crate::venue::{Venue, can_run, run};

/// Packages by name, version and the lines of their recipe that say what they are to others.
const PACKAGES: [(&str, &str, &str); 7] = [
    ("base-tool", "1", ""),
    ("libdep", "1", "Provides: cap(dep) = 1\n"),
    ("app", "1.20", "Requires: cap(dep)\nRecommends: plugin\n"),
    ("extra", "1", ""),
    ("server", "1", "Requires: libdep\nRequires: base-tool\nRequires: /etc/base-tool/base-tool.conf\n"),
    ("plugin", "1", "Requires: libdep >= 2\n"),
    ("rival", "1", "Conflicts: server\n"),
];

fn venue(test: &str) -> Option<Venue> {
    if !can_run(test, &["dnf", "rpmbuild", "createrepo_c"]) {
        return None;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (work, root) = (folder.path().join("work"), folder.path().join("root"));
    fs::create_dir_all(&work).unwrap();
    for (name, version, lines) in PACKAGES {
        build(&work, name, version, lines);
    }
    publish(&work);
    for path in ["etc/dnf", "etc/yum.repos.d"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("etc/dnf/dnf.conf"), "[main]\ngpgcheck=0\n").unwrap();
    let repo = format!("[home]\nname=home\nbaseurl=file://{}/repo\n", work.display());
    fs::write(root.join("etc/yum.repos.d/home.repo"), repo).unwrap();
    let installroot = format!("--installroot={}", root.display());
    run("dnf", &["-q", "-y", &installroot, "install", "extra"]);
    Some(Venue::new(PackageManager::Dnf, folder))
}

fn build(work: &Path, name: &str, version: &str, lines: &str) {
    let spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n{lines}\
         %description\nx\n%install\nmkdir -p %{{buildroot}}/etc/{name} %{{buildroot}}/usr/share/{name}\n\
         echo {version} > %{{buildroot}}/usr/share/{name}/data\necho conf > %{{buildroot}}/etc/{name}/{name}.conf\n\
         %files\n%dir /usr/share/{name}\n/usr/share/{name}/data\n%dir /etc/{name}\n%config(noreplace) /etc/{name}/{name}.conf\n"
    );
    let path = work.join(format!("{name}.spec"));
    fs::write(&path, spec).unwrap();
    let define = |name: &str, folder: &str| format!("{name} {}", work.join(folder).display());
    let (top, rpms) = (define("_topdir", "top"), define("_rpmdir", "repo"));
    run("rpmbuild", &["-bb", "--quiet", "--define", &top, "--define", &rpms, path.to_str().unwrap()]);
}

fn publish(work: &Path) {
    run("createrepo_c", &["-q", work.join("repo").to_str().unwrap()]);
}

#[test]
fn claims_come_and_go() {
    let Some(mut venue) = venue("dnf::claims_come_and_go") else { return };
    let first = venue.add(&["base-tool"]).unwrap();
    let before = venue.picture();
    let mut app = venue.add(&["app"]).unwrap();
    assert_eq!(app.installed.keys().collect::<Vec<_>>(), ["app", "libdep"]);
    let mut server = venue.add(&["server", "libdep"]).unwrap();
    assert_eq!(server.installed.keys().collect::<Vec<_>>(), ["server"]);
    assert_eq!(server.marked.iter().collect::<Vec<_>>(), ["libdep"]);

    // What the second claim wants passes to it, and nothing of the first stays.
    venue.release(&app, &mut [&mut server], false);
    assert_eq!(venue.snapshot().installed_names().collect::<Vec<_>>(), ["base-tool", "extra", "libdep", "server"]);
    assert!(server.installed.contains_key("libdep") && server.marked.is_empty());
    // The other way round, the mark goes back.
    app = venue.add(&["app"]).unwrap();
    assert_eq!(app.installed.keys().collect::<Vec<_>>(), ["app"]);
    venue.release(&server, &mut [&mut app], false);
    assert_eq!(venue.snapshot().0["libdep"].mark, Mark::Auto);
    fs::write(venue.root().join("etc/app/app.conf"), "mine").unwrap();
    let (_, torn) = venue.release(&app, &mut [], true);
    assert_eq!(torn.kept, []);
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());

    // A package by hand needs the first claim's.
    let server = venue.add(&["server"]).unwrap();
    let (_, torn) = venue.release(&first, &mut [], false);
    assert_eq!(torn.kept.iter().map(|kept| kept.subject.as_str()).collect::<Vec<_>>(), ["base-tool"]);
    venue.release(&server, &mut [], false);
}

#[test]
fn edits_stay_and_conflicts_are_refused() {
    let Some(mut venue) = venue("dnf::edits_stay_and_conflicts_are_refused") else { return };
    let before = venue.picture();
    let tx = venue.add(&["server"]).unwrap();
    fs::write(venue.root().join("etc/server/server.conf"), "mine").unwrap();
    assert!(matches!(venue.add(&["rival"]).unwrap_err().fault, Fault::Unmet));
    assert!(matches!(venue.add(&["plugin"]).unwrap_err().fault, Fault::Unmet));
    let error = venue.add(&["sever"]).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.problem().hint.as_deref()),
        ("no repository has `sever`", Some("did you mean `server`?"))
    );

    // What is there is not upgraded by the way; what must be is said to be.
    let work = venue.root().parent().unwrap().join("work");
    build(&work, "server", "2", "Requires: libdep\nRequires: /etc/base-tool/base-tool.conf\n");
    build(&work, "libdep", "2", "Provides: cap(dep) = 2\n");
    build(&work, "heir", "1", "Obsoletes: server\n");
    publish(&work);
    venue.manager.mark_stale();
    venue.manager.refresh(&mut |_, _| {}).unwrap();
    assert_eq!(venue.add(&["heir"]).unwrap_err().to_string(), "`server` would have to be removed");
    let plugin = venue.add(&["plugin", "server"]).unwrap();
    let pair = ("1-1".to_owned(), "2-1".to_owned());
    assert_eq!(plugin.upgraded.iter().collect::<Vec<_>>(), [(&"libdep".to_owned(), &pair)]);
    assert_eq!(venue.snapshot().0["server"].version, "1-1");
    venue.release(&plugin, &mut [], false);

    let (_, torn) = venue.release(&tx, &mut [], false);
    assert_eq!(
        torn.kept.iter().map(|kept| kept.subject.as_str()).collect::<Vec<_>>(),
        ["/etc/server/server.conf.rpmsave"]
    );
    let left = before.differences(&venue.picture());
    assert_eq!(left, ["left: /etc/server", "left: /etc/server/server.conf.rpmsave"]);
}

#[test]
fn a_package_comes_from_its_address() {
    let Some(mut venue) = venue("dnf::a_package_comes_from_its_address") else { return };
    let before = venue.picture();
    let work = venue.root().parent().unwrap().join("work");
    build(&work, "some-release", "42", "Requires: base-tool\n");
    let url = format!("file://{}/repo/noarch/some-release-42-1.noarch.rpm", work.display());
    let request = Packages { files: vec![url], ..venue.request(&["some-release"]) };
    let tx = venue.install(&request).unwrap();
    assert_eq!(tx.installed.keys().collect::<Vec<_>>(), ["base-tool", "some-release"]);
    assert_eq!(venue.snapshot().0["some-release"].mark, Mark::Manual);
    let again = venue.install(&request).unwrap();
    assert!(again.installed.is_empty());
    venue.release(&again, &mut [], false);
    venue.release(&tx, &mut [], false);
    assert_eq!(before.differences(&venue.picture()), Vec::<String>::new());
}
