//! What deploys say of the machine they are on.

use charly_plans::diagnostic::Diagnostic;
use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::source::Place;
use charly_target_vm::machine::deployed::Ephemeral;
use charly_target_vm::machine::{Disposition, Name};

use crate::exit::Failure;

/// Returns what the project says of a machine; `None` where no deploy of it is on that machine.
///
/// Where several are, the machine goes only when all of them let it.
pub(crate) fn declared(workspace: &Workspace, name: &Name) -> Result<Option<Disposition>, Failure> {
    let on_it = workspace.deploys().iter().filter(|(_, entry)| {
        entry.deploy.vm.as_ref().is_some_and(|vm| super::name(&vm.value).is_ok_and(|vm| vm == *name))
    });
    let mut all: Option<Disposition> = None;
    for (called, entry) in on_it {
        let one = of(called, entry)?;
        all = Some(all.map_or_else(|| one.clone(), |all| all.and(&one)));
    }
    Ok(all)
}

fn of(called: &str, DeployEntry { deploy, place, .. }: &DeployEntry) -> Result<Disposition, Failure> {
    let Some(ephemeral) = &deploy.ephemeral else {
        return Ok(Disposition { disposable: deploy.disposable, ephemeral: None });
    };
    if let Some(pattern) = &ephemeral.naming_pattern {
        let place = Place { source: place.source.clone(), span: pattern.span };
        let what = format!("`{called}` has a `naming_pattern`, and a machine has one instance alone");
        return Err(Diagnostic::error(what)
            .at(place)
            .hint("leave it out, and call each machine by a name of its own")
            .into());
    }
    let ttl = ephemeral.ttl.map(|ttl| ttl.as_seconds().into());
    Ok(Disposition {
        disposable: deploy.disposable,
        ephemeral: Some(Ephemeral { ttl, keep_on_failure: ephemeral.keep_on_failure }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_plans::load::Settings;

    fn said(deploys: &str) -> Result<Option<Disposition>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("charly.yml"), format!("deploy:\n{deploys}")).unwrap();
        let settings = Settings { folder: folder.path().into(), ..Settings::default() };
        let (workspace, found) = Workspace::load(&settings);
        assert!(found.is_empty(), "{found}");
        declared(&workspace, &"demo".parse().unwrap())
    }

    #[test]
    fn a_machine_goes_only_when_all_deploys_on_it_let_it() {
        let lives = |ttl, keep_on_failure| Some(Ephemeral { ttl, keep_on_failure });
        let is = |disposable, ephemeral| Some(Disposition { disposable, ephemeral });
        for (deploys, want) in [
            ("  local: {}\n  other: {vm: other, disposable: true}\n", None),
            ("  ci: {vm: demo}\n", is(false, None)),
            ("  ci: {vm: demo, disposable: true}\n", is(true, None)),
            ("  ci: {vm: demo, ephemeral: {ttl: 2h}}\n", is(false, lives(Some(7200), false))),
            ("  ci: {vm: demo, ephemeral: {}}\n", is(false, lives(None, false))),
            ("  a: {vm: demo, disposable: true}\n  b: {vm: demo}\n", is(false, None)),
            ("  a: {vm: demo, disposable: true}\n  b: {vm: demo, ephemeral: {ttl: 1h}}\n", is(true, None)),
            (
                "  a: {vm: demo, ephemeral: {ttl: 1h, keep_on_failure: true}}\n  b: {vm: demo, ephemeral: {ttl: 2h}}\n",
                is(true, lives(Some(7200), true)),
            ),
        ] {
            assert_eq!(said(deploys).unwrap(), want, "{deploys}");
        }
        assert!(said("  ci: {vm: demo, ephemeral: {naming_pattern: x}}\n").is_err());
    }
}
