//! The layers of a deploy.

use std::path::Path;

use charly_ir::message::{DeploySummary, Layer, Origin};
use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::resolve::{LayerRef, Resolved};
use charly_plans::schema::Reference;

use crate::exit::Failure;

/// What is asked for: what is declared, and what was or is added by hand.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    references: Vec<(LayerRef, Origin)>,
    /// Those that the venue remembers, and nobody asked for now.
    held: Vec<LayerRef>,
}

/// The layers of a deploy, and all candies they stand for.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    /// The layers, as the ledger remembers them.
    pub(crate) layers: Vec<Layer>,
    /// The candies in order.
    pub(crate) resolved: Resolved,
}

impl Ask {
    /// Puts together what a deploy is to hold: what its entry declares, what the venue remembers as added by hand, and
    /// what is added now. A candy dropped from the entry is not asked for any more.
    pub(crate) fn new(
        entry: Option<&DeployEntry>,
        held: Option<&DeploySummary>,
        added: &[LayerRef],
    ) -> Result<Self, Failure> {
        let (mut references, mut remembered) = (Vec::new(), Vec::new());
        for (reference, place) in entry.into_iter().flat_map(|entry| &entry.candies) {
            let layer = LayerRef { reference: reference.clone(), place: Some(place.clone()) };
            references.push((layer, Origin::Declared));
        }
        for layer in held.into_iter().flat_map(|held| &held.layers) {
            if layer.origin == Origin::ByHand {
                let layer = LayerRef::parse(&layer.reference)?;
                remembered.push(layer.clone());
                references.push((layer, Origin::ByHand));
            }
        }
        references.extend(added.iter().map(|layer| (layer.clone(), Origin::ByHand)));
        let mut seen: Vec<(Reference, Origin)> = Vec::new();
        references.retain(|(layer, origin)| {
            let key = (layer.reference.clone(), *origin);
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        remembered.retain(|layer| !added.iter().any(|added| added.reference == layer.reference));
        Ok(Self { references, held: remembered })
    }

    /// Tells whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// Finds the candies.
    pub(crate) fn resolve(&self, workspace: &mut Workspace) -> Result<Layers, Failure> {
        for layer in &self.held {
            if workspace.resolve(std::slice::from_ref(layer)).is_err() {
                let name = &layer.reference;
                let failure =
                    Failure::invalid(format!("`{name}` was added by hand before, and is not found from here"));
                return Err(failure.hint(format!(
                    "run this in the project that has it, or take it away: `charly bundle del` the deploy's name and `{name}`"
                )));
            }
        }
        let all: Vec<_> = self.references.iter().map(|(layer, _)| layer.clone()).collect();
        let resolved = workspace.resolve(&all)?;
        let mut layers = Vec::new();
        for (layer, origin) in &self.references {
            let candy = workspace.resolve(std::slice::from_ref(layer))?.roots.concat();
            layers.push(Layer { reference: layer.reference.to_string(), candy, origin: *origin });
        }
        layers.sort();
        layers.dedup_by(|one, other| (&one.candy, one.origin) == (&other.candy, other.origin));
        Ok(Layers { layers, resolved })
    }
}

/// Reads a reference from the command line. A path starts from where the command was given, and is remembered whole:
/// the next command may be given elsewhere.
pub(crate) fn absolute(text: &str, working: &Path) -> Result<LayerRef, Failure> {
    let mut layer = LayerRef::parse(text)?;
    if let Reference::Path(path) = &mut layer.reference {
        let whole = working.join(&*path);
        let whole = whole.canonicalize().unwrap_or(whole);
        whole.to_string_lossy().as_ref().clone_into(path);
    }
    Ok(layer)
}
