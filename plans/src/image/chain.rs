//! A box and the boxes it starts from, down to an image that is no box.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::load::{LoadedCandy, Workspace};
use crate::read::Spanned;
use crate::resolve::{Fingerprint, Found, LayerRef};
use crate::schema::{self, BoxSpec, Document, Reference};
use crate::source::{Place, Source};

/// A box and the boxes it starts from.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The boxes, each after the one it starts from; the last is the one asked for. Never empty.
    pub boxes: Vec<BoxLayer>,
}

/// One box of a chain.
#[derive(Debug, Clone)]
pub struct BoxLayer {
    /// Its name.
    pub name: String,
    /// What it declares.
    pub spec: BoxSpec,
    /// The place of its name.
    pub place: Place,
    /// What it starts from.
    pub base: Base,
}

/// What a box starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing at all.
    Scratch,
    /// Another box, which stands before it in the chain.
    Box(String),
    /// A distribution's release such as `debian-13`, made from its packages.
    Bootstrap(String),
    /// An image: `oci:`, `oci-archive:` or `docker-archive:` and a path, or a name in a registry.
    Image(String),
}

impl Workspace {
    /// Finds a box and all that it starts from.
    pub fn chain(&self, name: &str) -> Result<Chain, Diagnostics> {
        let Some(declared) = self.boxes().get(name) else {
            let finding = Diagnostic::error(format!("no box is named `{name}`"));
            let names = self.boxes().keys().map(String::as_str);
            return Err(match suggestion(name, names) {
                Some(hint) => finding.hint(hint),
                None => finding.hint("declare it under `box` in charly.yml; `charly box new NAME` begins one"),
            }
            .into());
        };
        let mut boxes = Vec::new();
        let (mut name, mut declared) = (name.to_owned(), declared);
        loop {
            let base = self.base_of(&declared.value, &declared.place)?;
            let layer = BoxLayer {
                name: name.clone(),
                spec: declared.value.clone(),
                place: declared.place.clone(),
                base: base.clone(),
            };
            boxes.push(layer);
            let Base::Box(next) = base else { break };
            if boxes.iter().any(|known: &BoxLayer| known.name == next) {
                let mut cycle: Vec<_> = boxes.iter().map(|known| format!("`{}`", known.name)).collect();
                cycle.push(format!("`{next}`"));
                let message = format!("boxes start from each other: {}", cycle.join(" → "));
                return Err(Diagnostic::error(message).at(declared.place.clone()).into());
            }
            // `base_of` has found it.
            let Some(found) = self.boxes().get(&next) else { break };
            (name, declared) = (next, found);
        }
        boxes.reverse();
        Ok(Chain { boxes })
    }

    fn base_of(&self, spec: &BoxSpec, place: &Place) -> Result<Base, Diagnostics> {
        let default = || self.defaults().and_then(|defaults| defaults.base.as_ref());
        let Some(base) = spec.base.as_ref().or_else(default) else {
            let finding = Diagnostic::error("nothing says what the box starts from").at(place.clone());
            return Err(finding.hint("write `base: bootstrap:debian-13`, an image, or another box").into());
        };
        // What holds for all boxes may stand in another file.
        let span = spec.base.as_ref().map_or(place.span, |base| base.span);
        let at = Place { source: Arc::clone(&place.source), span };
        let text = base.as_str();
        let paths = ["oci:", "oci-archive:", "docker-archive:", "docker://", "containers-storage:"];
        Ok(if text == "scratch" {
            Base::Scratch
        } else if self.boxes().contains_key(text) {
            Base::Box(text.to_owned())
        } else if let Some(release) = text.strip_prefix("bootstrap:") {
            Base::Bootstrap(release.to_owned())
        } else if paths.iter().any(|prefix| text.starts_with(prefix)) || text.contains([':', '/', '@']) {
            Base::Image(text.to_owned())
        } else {
            let finding = Diagnostic::error(format!("`{text}` is neither a box nor an image")).at(at);
            let names = self.boxes().keys().map(String::as_str);
            let hint =
                suggestion(text, names).unwrap_or_else(|| format!("for an image write its tag, too: `{text}:TAG`"));
            return Err(finding.hint(hint).into());
        })
    }

    /// Finds a box's own candies: those it names, and last what it asks for itself.
    pub fn box_candies(&mut self, layer: &BoxLayer) -> Result<Found, Diagnostics> {
        let at = |span| Place { source: Arc::clone(&layer.place.source), span };
        let references = layer
            .spec
            .candy
            .iter()
            .map(|candy: &Spanned<Reference>| LayerRef { reference: candy.value.clone(), place: Some(at(candy.span)) });
        let mut found = self.find_all(&references.collect::<Vec<_>>())?;
        if !layer.spec.package.is_empty() || layer.spec.distro.iter().next().is_some() {
            found.push(own(layer)?);
        }
        Ok(found)
    }
}

impl BoxLayer {
    /// Tells all that a box of a workspace declares, beside the candies it names.
    pub fn tell(&self, workspace: &Workspace, fingerprint: &mut Fingerprint) {
        let Self { name, spec: _, place, base: _ } = self;
        fingerprint.text(name);
        // What it declares may come of several documents, one laid over the other: all of them tell it.
        fingerprint.text(place.source.text());
        for document in workspace.documents() {
            fingerprint.text(document.text());
        }
    }
}

/// Returns a candy of what a box asks for itself. Its mistakes are shown where the box declares them.
fn own(layer: &BoxLayer) -> Result<LoadedCandy, Diagnostics> {
    let name = format!("box-{}", layer.name);
    let text = format!(
        "candy: {{name: {name}, version: 2026.001.0000, description: \"What the box {} asks for itself\"}}\n",
        layer.name
    );
    let source = Source::from_bytes("box", text.into_bytes()).map_err(|finding| Diagnostics::from(*finding))?;
    let (document, found) = schema::parse(&source);
    let Some(Document::Candy(mut candy)) = document else { return Err(found) };
    candy.package.clone_from(&layer.spec.package);
    candy.distro = layer.spec.distro.clone();
    Ok(LoadedCandy::alone(*candy, Arc::clone(&layer.place.source)))
}
