//! A plan's packages made true: what is missing, what it takes, the installation.

use charly_ir::plan::Packages;

use super::error::{Fault, PackageError};
use super::manager::Manager;
use super::runner::Sink;
use super::set::{Mark, PackageSet};
use super::simulation::Simulation;

/// Returns what is there now, after ending what an interrupted manager began.
pub fn snapshot(manager: &mut dyn Manager, sink: Sink<'_>) -> Result<PackageSet, PackageError> {
    let now = manager.snapshot()?;
    if !now.is_broken() && !manager.is_interrupted() {
        return Ok(now);
    }
    manager.repair(sink)?;
    let now = manager.snapshot()?;
    if now.is_broken() { Err(PackageError::new(Fault::Interrupted)) } else { Ok(now) }
}

/// Returns the names of a request that nothing installed stands for. Those present are never handed to a manager, which
/// might upgrade them.
pub fn missing<'a>(request: &'a Packages, now: &PackageSet) -> Vec<&'a str> {
    request.install.iter().map(String::as_str).filter(|wanted| resolve(wanted, now).is_none()).collect()
}

/// Returns the installed packages that a request wants and that are there only because something needs them.
pub fn unmarked<'a>(request: &Packages, now: &'a PackageSet) -> Vec<&'a str> {
    let present = request.install.iter().filter_map(|wanted| resolve(wanted, now));
    present.filter(|name| now.installed(name).is_some_and(|package| package.mark == Mark::Auto)).collect()
}

/// Returns what installing a request would do. A request that is there costs no program.
///
/// With a sink for its output, the indexes are fetched anew where they know too little, at most once in a run; without one,
/// nothing of the venue is touched.
pub fn simulate(
    manager: &mut dyn Manager,
    request: &Packages,
    now: &PackageSet,
    refresh: Option<Sink<'_>>,
) -> Result<Simulation, PackageError> {
    let names = missing(request, now);
    if names.is_empty() {
        return Ok(Simulation::default());
    }
    let error = match manager.simulate_install(request, &names) {
        Err(error) if matches!(error.fault, Fault::Unknown { .. } | Fault::Unmet | Fault::Offline | Fault::Stale) => {
            error
        }
        other => return other,
    };
    let Some(sink) = refresh else { return Err(with_similar(manager, error)) };
    if manager.is_fresh() {
        return Err(with_similar(manager, error));
    }
    // One repository that fails to answer must not hide what another one has.
    let refreshed = manager.refresh(sink);
    match (manager.simulate_install(request, &names), refreshed) {
        (Ok(simulation), _) => Ok(simulation),
        (Err(_), Err(why)) => Err(why),
        (Err(error), Ok(())) => Err(with_similar(manager, error)),
    }
}

/// Installs a request and marks what it names as asked for. Refuses what would remove, downgrade or bring in what is
/// excluded, though the caller's simulation has shown nothing of the kind: the indexes may have changed since.
pub fn install(
    manager: &mut dyn Manager,
    request: &Packages,
    now: &PackageSet,
    sink: Sink<'_>,
) -> Result<(), PackageError> {
    let names = missing(request, now);
    if !names.is_empty() {
        let stale = match manager.install(request, &names, &mut *sink) {
            Err(error) if matches!(error.fault, Fault::Stale) && !manager.is_fresh() => true,
            other => other.map(|()| false)?,
        };
        if stale {
            manager.refresh(&mut *sink)?;
            manager.simulate_install(request, &names)?.check(&request.exclude)?;
            manager.install(request, &names, sink)?;
        }
    }
    let unmarked = unmarked(request, now);
    if unmarked.is_empty() { Ok(()) } else { manager.set_mark(Mark::Manual, &unmarked) }
}

/// Returns the installed package that a request's word stands for; `name=version` wants that very version.
fn resolve<'a>(wanted: &str, now: &'a PackageSet) -> Option<&'a str> {
    match wanted.split_once('=') {
        None => now.resolve(wanted),
        Some((name, version)) => now.resolve(name).filter(|name| now.0[*name].version == version),
    }
}

/// Adds the names that an unknown one may have been meant for.
fn with_similar(manager: &mut dyn Manager, mut error: PackageError) -> PackageError {
    if let Fault::Unknown { names, similar } = &mut error.fault {
        for name in names.iter() {
            let prefix: String = name.chars().take(2).collect();
            // Without suggestions the error is still the error.
            let available = manager.available(&prefix).unwrap_or_default();
            similar.extend(nearest(name, &available));
        }
    }
    error
}

