//! What an image says about itself, so that a deploy needs no project.
//!
//! Every label begins with [`PREFIX`]. The value of a structured one is JSON, in the words of the candies' documents.

use std::collections::BTreeMap;

use charly_ir::Digest;
use charly_ir::facts::User;
use charly_ir::plan::CandyPlan;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::BoxLayer;

/// What all names of charly's labels begin with.
pub const PREFIX: &str = "ai.opencharly.";

/// The number of the form that [`of_box`] writes.
pub const FORMAT: u32 = 1;

/// A candy that is in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InImage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its plan for the image.
    pub digest: Digest,
}

/// Returns the label that holds something.
pub fn name(of: &str) -> String {
    format!("{PREFIX}{of}")
}

/// Returns the candies that an image's labels name.
pub fn candies(labels: &BTreeMap<String, String>) -> Vec<InImage> {
    let text = labels.get(&name("candies")).map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// Returns the labels of a box's image: what the base says, and over it what its candies and the box itself do.
pub fn of_box(
    base: &BTreeMap<String, String>,
    layer: &BoxLayer,
    added: &[(&CandyPlan, Digest)],
    user: &User,
    env: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let spec = &layer.spec;
    let mut merged: BTreeMap<String, Json> = BTreeMap::new();
    for (label, value) in base {
        if let (Some(key), Ok(value)) = (label.strip_prefix(PREFIX), serde_json::from_str::<Json>(value))
            && (value.is_array() || value.is_object())
        {
            merged.insert(key.to_owned(), value);
        }
    }
    let mut add = |key: &str, value: Json| {
        let known = merged.entry(key.to_owned()).or_insert(Json::Null);
        *known = merge(key, std::mem::take(known), value);
    };
    for (candy, digest) in added {
        for (key, value) in &candy.runtime {
            add(key, in_a_list(key, value.clone()));
        }
        let held = InImage { name: candy.name.clone(), version: candy.version.clone(), digest: *digest };
        add("candies", Json::Array(serde_json::to_value(held).into_iter().collect()));
    }
    add("env", Json::Object(env.iter().map(|(name, value)| (name.clone(), Json::String(value.clone()))).collect()));
    add("port", Json::Array(spec.port.iter().map(|port| Json::String(port.value.clone())).collect()));
    add("volume", serde_json::to_value(&spec.volume).unwrap_or_default());
    if let Some(security) = &spec.security {
        add("security", serde_json::to_value(security).unwrap_or_default());
    }
    merged.retain(|_, value| match value {
        Json::Null => false,
        Json::Array(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
        _ => true,
    });
    let mut labels = base.clone();
    // What the base is for says nothing of what is made of it.
    labels.remove(&name("description"));
    labels.extend(merged.into_iter().map(|(key, value)| (name(&key), value.to_string())));
    let mut say = |key: &str, value: String| labels.insert(name(key), value);
    say("format", FORMAT.to_string());
    say("box", layer.name.clone());
    say("user", user.name.clone());
    say("uid", user.uid.to_string());
    say("gid", user.gid.to_string());
    say("home", user.home.clone());
    if let Some(description) = &spec.description {
        say("description", description.lines().next().unwrap_or_default().to_owned());
    }
    if let Some(init) = &spec.init {
        say("init", init.clone());
    }
    labels.extend(spec.label.iter().map(|(name, value)| (name.to_string(), value.clone())));
    labels
}

/// Puts what one candy has at most one of into a list, since an image may have several.
fn in_a_list(key: &str, value: Json) -> Json {
    match key {
        "route" | "shell" | "hook" | "engine" => Json::Array(vec![value]),
        _ => value,
    }
}

/// Lays one value over another: lists grow by what they lack, mappings by key, security by its own rules; else the later one
/// stands.
fn merge(key: &str, known: Json, over: Json) -> Json {
    match (known, over) {
        (Json::Array(mut known), Json::Array(over)) if key == "candies" => {
            // A candy that is applied anew is there once.
            known.retain(|item| !over.iter().any(|new| new["name"] == item["name"]));
            known.extend(over);
            Json::Array(known)
        }
        (Json::Array(mut known), Json::Array(over)) => {
            for item in over {
                if !known.contains(&item) {
                    known.push(item);
                }
            }
            Json::Array(known)
        }
        (Json::Object(known), Json::Object(over)) if key == "security" => Json::Object(security(known, over)),
        (Json::Object(mut known), Json::Object(over)) => {
            known.extend(over);
            Json::Object(known)
        }
        (_, over) => over,
    }
}

/// Lists are united, a permission that one asks for is asked for, and of two bounds the smaller one stands.
fn security(mut known: Map<String, Json>, over: Map<String, Json>) -> Map<String, Json> {
    for (key, value) in over {
        let merged = match (known.remove(&key), value) {
            (Some(Json::Array(one)), Json::Array(other)) => merge("", Json::Array(one), Json::Array(other)),
            (Some(Json::Bool(one)), Json::Bool(other)) => Json::Bool(one || other),
            (Some(Json::String(one)), Json::String(other)) if key.starts_with("memory") || key == "cpus" => {
                Json::String(if size(&other) < size(&one) { other } else { one })
            }
            (_, value) => value,
        };
        known.insert(key, merged);
    }
    known
}

/// Reads a bound such as `512m`, `2GiB` or `1.5`. What is none bounds nothing.
fn size(text: &str) -> f64 {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = ["k", "m", "g", "t"].iter().position(|letter| unit.trim().starts_with(letter)).map_or(0, |at| at + 1);
    let factor = (0..power).fold(1.0, |factor, _| factor * 1024.0);
    number.parse::<f64>().map_or(f64::INFINITY, |number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_merged_by_their_kind() {
        for (key, known, over, want) in [
            ("port", json!(null), json!([80]), json!([80])),
            ("port", json!([80]), json!([443, 80]), json!([80, 443])),
            ("env_provide", json!({"A": "1", "B": "1"}), json!({"B": "2"}), json!({"A": "1", "B": "2"})),
            (
                "security",
                json!({"cap_add": ["A"], "memory_max": "2g", "privileged": true, "cpus": "2"}),
                json!({"cap_add": ["B", "A"], "memory_max": "512MiB", "privileged": false, "cpus": "1.5"}),
                json!({"cap_add": ["A", "B"], "memory_max": "512MiB", "privileged": true, "cpus": "1.5"}),
            ),
            (
                "candies",
                json!([{"name": "a", "version": "1"}, {"name": "b"}]),
                json!([{"name": "a", "version": "2"}]),
                json!([{"name": "b"}, {"name": "a", "version": "2"}]),
            ),
        ] {
            let got = merge(key, known.clone(), over);
            assert_eq!(got, want, "{key}: {known}");
        }
    }

    #[test]
    fn bounds_are_compared_by_size() {
        for (text, want) in [("1k", 1024.0), ("1.5", 1.5), ("2GiB", 2_147_483_648.0), ("max", f64::INFINITY)] {
            assert!(size(text).total_cmp(&want).is_eq(), "{text}");
        }
    }
}
