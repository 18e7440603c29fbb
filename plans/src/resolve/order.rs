//! The order of candies: what is required stands first, names decide the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// Which candy needs which, by name; an edge leads from a candy to one that must come before it.
#[derive(Debug, Default)]
pub(crate) struct Graph<'n> {
    graph: DiGraph<&'n str, ()>,
    nodes: BTreeMap<&'n str, NodeIndex>,
}

impl<'n> Graph<'n> {
    /// Takes every candy with the names of those it needs, all of which are candies themselves.
    pub(crate) fn new<N: IntoIterator<Item = &'n str>>(needs: impl IntoIterator<Item = (&'n str, N)>) -> Self {
        let mut graph = Self::default();
        for (name, needed) in needs {
            let from = graph.node(name);
            for needed in needed {
                let to = graph.node(needed);
                graph.graph.update_edge(from, to, ());
            }
        }
        graph
    }

    /// Returns the one order in which every candy comes after what it needs, and by name where that leaves a choice; or
    /// the names of one cycle, the first of them by name, each needing the next and the last the first.
    pub(crate) fn order(&self) -> Result<Vec<&'n str>, Vec<&'n str>> {
        let mut missing: BTreeMap<_, _> =
            self.nodes.values().map(|node| (*node, self.graph.neighbors(*node).count())).collect();
        let mut ready: BTreeSet<_> =
            missing.iter().filter(|(_, count)| **count == 0).map(|(node, _)| self.graph[*node]).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(name) = ready.pop_first() {
            order.push(name);
            for after in self.graph.neighbors_directed(self.nodes[name], Direction::Incoming) {
                if let Some(count) = missing.get_mut(&after) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(self.graph[after]);
                    }
                }
            }
        }
        if order.len() == self.nodes.len() { Ok(order) } else { Err(self.cycle()) }
    }

    /// Returns the graph in the language of Graphviz, sorted.
    pub(crate) fn dot(&self) -> String {
        let mut text = String::from("digraph candies {\n    rankdir=LR;\n    node [shape=box];\n");
        for (name, node) in &self.nodes {
            // Names are letters, digits, `-`, `_` and `.`: nothing in them needs an escape.
            let _ = writeln!(text, "    \"{name}\";");
            let needed: BTreeSet<_> = self.graph.neighbors(*node).map(|node| self.graph[node]).collect();
            for needed in needed {
                let _ = writeln!(text, "    \"{name}\" -> \"{needed}\";");
            }
        }
        text + "}\n"
    }

    fn node(&mut self, name: &'n str) -> NodeIndex {
        *self.nodes.entry(name).or_insert_with(|| self.graph.add_node(name))
    }

    /// Returns a shortest cycle through the first name that is on one.
    fn cycle(&self) -> Vec<&'n str> {
        let knots = tarjan_scc(&self.graph)
            .into_iter()
            .filter(|knot| knot.len() > 1 || knot.first().is_some_and(|node| self.graph.contains_edge(*node, *node)));
        let names = knots.map(|knot| knot.iter().map(|node| self.graph[*node]).collect::<BTreeSet<_>>());
        let Some(knot) = names.min_by_key(|knot| knot.first().copied()) else { return Vec::new() };
        let Some(first) = knot.first().copied() else { return Vec::new() };
        let mut came_from = BTreeMap::new();
        let mut level = vec![first];
        while !level.is_empty() {
            let mut next = Vec::new();
            for name in level {
                let needed: BTreeSet<_> = self.graph.neighbors(self.nodes[name]).map(|node| self.graph[node]).collect();
                for needed in needed.into_iter().filter(|needed| knot.contains(needed)) {
                    if needed == first {
                        let mut cycle = vec![name];
                        while let Some(before) = cycle.last().and_then(|name| came_from.get(name)) {
                            cycle.push(*before);
                        }
                        cycle.reverse();
                        return cycle;
                    }
                    if !came_from.contains_key(needed) {
                        came_from.insert(needed, name);
                        next.push(needed);
                    }
                }
            }
            level = next;
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(needs: &'static [(&'static str, &'static [&'static str])]) -> Graph<'static> {
        Graph::new(needs.iter().map(|(name, needed)| (*name, needed.iter().copied())))
    }

    #[test]
    fn names_break_ties() {
        let want = Ok(vec!["b", "a", "c", "z"]);
        assert_eq!(graph(&[("z", &["c"]), ("c", &["b"]), ("a", &["b"]), ("b", &[])]).order(), want);
        assert_eq!(graph(&[("b", &[]), ("a", &["b"]), ("c", &["b"]), ("z", &["c"])]).order(), want);
    }

    #[test]
    fn the_cycle_is_shown_from_its_first_name() {
        for (needs, want) in [
            (&[("a", &["a"][..])][..], vec!["a"]),
            (&[("x", &["b"]), ("b", &["c"]), ("c", &["d", "a"]), ("a", &["b"]), ("d", &["c"])], vec!["a", "b", "c"]),
        ] {
            let graph = Graph::new(needs.iter().map(|(name, needed)| (*name, needed.iter().copied())));
            assert_eq!(graph.order(), Err(want));
        }
    }

    #[test]
    fn dot_is_sorted() {
        let text = graph(&[("b", &["a", "c"]), ("c", &["a"])]).dot();
        let want = "digraph candies {\n    rankdir=LR;\n    node [shape=box];\n    \"a\";\n    \"b\";\n    \"b\" -> \"a\";\n    \"b\" -> \"c\";\n    \"c\";\n    \"c\" -> \"a\";\n}\n";
        assert_eq!(text, want);
    }
}
