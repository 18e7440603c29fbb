//! A root with a package manager, and what can be compared about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use charly_engine::packages::{
    self, Before, Manager, Mark, PackageError, PackageSet, Processes, ReleasePlan, State, Teardown, Torn, Transaction,
};
use charly_engine::process::Stream;
use charly_ir::digest::Digest;
use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

/// A root that is gone when the test ends.
pub(crate) struct Venue {
    folder: tempfile::TempDir,
    pub(crate) manager: Box<dyn Manager>,
    /// What the manager said, for a test that fails.
    pub(crate) log: String,
}

impl Venue {
    /// Opens the manager of a folder's `root`.
    pub(crate) fn new(kind: PackageManager, folder: tempfile::TempDir) -> Self {
        let manager = packages::open(kind, &folder.path().join("root"), Box::new(Processes));
        Self { folder, manager, log: String::new() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn request(&self, names: &[&str]) -> Packages {
        Packages {
            manager: self.manager.kind(),
            install: names.iter().map(ToString::to_string).collect(),
            exclude: vec![],
            options: vec![],
            modules: vec![],
            files: vec![],
        }
    }

    pub(crate) fn snapshot(&mut self) -> PackageSet {
        let log = &mut self.log;
        packages::snapshot(&mut *self.manager, &mut |_, bytes| log.push_str(&String::from_utf8_lossy(bytes))).unwrap()
    }

    /// Adds packages as the engine does, the journal's round trip included.
    pub(crate) fn add(&mut self, names: &[&str]) -> Result<Transaction, PackageError> {
        let request = self.request(names);
        self.install(&request)
    }

    /// Adds what a request asks for, as [`Self::add`] does.
    pub(crate) fn install(&mut self, request: &Packages) -> Result<Transaction, PackageError> {
        let root = self.root();
        let now = self.snapshot();
        let log = &mut self.log;
        let mut sink = |_: Stream, bytes: &[u8]| log.push_str(&String::from_utf8_lossy(bytes));
        let simulation = packages::simulate(&mut *self.manager, request, &now, Some(&mut sink))?;
        simulation.check(&request.exclude)?;
        let before = Before::take(&root, request, &now, &simulation)?;
        let journaled = serde_json::to_string(&before).unwrap();
        packages::install(&mut *self.manager, request, &now, &mut sink)?;
        let now = self.snapshot();
        let before: Before = serde_json::from_str(&journaled).unwrap();
        let tx = before.finish(&mut *self.manager, &root, &now)?;
        let text = serde_json::to_string(&tx).unwrap();
        eprintln!(
            "{:?}: {} packages, {} paths, users {:?}; journaled {} bytes before, {} after",
            request.install,
            tx.installed.len(),
            tx.paths.len(),
            tx.users,
            journaled.len(),
            text.len()
        );
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// Ends a claim beside others.
    pub(crate) fn release(
        &mut self,
        tx: &Transaction,
        others: &mut [&mut Transaction],
        purge: bool,
    ) -> (ReleasePlan, Torn) {
        let root = self.root();
        let now = self.snapshot();
        let shared: Vec<&Transaction> = others.iter().map(|other| &**other).collect();
        let plan = packages::plan_release(tx, &shared, &now);
        let claimed = BTreeSet::new();
        let teardown = Teardown { root: &root, tx, plan: &plan, others: &shared, claimed: &claimed };
        let survey = teardown.survey(&mut *self.manager).unwrap();
        let log = &mut self.log;
        let torn = teardown
            .run(&mut *self.manager, &now, &survey, purge, &mut |_, bytes| {
                log.push_str(&String::from_utf8_lossy(bytes));
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", error.evidence));
        for (place, other) in others.iter_mut().enumerate() {
            other.inherit(tx, &torn.transfers, place);
        }
        (plan, torn)
    }

    /// Takes everything that a release must put back.
    pub(crate) fn picture(&mut self) -> Picture {
        let packages = self.snapshot().0.into_iter();
        let packages = packages.map(|(name, package)| (name, (package.version, package.state, package.mark))).collect();
        let mut paths = BTreeMap::new();
        walk(&self.root(), Path::new(""), &mut paths);
        Picture { packages, paths }
    }
}

/// The packages and the file tree of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    packages: BTreeMap<String, (String, State, Mark)>,
    paths: BTreeMap<PathBuf, String>,
}

impl Picture {
    /// Returns where two pictures differ, one line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        fn compare<K: Ord, V: PartialEq>(
            a: &BTreeMap<K, V>,
            b: &BTreeMap<K, V>,
            show: impl Fn(&K) -> String,
            out: &mut Vec<String>,
        ) {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                match (a.get(key), b.get(key)) {
                    (Some(_), None) => out.push(format!("gone: {}", show(key))),
                    (None, Some(_)) => out.push(format!("left: {}", show(key))),
                    (a, b) if a != b => out.push(format!("differs: {}", show(key))),
                    _ => {}
                }
            }
        }
        let mut out = Vec::new();
        compare(&self.packages, &other.packages, |name| format!("package {name}"), &mut out);
        compare(&self.paths, &other.paths, |path| format!("/{}", path.display()), &mut out);
        out
    }
}

/// What may differ: logs, caches, the managers' own books, backup copies of the account files.
const MAY_DIFFER: [&str; 19] = [
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/.pwd.lock",
    "etc/ld.so.cache",
    "proc",
    "repo",
    // Where Debian's rpm keeps its database.
    "root/.rpmdb",
    "run",
    "tmp",
    "usr/lib/sysimage/rpm",
    "usr/lib/sysimage/libdnf5",
    "var/backups",
    "var/cache",
    "var/lib/apt",
    "var/lib/dnf",
    "var/lib/rpm",
    "var/log",
];

/// Within dpkg's and pacman's folders only what speaks of packages is compared, and that by their own answers.
const BOOKS: [&str; 2] = ["var/lib/dpkg", "var/lib/pacman"];

fn walk(root: &Path, path: &Path, out: &mut BTreeMap<PathBuf, String>) {
    if MAY_DIFFER.iter().chain(&BOOKS).any(|other| path == Path::new(other)) {
        return;
    }
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let what = if meta.is_symlink() {
        format!("link {}", fs::read_link(&full).unwrap().display())
    } else if meta.is_file() && path.starts_with("usr") {
        // Packages' own files; digesting them all would be most of the test's time.
        format!("file of {} bytes", meta.len())
    } else if meta.is_file() {
        format!("file {}", Digest::of_reader(fs::File::open(&full).unwrap()).unwrap().0)
    } else {
        "other".to_owned()
    };
    out.insert(path.to_owned(), format!("{what} {:o} {}:{}", meta.permissions().mode(), meta.uid(), meta.gid()));
    if meta.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            walk(root, &path.join(entry.unwrap().file_name()), out);
        }
    }
}

/// Tells whether a test can be run: as root, with these programs. Where all tests are to be run (`CHARLY_LAB=1`, which is what
/// `tests/run` sets once it has installed what they need), one that cannot be has failed.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let lacking = programs
        .iter()
        .find(|program| !Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success()));
    let why = match (is_root, lacking) {
        (false, _) => "root's rights".to_owned(),
        (_, Some(program)) => format!("`{program}`"),
        (true, None) => return true,
    };
    assert!(std::env::var_os("CHARLY_LAB").is_none_or(|lab| lab != "1"), "{test} cannot be run: it needs {why}");
    eprintln!("{test} not run: it needs {why}");
    false
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
