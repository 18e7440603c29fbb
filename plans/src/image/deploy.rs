//! The deploy that an image describes by itself, for whoever has the image and not the project.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::labels::{self, FORMAT, InImage};
use crate::diagnostic::Diagnostics;
use crate::schema;
use crate::source::Source;

/// What an image says about how it is deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The box it was built as.
    pub name: Option<String>,
    /// A deploy, as a project declares it.
    pub deploy: Map<String, Json>,
    /// What the image holds.
    pub candies: Vec<InImage>,
    /// The variables and secrets that somebody must give, each with what it is for.
    pub asked: Vec<(String, Option<String>)>,
}

/// Why an image's labels describe no deploy.
#[derive(Debug, thiserror::Error)]
pub enum NotDescribed {
    /// They are of a later charly.
    #[error("the image's labels are of format {0}, which is newer than this charly's {FORMAT}")]
    Newer(u32),
    /// There are none, or one is not what charly writes.
    #[error("the image's label `{0}` is missing, or not what charly writes")]
    Label(String),
    /// What they say is no deploy.
    #[error("the image's labels describe no deploy")]
    Deploy(Diagnostics),
}

/// Returns the deploy that an image's labels describe.
pub fn described(image: &str, labels: &BTreeMap<String, String>) -> Result<Described, NotDescribed> {
    let bad = |key: &str| NotDescribed::Label(labels::name(key));
    let text = |key: &str| labels.get(&labels::name(key));
    let format: u32 = text("format").and_then(|format| format.parse().ok()).ok_or_else(|| bad("format"))?;
    if format > FORMAT {
        return Err(NotDescribed::Newer(format));
    }
    let list = |key: &str| match text(key).map(|text| serde_json::from_str(text)) {
        None => Ok(Vec::new()),
        Some(Ok(Json::Array(items))) => Ok(items),
        Some(_) => Err(bad(key)),
    };
    let mut deploy = Map::new();
    if let Some(about) = text("description") {
        deploy.insert("description".into(), json!(about));
    }
    deploy.insert("target".into(), json!("pod"));
    deploy.insert("box".into(), json!(image));
    let mut asked = Vec::new();
    let mut required = |key: &str| -> Result<Vec<Json>, NotDescribed> {
        let items = list(key)?;
        for item in &items {
            let name = item["name"].as_str().ok_or_else(|| bad(key))?;
            if item["default"].is_null() {
                asked.push((name.to_owned(), item["description"].as_str().map(str::to_owned)));
            }
        }
        Ok(items)
    };
    let env = required("env_require")?;
    let env: Map<_, _> =
        env.iter().filter_map(|item| Some((item["name"].as_str()?.to_owned(), default(item)))).collect();
    let of_variables = required("secret_require")?;
    let of_variables = of_variables.iter().map(|item| json!({ "name": item["name"], "env": item["name"] }));
    let secret: Vec<_> = list("secret")?.into_iter().chain(of_variables).collect();
    let port: Option<Vec<_>> = list("port")?.iter().map(port).collect();
    let port = port.ok_or_else(|| bad("port"))?;
    for (key, value) in [
        ("env", Json::Object(env)),
        ("port", json!(port)),
        ("volume", json!(list("volume")?)),
        ("secret", json!(secret)),
    ] {
        if value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
        {
            deploy.insert(key.into(), value);
        }
    }
    if let Some(security) = text("security") {
        deploy.insert("security".into(), serde_json::from_str(security).map_err(|_| bad("security"))?);
    }
    let described = Described { name: text("box").cloned(), deploy, candies: labels::candies(labels), asked };
    // Whoever wrote the labels may be anybody: nothing passes that a project could not declare.
    let (_, found) = schema::parse_project(&Source::new("labels", described.document("judged")));
    if found.has_errors() { Err(NotDescribed::Deploy(found)) } else { Ok(described) }
}

impl Described {
    /// Returns the document of a project that declares the deploy under a name.
    pub fn document(&self, name: &str) -> String {
        // Texts, numbers and their lists always serialize.
        serde_yaml::to_string(&json!({ "deploy": { name: self.deploy } })).unwrap_or_default()
    }
}

fn default(requirement: &Json) -> Json {
    requirement.get("default").filter(|value| value.is_string()).cloned().unwrap_or_else(|| json!(""))
}

/// Reads a port of a candy (`80`, `udp:53`) or of a box (`8080:80`, `53/udp`) as a deploy writes it.
fn port(port: &Json) -> Option<String> {
    match port {
        Json::Number(number) => Some(number.to_string()),
        Json::String(text) => Some(match text.split_once(':') {
            Some(("udp", port)) => format!("{port}/udp"),
            Some(("tcp" | "http" | "https" | "https+insecure", port)) => port.to_owned(),
            _ => text.clone(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| (labels::name(key), (*value).to_owned())).collect()
    }

    #[test]
    fn a_deploy_is_what_the_labels_say() {
        let digest = charly_ir::Digest::of(b"");
        let candies = format!(r#"[{{"name":"web","version":"2026.001.0000","digest":"{digest}"}}]"#);
        let described = described(
            "registry.example/web:1",
            &labels(&[
                ("format", "1"),
                ("box", "web"),
                ("description", "A web: \"server\""),
                ("candies", &candies),
                ("port", r#"[8080,"udp:53","80:8080"]"#),
                ("volume", r#"[{"name":"data","path":"/srv"}]"#),
                ("env", r#"{"MODE":"production"}"#),
                (
                    "env_require",
                    r#"[{"name":"DB_HOST","description":"where the database is"},{"name":"TZ","default":"UTC"}]"#,
                ),
                ("secret", r#"[{"name":"key","target":"/run/key"}]"#),
                ("secret_require", r#"[{"name":"DB_PASSWORD"}]"#),
                ("security", r#"{"cap_add":["NET_ADMIN"],"memory_max":"1g"}"#),
            ]),
        )
        .unwrap();
        assert_eq!(described.name.as_deref(), Some("web"));
        assert_eq!(described.candies.len(), 1);
        let asked: Vec<_> = described.asked.iter().map(|(name, why)| (name.as_str(), why.as_deref())).collect();
        assert_eq!(asked, [("DB_HOST", Some("where the database is")), ("DB_PASSWORD", None)]);
        insta::assert_snapshot!(described.document("web"));
    }

    #[test]
    fn what_is_no_deploy_is_refused() {
        for (of, want) in [
            (labels(&[]), "the image's label `ai.opencharly.format` is missing, or not what charly writes"),
            (labels(&[("format", "2")]), "the image's labels are of format 2, which is newer than this charly's 1"),
            (
                labels(&[("format", "1"), ("port", "80")]),
                "the image's label `ai.opencharly.port` is missing, or not what charly writes",
            ),
            (
                labels(&[("format", "1"), ("env_require", r#"[{"x":"y"}]"#)]),
                "the image's label `ai.opencharly.env_require` is missing, or not what charly writes",
            ),
            (labels(&[("format", "1"), ("volume", r#"[{"nome":"x"}]"#)]), "the image's labels describe no deploy"),
            (labels(&[("format", "1"), ("security", r#"{"all":true}"#)]), "the image's labels describe no deploy"),
        ] {
            assert_eq!(described("x", &of).unwrap_err().to_string(), want);
        }
    }
}
