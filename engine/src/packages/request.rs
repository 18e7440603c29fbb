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
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let available = ["nginx", "nginx-full", "nano", "ngircd"].map(String::from);
        assert_eq!(nearest("ngnix", &available), ["nginx"]);
        assert_eq!(nearest("zzzz", &available), Vec::<String>::new());
    }
}
