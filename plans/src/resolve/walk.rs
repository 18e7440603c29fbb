//! Follows references until every candy is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::found::{Found, FoundCandy};
use super::order::Graph;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::load::{LoadedCandy, SourceFile, Workspace};
use crate::read::FromText;
use crate::schema::Reference;
use crate::source::Place;

/// A candy asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRef {
    /// The reference.
    pub reference: Reference,
    /// Where it is asked for; nothing where a person did.
    pub place: Option<Place>,
}

/// Candies in their one order.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The candies; whatever one needs stands before it.
    pub candies: Vec<ResolvedCandy>,
    /// The names of those asked for, in the order they were asked for.
    pub roots: Vec<String>,
}

/// A candy with all that it refers to.
#[derive(Debug, Clone)]
pub struct ResolvedCandy {
    /// The candy.
    pub loaded: Arc<LoadedCandy>,
    /// The names of the candies it requires, sorted.
    pub requires: Vec<String>,
    /// The names of the candies it is composed of, sorted.
    pub composed_of: Vec<String>,
    /// The files that its `copy` steps name, by path; what is not there is an error for whoever compiles the step.
    pub sources: BTreeMap<String, Sources>,
    /// All files of its folder that builders build from, by path; empty where none asks for a builder.
    pub build_files: Result<BTreeMap<String, SourceFile>, String>,
}

/// What lies at a path of a candy's folder: one file or several, or why there is nothing.
pub type Sources = Result<Vec<SourceFile>, String>;

impl LayerRef {
    /// Reads a reference as a person gives it.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        match Reference::from_text(text) {
            Ok(reference) => Ok(Self { reference, place: None }),
            Err(problem) => Err(Diagnostic { hint: problem.hint, ..Diagnostic::error(problem.message) }),
        }
    }
}

impl Workspace {
    /// Follows references to candies, theirs to others, puts all in order, and digests the files they refer to.
    pub fn resolve(&mut self, layers: &[LayerRef]) -> Result<Resolved, Diagnostics> {
        let found = self.find_all(layers)?;
        Ok(self.digested(found))
    }

    /// Digests the files that candies refer to.
    pub fn digested(&self, found: Found) -> Resolved {
        found.digested(self.settings().digests.as_deref())
    }

    /// Follows references to candies, theirs to others, and puts all in order. Of the files they refer to nothing is read.
    pub(crate) fn find_all(&mut self, layers: &[LayerRef]) -> Result<Found, Diagnostics> {
        let mut found = Diagnostics::default();
        let (all, roots) = self.follow(layers, &mut found);
        let mut ordered = None;
        if !found.has_errors() {
            match order(all) {
                Ok(candies) => ordered = Some(Found { candies, roots }),
                Err(finding) => found.push(*finding),
            }
        }
        found.or(ordered)
    }

    fn follow(&mut self, layers: &[LayerRef], found: &mut Diagnostics) -> (BTreeMap<String, FoundCandy>, Vec<String>) {
        let mut all: BTreeMap<String, FoundCandy> = BTreeMap::new();
        let mut waiting: Vec<Arc<LoadedCandy>> = Vec::new();
        let mut roots = Vec::new();
        for LayerRef { reference, place } in layers {
            match self.find(reference, None, found) {
                Ok(candy) => {
                    roots.push(candy.name().to_owned());
                    waiting.push(candy);
                }
                Err(finding) => found.push(match place {
                    Some(place) => finding.at(place.clone()),
                    None => finding,
                }),
            }
        }
        while let Some(loaded) = waiting.pop() {
            if let Some(known) = all.get(loaded.name()) {
                if !Arc::ptr_eq(&known.loaded, &loaded) && known.loaded.source != loaded.source {
                    let (one, other) = (&known.loaded, &loaded);
                    let finding = Diagnostic::error(format!("two different candies are named `{}`", other.name()));
                    let finding = finding.at(other.place(other.candy.name.span));
                    found.push(finding.related(one.place(one.candy.name.span), "the other one"));
                }
                continue;
            }
            let mut names = [Vec::new(), Vec::new()];
            for (references, names) in [&loaded.candy.require, &loaded.candy.candy].into_iter().zip(&mut names) {
                for reference in references {
                    match self.find(reference, Some(&loaded), found) {
                        Ok(candy) => {
                            names.push(candy.name().to_owned());
                            waiting.push(candy);
                        }
                        Err(finding) => found.push(finding.at(loaded.place(reference.span))),
                    }
                }
                names.sort();
                names.dedup();
            }
            let [requires, composed_of] = names;
            all.insert(loaded.name().to_owned(), FoundCandy::new(loaded, requires, composed_of));
        }
        let mut seen = BTreeSet::new();
        roots.retain(|name| seen.insert(name.clone()));
        (all, roots)
    }
}

impl Resolved {
    /// Returns the dependency graph in the language of Graphviz.
    pub fn dot(&self) -> String {
        Graph::new(self.candies.iter().map(|candy| (candy.loaded.name(), candy.needs()))).dot()
    }
}

impl ResolvedCandy {
    /// Returns the names of all candies that stand before this one for its sake.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.requires.iter().chain(&self.composed_of).map(String::as_str)
    }
}

fn order(mut all: BTreeMap<String, FoundCandy>) -> Result<Vec<FoundCandy>, Box<Diagnostic>> {
    let graph = Graph::new(all.iter().map(|(name, candy)| (name.as_str(), candy.needs())));
    match graph.order() {
        Ok(names) => {
            let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
            Ok(names.iter().filter_map(|name| all.remove(name)).collect())
        }
        Err(cycle) => {
            let closed: Vec<_> = cycle.iter().chain(cycle.first()).map(|name| format!("`{name}`")).collect();
            let mut finding = Diagnostic::error(format!("candies need each other: {}", closed.join(" → ")));
            for (at, name) in cycle.iter().enumerate() {
                let next = cycle[(at + 1) % cycle.len()];
                let Some(place) = all.get(*name).and_then(|candy| asked_for(&candy.loaded, next)) else { continue };
                finding = match at {
                    0 => finding.at(place),
                    _ => finding.related(place, format!("`{name}` needs `{next}`")),
                };
            }
            Err(Box::new(finding.hint("leave one of these out, or move what both need to a candy of its own")))
        }
    }
}

/// Returns the place where one candy asks for another.
fn asked_for(candy: &LoadedCandy, name: &str) -> Option<Place> {
    let names = |text: &str| text == name || text.rsplit(['/', '.']).next() == Some(name);
    let mut references = candy.candy.require.iter().chain(&candy.candy.candy);
    let reference = references.find(|reference| names(reference.to_string().split('@').next().unwrap_or_default()))?;
    Some(candy.place(reference.span))
}
