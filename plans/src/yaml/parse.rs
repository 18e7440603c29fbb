//! The parser's events to the tree, with anchors, merges and budgets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_yaml::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use super::node::{Key, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{Place, Source, Span};

/// The deepest nesting that is read. Real documents have about ten levels.
const MAX_DEPTH: usize = 64;

/// What all aliases of a document may add up to, in nodes and in bytes of text.
const MAX_ALIASED: usize = 1 << 18;

/// The most keys one mapping may have. Looking for duplicates is quadratic, which is the fastest way for the few keys
/// that real mappings have.
const MAX_KEYS: usize = 4096;

/// Reads a document. Nothing comes back where it has a syntax error; other mistakes leave a tree to go on with.
pub(crate) fn parse<'s>(source: &'s Arc<Source>, found: &mut Diagnostics) -> Option<Node<'s>> {
    let mut builder = Builder { source, found, open: Vec::new(), anchors: HashMap::new(), aliased: 0, root: None };
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    for event in Parser::new_from_str_with_options(source.text(), options) {
        match event {
            Ok((event, span)) => {
                let bytes = |mark: granit_parser::Marker| mark.byte_offset().unwrap_or_default();
                builder.take(event, Span::new(bytes(span.start), bytes(span.end)))?;
            }
            Err(error) => {
                let finding = syntax_error(source, &error);
                builder.found.push(finding);
                return None;
            }
        }
    }
    let empty = Node { span: Span::default(), value: Value::Scalar { text: Cow::Borrowed(""), plain: true } };
    Some(builder.root.unwrap_or(empty))
}

struct Builder<'s, 'd> {
    source: &'s Arc<Source>,
    found: &'d mut Diagnostics,
    /// The collections being read, outermost first.
    open: Vec<Open<'s>>,
    anchors: HashMap<usize, Node<'s>>,
    aliased: usize,
    root: Option<Node<'s>>,
}

struct Open<'s> {
    start: Span,
    anchor: usize,
    items: Items<'s>,
}

enum Items<'s> {
    List(Vec<Node<'s>>),
    Map { entries: Vec<(Key<'s>, Node<'s>)>, merged: Vec<(Key<'s>, Node<'s>)>, key: Option<Node<'s>> },
}

impl<'s> Builder<'s, '_> {
    /// Takes the next event. Returns nothing where it makes no sense to go on.
    fn take(&mut self, event: Event<'s>, span: Span) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                let plain = style == ScalarStyle::Plain;
                let node = Node { span, value: Value::Scalar { text, plain } };
                self.finish(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.open.push(Open { start: span, anchor, items: Items::List(Vec::new()) });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                let items = Items::Map { entries: Vec::new(), merged: Vec::new(), key: None };
                self.open.push(Open { start: span, anchor, items });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { start, anchor, items } = self.open.pop()?;
                let (value, last) = match items {
                    Items::List(items) => {
                        let last = items.last().map(|item| item.span);
                        (Value::List(items), last)
                    }
                    Items::Map { mut entries, merged, .. } => {
                        let last = entries.last().map(|(_, value)| value.span);
                        for (key, value) in merged {
                            if !entries.iter().any(|(known, _)| known.text == key.text) {
                                entries.push((key, value));
                            }
                        }
                        if entries.len() > MAX_KEYS {
                            self.error(start, &format!("the mapping has more than {MAX_KEYS} keys"));
                            return None;
                        }
                        (Value::Map(entries), last)
                    }
                };
                // The parser reports the end of a block collection where the next thing begins.
                let end = last.map_or(span.end, |last| last.end.max(start.end));
                self.finish(Node { span: Span { start: start.start, end }, value }, anchor)?;
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    self.error(span, "an alias stands inside what it refers to");
                    return None;
                };
                self.aliased += weight(target);
                if self.aliased > MAX_ALIASED {
                    self.error(span, "the aliases of the document expand to more than it may hold");
                    return None;
                }
                let node = Node { span, ..target.clone() };
                self.finish(node, 0)?;
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                self.error(span, "a second document begins in the file");
                return None;
            }
            _ => {}
        }
        Some(())
    }

    /// Puts a complete node where it belongs. Returns nothing where it makes no sense to go on.
    fn finish(&mut self, node: Node<'s>, anchor: usize) -> Option<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map { key: key @ None, .. } => *key = Some(node),
            Items::Map { entries, merged, key } => {
                let Node { span, value: key } = key.take()?;
                let Value::Scalar { text, plain } = key else {
                    self.error(span, "a key must be text");
                    return Some(());
                };
                if plain && text == "<<" {
                    let Some(entries) = merge(node) else {
                        self.error(span, "`<<` merges a mapping or a list of mappings");
                        return Some(());
                    };
                    merged.extend(entries);
                } else if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                    let first = Place { source: Arc::clone(self.source), span: first.span };
                    let finding = Diagnostic::error(format!("`{text}` stands twice in one mapping"))
                        .at(self.place(span))
                        .related(first, "first here")
                        .hint("keep one of the two");
                    self.found.push(finding);
                } else if entries.len() == MAX_KEYS {
                    self.error(span, &format!("the mapping has more than {MAX_KEYS} keys"));
                    return None;
                } else {
                    entries.push((Key { span, text }, node));
                }
            }
        }
        Some(())
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            self.error(span, &format!("the tag `{}` means nothing here", tag.original()));
        }
    }

    fn error(&mut self, span: Span, message: &str) {
        let place = self.place(span);
        self.found.push(Diagnostic::error(message).at(place));
    }

    fn place(&self, span: Span) -> Place {
        Place { source: Arc::clone(self.source), span }
    }
}

