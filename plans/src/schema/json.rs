//! The JSON schema of a `charly.yml`, for editors.

use serde_json::{Value as Json, json};

use super::document::CandyDocument;
use super::project::Project;
use crate::read::{Definitions, FromYaml};

/// Returns the JSON schema of a `charly.yml`: a candy's file, or a project's.
pub fn json_schema() -> Json {
    let mut definitions = Definitions::default();
    let kinds = [CandyDocument::schema(&mut definitions), Project::schema(&mut definitions)];
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "charly.yml",
        "description": "A candy, or a project of candies, boxes, machines and deploys.",
        "anyOf": kinds,
        "$defs": definitions.finish(),
    })
}
