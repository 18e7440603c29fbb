//! The JSON schema that follows from the tables.

use serde_json::{Map as JsonMap, Value as Json, json};

use super::FromYaml;

/// The definitions that a schema refers to by name.
#[derive(Debug, Default)]
pub(crate) struct Definitions(JsonMap<String, Json>);

/// An object schema under construction.
pub(crate) struct Object<'d> {
    definitions: &'d mut Definitions,
    pub(crate) properties: JsonMap<String, Json>,
    pub(crate) required: Vec<Json>,
}

impl Definitions {
    /// Defines an object once, and returns a reference to it.
    pub(crate) fn object(&mut self, name: &str, about: &[&str], properties: impl FnOnce(&mut Object<'_>)) -> Json {
        if !self.0.contains_key(name) {
            // The name is taken before the properties are known, so that a type may contain itself.
            self.0.insert(name.to_owned(), Json::Null);
            let mut object = Object::new(self);
            properties(&mut object);
            let mut schema = object.finish(false);
            schema["description"] = prose(about).into();
            self.0.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    /// Returns all definitions, sorted by name.
    pub(crate) fn finish(self) -> Json {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Json::Object(all.into_iter().collect())
    }
}

impl<'d> Object<'d> {
    pub(crate) fn new(definitions: &'d mut Definitions) -> Self {
        Self { definitions, properties: JsonMap::new(), required: Vec::new() }
    }

    /// Describes one key.
    pub(crate) fn property<T: FromYaml>(&mut self, names: &[&str], docs: &[&str]) {
        let mut schema = T::schema(self.definitions);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), prose(docs).into());
        }
        for name in names {
            self.properties.insert((*name).to_owned(), schema.clone());
        }
        if T::absent().is_none() {
            self.required.push(names[0].into());
        }
    }

    /// Returns the schema; `open` says whether it allows keys it does not name.
    pub(crate) fn finish(self, open: bool) -> Json {
        let mut schema = json!({"type": "object", "properties": self.properties, "additionalProperties": open});
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        schema
    }
}

/// Describes a closed set of words.
pub(crate) fn words(about: &[&str], words: &[&str]) -> Json {
    // Unquoted, YAML takes these two for something else than text.
    let word = |word: &&str| word.parse::<bool>().map_or_else(|_| Json::from(*word), Json::from);
    json!({"description": prose(about), "enum": words.iter().map(word).collect::<Vec<_>>()})
}

/// Joins the lines of a doc comment.
fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}