fn nearest(name: &str, available: &[String]) -> Vec<String> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &String)> =
        available.iter().map(|other| (strsim::osa_distance(name, other), other)).filter(|(d, _)| *d <= limit).collect();
    near.sort();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::ffi::OsStr;
    use std::io;
    use std::path::Path;
    use std::rc::Rc;

    use charly_ir::facts::PackageManager;

    use super::*;
    use crate::packages::{Runner, open};
    use crate::process::{Exit, Program, Stream};

    /// Answers from a recording: what must be asked, in order, the exit status and the output.
    #[derive(Debug, Clone, Default)]
    struct Recorded(Rc<RefCell<VecDeque<Answer>>>);

    type Answer = (&'static str, i32, &'static str);

    impl Runner for Recorded {
        fn run(&mut self, program: &Program, output: Sink<'_>) -> io::Result<Exit> {
            let said: Vec<_> = program.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let said = said.join(" ");
            let (asked, status, answer) =
                self.0.borrow_mut().pop_front().unwrap_or_else(|| panic!("unexpected: {said}"));
            assert!(said.ends_with(asked), "`{said}` is not `{asked}`");
            assert_eq!(program.env[OsStr::new("DEBIAN_FRONTEND")], "noninteractive");
            output(Stream::Stdout, answer.as_bytes());
            Ok(Exit::Status(status))
        }
    }

    fn apt(recording: &[Answer]) -> (Box<dyn Manager>, Recorded, Packages) {
        let recorded = Recorded(Rc::new(RefCell::new(recording.iter().copied().collect())));
        let request = Packages {
            manager: PackageManager::Apt,
            install: vec!["nginx".into()],
            exclude: vec![],
            options: vec![],
            modules: vec![],
            files: vec![],
        };
        (open(PackageManager::Apt, Path::new("/"), Box::new(recorded.clone())), recorded, request)
    }

    const UNKNOWN: &str = "E: Unable to locate package nginx\n";
    const COMES: &str = "Inst nginx (1.26 Debian:13/stable [amd64])\n";
    const GONE: &str = "E: Failed to fetch x.deb  404  Not Found\n";

    #[test]
    fn indexes_are_refreshed_once_and_only_where_they_know_too_little() {
        let (mut apt, recorded, request) = apt(&[
            ("-s --no-install-recommends -s install -- nginx", 100, UNKNOWN),
            ("update", 0, ""),
            ("install -- nginx", 0, COMES),
            ("install -- nginx", 100, UNKNOWN),
            ("apt-cache pkgnames -- ng", 0, "nginx-full\nngnix\n"),
        ]);
        let now = PackageSet::default();
        let simulation = simulate(&mut *apt, &request, &now, Some(&mut |_, _| {})).unwrap();
        assert_eq!(simulation.installs.keys().collect::<Vec<_>>(), ["nginx"]);
        let error = simulate(&mut *apt, &request, &now, Some(&mut |_, _| {})).unwrap_err();
        assert!(matches!(&error.fault, Fault::Unknown { similar, .. } if similar == &["ngnix"]), "{error:?}");
        assert!(recorded.0.borrow().is_empty());
    }

    #[test]
    fn what_is_gone_from_the_mirror_is_looked_up_anew_and_judged_again() {
        let install = "--no-remove install -- nginx";
        let (mut manager, recorded, request) =
            apt(&[(install, 100, GONE), ("update", 0, ""), ("-s install -- nginx", 0, COMES), (install, 0, "")]);
        install_quietly(&mut *manager, &request).unwrap();
        assert!(recorded.0.borrow().is_empty());

        let removes = "Remv apache2 [2.4]\nInst nginx (1.26 x [amd64])\n";
        let (mut manager, recorded, request) =
            apt(&[(install, 100, GONE), ("update", 0, ""), ("-s install -- nginx", 0, removes)]);
        let error = install_quietly(&mut *manager, &request).unwrap_err();
        assert_eq!(error.to_string(), "`apache2` would have to be removed");
        assert!(recorded.0.borrow().is_empty());

        let (mut manager, _, request) =
            apt(&[(install, 100, GONE), ("update", 0, ""), ("-s install -- nginx", 0, COMES), (install, 100, GONE)]);
        assert!(matches!(install_quietly(&mut *manager, &request).unwrap_err().fault, Fault::Stale));
    }

    #[test]
    fn built_packages_are_installed_from_their_files() {
        let file = "/var/cache/charly/aur/c/tool-1-1-any.pkg.tar.zst";
        let recording = [
            (
                "pacman -U --needed --print --print-format %n %v /var/cache/charly/aur/c/tool-1-1-any.pkg.tar.zst",
                0,
                "tool 1-1\n",
            ),
            ("pacman -Q", 0, "glibc 2-1\n"),
            (
                "pacman -U --asdeps --needed --noconfirm --noprogressbar /var/cache/charly/aur/c/tool-1-1-any.pkg.tar.zst",
                0,
                "",
            ),
            ("pacman -D --asexplicit -- tool", 0, ""),
        ];
        let recorded = Recorded(Rc::new(RefCell::new(recording.into_iter().collect())));
        let mut pacman = open(PackageManager::Pacman, Path::new("/"), Box::new(recorded.clone()));
        let request = Packages {
            manager: PackageManager::Pacman,
            install: vec!["tool".into()],
            exclude: vec![],
            options: vec![],
            modules: vec![],
            files: vec![file.into()],
        };
        let simulation = simulate(&mut *pacman, &request, &PackageSet::default(), None).unwrap();
        assert_eq!(simulation.installs.keys().collect::<Vec<_>>(), ["tool"]);
        install_quietly(&mut *pacman, &request).unwrap();
        assert!(recorded.0.borrow().is_empty());
    }

    fn install_quietly(manager: &mut dyn Manager, request: &Packages) -> Result<(), PackageError> {
        install(manager, request, &PackageSet::default(), &mut |_, _| {})
    }

    #[test]
    fn options_cannot_undo_what_is_promised() {
        for option in ["--allow-downgrades", "-oDPkg::Options::=x", "--purge", "install"] {
            let (mut manager, _, request) = apt(&[]);
            let request = Packages { options: vec![option.into()], ..request };
            let error = install_quietly(&mut *manager, &request).unwrap_err();
            assert!(matches!(error.fault, Fault::BadOption(_)), "{option}");
        }
    }

    #[test]
    fn the_nearest_names_come_first() {
        let available = ["nginx", "nginx-full", "nano", "ngircd"].map(String::from);
        assert_eq!(nearest("ngnix", &available), ["nginx"]);
        assert_eq!(nearest("zzzz", &available), Vec::<String>::new());
    }
}
