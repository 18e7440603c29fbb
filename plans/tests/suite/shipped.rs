//! The candies in the program.

use charly_ir::plan::Action;
use charly_plans::compile::{Options, compile};
use charly_plans::load::{Origin, Settings, Workspace};
use charly_plans::resolve::LayerRef;

use crate::venues::distributions;

#[test]
fn every_shipped_candy_compiles_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
    let (mut workspace, found) = Workspace::load(&settings);
    assert!(found.is_empty(), "{}", found.render(false));
    let names: Vec<_> = workspace.candies().into_keys().collect();
    assert!(names.iter().any(|name| name == "hello"));
    for facts in distributions() {
        for name in &names {
            let resolved = workspace.resolve(&[LayerRef::parse(name).unwrap()]).unwrap();
            assert!(resolved.candies.iter().all(|candy| candy.loaded.origin == Origin::Shipped));
            let compiled = compile(&resolved, &facts, &Options::default());
            let compiled = compiled.unwrap_or_else(|found| panic!("{}: {}", facts.os.tag(), found.render(false)));
            assert!(compiled.warnings.is_empty(), "{}", compiled.warnings.render(false));
            for (_, step) in compiled.plan.steps() {
                if let Action::Op(charly_ir::plan::Op::Command(command)) = &step.action {
                    let undo = !command.uninstall.is_empty() || !command.creates.is_empty();
                    assert!(undo, "{name}: `{}` says nothing about what it makes", step.title);
                }
            }
        }
    }
}
