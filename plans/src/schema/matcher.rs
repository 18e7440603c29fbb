//! Conditions on text.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::read::{Definitions, FromYaml, Reader, Spanned, record};
use crate::source::Span;
use crate::yaml::{Node, Value};

/// Conditions that must all hold: one, a mapping of some, or a list of either.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matchers(pub Vec<Spanned<Matcher>>);

/// A condition on text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// It is contained. Bare text means this.
    Contains(String),
    /// It is the text, but for white space at both ends.
    Equals(String),
    /// The regular expression finds something.
    Matches(String),
    /// It is not contained.
    NotContains(String),
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(pub Vec<Spanned<String>>);

record! {
    /// Conditions on text.
    pub struct MatcherMap {
        /// What must be contained.
        pub contains: Texts,
        /// What it must be.
        pub equals: Texts,
        /// Regular expressions that must find something.
        pub matches: Texts,
        /// What must not be contained.
        pub not_contains: Texts,
    }
}

impl FromYaml for Matchers {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut all = Vec::new();
        for item in items {
            if !matches!(item.value, Value::Map(_)) {
                all.extend(String::read(item, cx).map(|text| Spanned::new(Matcher::Contains(text), item.span)));
                continue;
            }
            let Some(MatcherMap { contains, equals, matches, not_contains }) = MatcherMap::read(item, cx) else {
                continue;
            };
            let mut add = |texts: Texts, kind: fn(String) -> Matcher| {
                all.extend(texts.0.into_iter().map(|text| Spanned::new(kind(text.value), text.span)));
            };
            add(contains, Matcher::Contains);
            add(equals, Matcher::Equals);
            add(matches, Matcher::Matches);
            add(not_contains, Matcher::NotContains);
        }
        Some(Self(all))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let one = json!([String::schema(definitions), MatcherMap::schema(definitions)]);
        json!({"anyOf": [one[0], one[1], {"type": "array", "items": {"anyOf": one}}]})
    }
}

impl FromYaml for Texts {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::read(node, cx).map(Self),
            _ => Spanned::read(node, cx).map(|text| Self(vec![text])),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let text = String::schema(definitions);
        json!({"anyOf": [text, {"type": "array", "items": text}]})
    }
}

impl Matchers {
    /// Returns the conditions with their places.
    pub fn iter(&self) -> impl Iterator<Item = (&Matcher, Span)> {
        self.0.iter().map(|matcher| (&matcher.value, matcher.span))
    }
}

impl Serialize for Matchers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, text) = match self {
            Self::Contains(text) => ("contains", text),
            Self::Equals(text) => ("equals", text),
            Self::Matches(text) => ("matches", text),
            Self::NotContains(text) => ("not_contains", text),
        };
        serializer.collect_map([(key, text)])
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}
