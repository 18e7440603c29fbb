//! Candies that users wrote, where they are present.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use charly_plans::schema::{self, Candy};
use charly_plans::source::Source;

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
