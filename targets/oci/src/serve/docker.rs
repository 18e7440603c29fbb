//! Archives as `docker save` and `podman save` write them.

use std::path::Path;

use serde::Deserialize;

use super::layout::Files;
use super::tree::Tree;
use super::{Format, ServeError, Served, document};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Opens an image of an archive.
pub(super) fn open(path: &Path, name: Option<&str>) -> Result<Served, ServeError> {
    let tree = Tree::open(path)?;
    let odd = |why: String| ServeError::Invalid { what: format!("the manifest in `{}`", path.display()), why };
    let text = document(tree.read("manifest.json")?, path)?;
    let items: Vec<Item> = serde_json::from_str(&text).map_err(|error| odd(error.to_string()))?;
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let is_called = |item: &Item| name.is_none_or(|name| tags(item).iter().any(|tag| tag == name));
    let found: Vec<_> = items.iter().filter(|item| is_called(item)).collect();
    let [item] = found[..] else {
        let near = items.iter().flat_map(tags).collect();
        let name = name.unwrap_or("of its own").to_owned();
        return Err(ServeError::Unknown { name, place: format!("alone in `{}`", path.display()), near });
    };
    let config = document(tree.read(&item.config)?, path)?;
    let files = Files::new(tree, item.layers.clone());
    let mut names = tags(item);
    names.sort_by_key(|tag| Some(tag.as_str()) != name);
    let served = Served { config, format: Format::Docker, names, layers: Box::new(files) };
    if served.diff_ids()?.len() != item.layers.len() {
        return Err(odd("it has other layers than its configuration names".to_owned()));
    }
    Ok(served)
}