/// Returns the entries that a merge key brings, the nearest first.
fn merge(node: Node<'_>) -> Option<Vec<(Key<'_>, Node<'_>)>> {
    match node.value {
        Value::Map(entries) => Some(entries),
        Value::List(items) => {
            let mut all = Vec::new();
            for item in items {
                let Value::Map(entries) = item.value else { return None };
                all.extend(entries);
            }
            Some(all)
        }
        Value::Scalar { .. } => None,
    }
}

/// Returns what a copy of a node costs.
fn weight(node: &Node<'_>) -> usize {
    1 + match &node.value {
        Value::Scalar { text, .. } => text.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| key.text.len() + weight(value)).sum(),
    }
}

fn syntax_error(source: &Arc<Source>, error: &ScanError) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::RecursionLimitExceeded => format!("the document is nested more than {MAX_DEPTH} levels deep"),
        ErrorKind::DirectiveDisallowed => "directives have no place here".to_owned(),
        _ => {
            let mut info = error.info();
            if let Some(first) = info.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            info.trim_end_matches('.').to_owned()
        }
    };
    let text = source.text();
    let line_start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    let place = |start, end| Place { source: Arc::clone(source), span: Span::new(start, end) };
    let finding = Diagnostic::error(message);
    if let Some(tab) = line[..indent].find('\t') {
        let tab = line_start + tab;
        return finding.at(place(tab, tab + 1)).hint("YAML is indented with spaces: put spaces for the tab");
    }
    finding.at(place(at, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> (String, Vec<String>) {
        let source = Source::new("f", text);
        let mut found = Diagnostics::default();
        let tree = parse(&source, &mut found).map(|node| node.to_json().to_string()).unwrap_or_default();
        (tree, found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn scalars_keep_what_was_written() {
        for (text, want) in [
            ("0644", r#""0644""#),
            ("1.10", r#""1.10""#),
            ("-3", "-3"),
            ("2.5", "2.5"),
            ("no", r#""no""#),
            ("'true'", r#""true""#),
            ("~", "null"),
            (".nan", r#"".nan""#),
            ("", "null"),
        ] {
            assert_eq!(json(text), (want.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn merges_do_not_override() {
        let text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 9}\nd:\n  <<: *b\n";
        let want = r#"{"a":{"x":1,"y":2},"b":{"y":3,"z":4},"c":{"x":9,"y":2,"z":4},"d":{"y":3,"z":4}}"#;
        assert_eq!(json(text), (want.to_owned(), vec![]));
    }

    #[test]
    fn every_duplicate_is_found() {
        let (tree, found) = json("a: 1\na: 2\nb: {c: 1, c: 2}\n");
        assert_eq!(tree, r#"{"a":1,"b":{"c":1}}"#);
        assert_eq!(found, ["f:2:1: `a` stands twice in one mapping", "f:3:11: `c` stands twice in one mapping"]);
    }

    #[test]
    fn hostile_documents_end_with_one_error() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            laughs = format!("{laughs}a{level}: &a{level} [{}]\n", alias.trim_end_matches(", "));
        }
        let deep_flow = "[".repeat(100_000);
        let deep_block = (0..300).map(|level| " ".repeat(level) + "a:\n").collect::<String>();
        let dashes = "- ".repeat(100_000);
        let wide = (0..200_000).map(|key| format!("k{key}: 1")).collect::<Vec<_>>().join("\n");
        for (text, want) in [
            (laughs.as_str(), "f:6:10: the aliases of the document expand to more than it may hold"),
            (&deep_flow, "f:1:65: the document is nested more than 64 levels deep"),
            (&deep_block, "f:65:65: the document is nested more than 64 levels deep"),
            (&dashes, "f:1:129: the document is nested more than 64 levels deep"),
            ("a:\n\tb: 1\n", "f:2:1: tabs disallowed within this context (block indentation)"),
            (&wide, "f:4097:1: the mapping has more than 4096 keys"),
            ("a: *b\n", "f:1:4: while parsing node, found unknown anchor"),
            ("a: &a [*a]\n", "f:1:8: an alias stands inside what it refers to"),
            ("a: 1\n---\nb: 2\n", "f:2:1: a second document begins in the file"),
        ] {
            let (tree, found) = json(text);
            assert_eq!((tree.as_str(), found), ("", vec![want.to_owned()]));
        }
    }
}
