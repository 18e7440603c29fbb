//! Laws that hold for every document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use charly_plans::compile::{Options, compile};
use charly_plans::load::{Settings, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema::{self, Candy};
use charly_plans::source::Source;
use charly_plans::validate_text;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::venues::debian;

/// Text of every kind that YAML has trouble with.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[ -~\n\t]{0,20}",
        "\\PC{0,8}",
        Just("yes".to_owned()),
        Just("0644".to_owned()),
        Just("1e3".to_owned()),
        Just("~".to_owned()),
        Just("null".to_owned()),
        Just("- a: b # c".to_owned()),
        Just("<<".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['\n', '\0'], " "))
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}"
}

fn step() -> impl Strategy<Value = Json> {
    let sentence = "[a-z ]{1,10}x";
    prop_oneof![
        (sentence, text()).prop_map(|(title, body)| json!({"run": title, "command": format!("{body}x")})),
        (sentence, word(), text()).prop_map(|(title, path, content)| {
            json!({"run": title, "write": format!("/opt/{path}"), "content": format!("{content}x"), "mode": "0600"})
        }),
        (sentence, word()).prop_map(|(title, path)| json!({"run": title, "mkdir": format!("~/{path}")})),
        (sentence, word(), vec(text(), 0..3)).prop_map(|(title, path, contains)| {
            let contains: Vec<_> = contains.into_iter().map(|text| format!("{text}x")).collect();
            json!({"check": title, "file": format!("/opt/{path}"), "contains": contains, "exists": true})
        }),
    ]
}

fn candy() -> impl Strategy<Value = Json> {
    let env = btree_map("[A-Z][A-Z0-9_]{0,5}X", line().prop_map(|value| format!("{value}x")), 0..4);
    (word(), text(), env, vec(word(), 0..4), vec(step(), 0..6)).prop_map(|(name, description, env, packages, plan)| {
        json!({"candy": {
            "name": name,
            "version": "2026.165.0930",
            "description": format!("x{description}"),
            "env": env,
            "package": packages,
            "plan": plan,
        }})
    })
}

fn read(text: &str) -> Candy {
    let (candy, found) = schema::parse_candy(&Source::new("charly.yml", text));
    assert!(found.is_empty(), "{text}\n{}", found.render(false));
    candy.unwrap()
}

fn written(candy: &Candy) -> String {
    serde_yaml::to_string(&BTreeMap::from([("candy", candy)])).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_candy_survives_being_written(document in candy()) {
        let first = read(&serde_yaml::to_string(&document).unwrap());
        let description = document["candy"]["description"].as_str().unwrap();
        prop_assert_eq!(&first.description.value, description);
        for (name, value) in document["candy"]["env"].as_object().unwrap() {
            prop_assert_eq!(Some(&first.env.get(name).unwrap().value[..]), value.as_str());
        }
        let second = read(&written(&first));
        prop_assert_eq!(&second, &first);
    }

    #[test]
    fn no_text_is_too_strange(text in "(candy|name|version|plan|run|check|[-:{}\\[\\],&*!|>'\"%@`#\t \n~<]|\\PC){0,60}") {
        let source = Source::new("charly.yml", text);
        for finding in validate_text(&source).iter() {
            let _ = finding.render(true);
            let _ = serde_json::to_string(finding).unwrap();
        }
    }

    #[test]
    fn a_damaged_candy_is_no_reason_to_panic(document in candy(), at in any::<prop::sample::Index>(), damage in "\\PC{0,3}") {
        let mut text = serde_yaml::to_string(&document).unwrap();
        let mut index = at.index(text.len());
        while !text.is_char_boundary(index) {
            index -= 1;
        }
        text.insert_str(index, &damage);
        let _ = validate_text(&Source::new("charly.yml", text)).render(false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_what_is_asked_for_does_not_matter(
        needs in vec(vec(0..8_usize, 0..3), 1..9),
        shuffle in Just((0..9).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (at, needs) in needs.iter().enumerate() {
            // Only what comes before may be needed, so that there are no cycles.
            let needs: BTreeSet<_> = needs.iter().filter(|need| **need < at).map(|need| format!("c{need}")).collect();
            let (require, compose): (Vec<_>, Vec<_>) = needs.into_iter().partition(|name| name.ends_with(['0', '2', '4', '6']));
            let text = json!({"candy": {
                "name": format!("c{at}"), "version": "2026.165.0930", "description": "x",
                "require": require, "candy": compose, "env": {format!("V{at}"): "1"}, "package": [format!("p{at}")],
            }});
            let home = folder.path().join(format!("candy/{}{at}", shuffle[at]));
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("charly.yml"), text.to_string()).unwrap();
        }
        let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
        let mut workspace = Workspace::load(&settings).0;
        let mut plan_of = |order: &[usize]| {
            let names = order.iter().filter(|at| **at < needs.len()).map(|at| format!("c{at}"));
            let layers: Vec<_> = names.map(|name| LayerRef::parse(&name).unwrap()).collect();
            let resolved = workspace.resolve(&layers).unwrap();
            let names: Vec<_> = resolved.candies.iter().map(|candy| candy.loaded.name().to_owned()).collect();
            for (at, candy) in resolved.candies.iter().enumerate() {
                assert!(candy.needs().all(|need| names[..at].iter().any(|name| name == need)));
            }
            let plan = compile(&resolved, &debian(), &Options::default()).unwrap().plan;
            (serde_json::to_string(&plan).unwrap(), resolved.dot())
        };
        let sorted: Vec<_> = (0..9).collect();
        prop_assert_eq!(plan_of(&sorted), plan_of(&shuffle));
    }
}
