//! The candies in the program.

use charly_ir::plan::Action;
use charly_plans::compile::{Options, compile};
use charly_plans::load::{Origin, Settings, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::SidecarGate;

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

/// What a pod finds without any project, and with one that names an image of its own.
#[test]
fn the_sidecar_for_skills_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
    let load = || {
        let (workspace, found) = Workspace::load(&settings);
        assert!(found.is_empty(), "{}", found.render(false));
        workspace.sidecars()["skill"].value.clone()
    };
    let skill = load();
    assert!(skill.image.is_some_and(|image| image.value.contains("/charly-skill:")));
    assert_eq!(skill.gate, Some(SidecarGate::Healthy));
    let [secret] = &skill.secret[..] else { panic!("one secret") };
    assert_eq!(secret.env.as_ref().map(|env| env.value.as_str()), Some("SKILL_TOKEN"));

    let project = "sidecar:\n  skill:\n    image: registry.example/skill-gh:1\n";
    std::fs::write(folder.path().join("charly.yml"), project).unwrap();
    let skill = load();
    assert_eq!(skill.image.map(|image| image.value).as_deref(), Some("registry.example/skill-gh:1"));
    assert_eq!(skill.secret.len(), 1, "what the project does not say stays");
}
