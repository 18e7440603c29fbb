//! Candies that users wrote, where they are present.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use charly_plans::compile::{Options, compile};
use charly_plans::load::{Settings, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::{self, Candy, Run, StepKind};
use charly_plans::source::Source;

use crate::venues::distributions;

/// Returns the corpus with its candies' names, or nothing where it is not there.
fn corpus() -> Option<Vec<(String, Arc<Source>)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/candies");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: the corpus of users' candies is not beside the project");
        return None;
    };
    let mut all: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let source = Source::from_bytes(format!("{name}.yml"), fs::read(&path).unwrap()).unwrap();
            (name, source)
        })
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Some(all)
}

#[test]
fn every_candy_loads_unchanged_and_without_a_finding() {
    for (name, source) in corpus().into_iter().flatten() {
        let (candy, found) = schema::parse_candy(&source);
        assert!(found.is_empty(), "{}", found.render(false));
        assert_eq!(candy.unwrap().name.as_str(), name);
    }
}

#[test]
fn every_candy_survives_being_written() {
    for (name, source) in corpus().into_iter().flatten() {
        let candy = schema::parse_candy(&source).0.unwrap();
        let text = written(&candy);
        let (again, found) = schema::parse_candy(&Source::new(name.as_str(), text.as_str()));
        assert!(found.is_empty(), "{}", found.render(false));
        let again = again.unwrap();
        assert_eq!(written(&again), text);
        assert!(again == candy, "{name} changed");
    }
}

fn written(candy: &Candy) -> String {
    serde_yaml::to_string(&BTreeMap::from([("candy", candy)])).unwrap()
}

/// Every candy compiles for every distribution, but for those whose own `distro` sections leave it out.
#[test]
fn every_candy_compiles_or_says_which_distributions_it_is_for() {
    let Some(corpus) = corpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeSet::new();
    let mut needed = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    let mut env = BTreeMap::new();
    for (name, source) in &corpus {
        let candy = schema::parse_candy(source).0.unwrap();
        let home = folder.path().join("candy").join(name);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("charly.yml"), source.text()).unwrap();
        needed.extend(candy.require.iter().chain(&candy.candy).map(|name| name.value.to_string()));
        secrets.extend(candy.secret_require.iter().map(|need| need.name.to_string()));
        env.extend(candy.env_require.iter().map(|need| (need.name.to_string(), "given".to_owned())));
        // The files beside the candies are not part of the corpus.
        for step in &candy.plan {
            let StepKind::Run(run) = &step.kind else { continue };
            let Run::Copy(copy) = &**run else { continue };
            let file = home.join(copy.copy.as_str());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "stands in").unwrap();
        }
        names.insert(name.clone());
    }
    for name in needed.difference(&names) {
        let home = folder.path().join("candy").join(name);
        fs::create_dir_all(&home).unwrap();
        let text = format!("candy: {{name: {name}, version: 2026.001.0000, description: stands in}}\n");
        fs::write(home.join("charly.yml"), text).unwrap();
    }
    let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
    let (mut workspace, found) = Workspace::load(&settings);
    assert!(found.is_empty(), "{}", found.render(false));
    let options = Options { env, secrets, ..Options::default() };
    let mut table = String::new();
    for facts in distributions() {
        let tag = facts.os.tag();
        let mut compiled = 0;
        for name in &names {
            let resolved = workspace.resolve(&[LayerRef::parse(name).unwrap()]).unwrap();
            match compile(&resolved, &facts, &options) {
                Ok(_) => compiled += 1,
                Err(found) => {
                    for finding in found.iter() {
                        let expected = format!("none for {tag}");
                        assert!(finding.message.ends_with(&expected), "{}", finding.render(false));
                    }
                    let lenient = Options { skip_incompatible: true, ..options.clone() };
                    compile(&resolved, &facts, &lenient).unwrap();
                }
            }
        }
        writeln!(table, "{tag}: {compiled} of {} compile", names.len()).unwrap();
    }
    eprintln!("{table}");
}
