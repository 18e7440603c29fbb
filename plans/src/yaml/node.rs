//! The tree.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node<'s> {
    pub(crate) span: Span,
    pub(crate) value: Value<'s>,
}

/// What a node holds.
///
/// A scalar keeps its text as written: whoever reads it decides what it should be, so that `mode: 0644`, `version: 1.10`
/// and `restart: no` mean what their authors mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'s> {
    Scalar {
        text: Cow<'s, str>,
        plain: bool,
    },
    List(Vec<Node<'s>>),
    /// Keys are text, and each stands once.
    Map(Vec<(Key<'s>, Node<'s>)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key<'s> {
    pub(crate) span: Span,
    pub(crate) text: Cow<'s, str>,
}

impl<'s> Node<'s> {
    /// Tells whether this is one of YAML's ways to write nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_ref(), "" | "~" | "null"))
    }

    /// Returns the value under a key, where this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'s>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(known, _)| known.text == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Says what the node is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { text, .. } => {
                let line = text.lines().next().unwrap_or_default();
                match line.char_indices().nth(40) {
                    Some((at, _)) => format!("`{}…`", &line[..at]),
                    None => format!("`{line}`"),
                }
            }
        }
    }

    /// Returns the value as JSON, by YAML's own rules for unquoted scalars.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            _ if self.is_null() => Json::Null,
            Value::Scalar { text, plain: true } => match text.as_ref() {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                text => match (text.parse::<i64>(), text.parse::<f64>()) {
                    // Text such as 0644 or 1_000 stays text; so does what would not come back as it was written.
                    (Ok(number), _) if number.to_string() == text => number.into(),
                    (_, Ok(number)) if number.is_finite() && number.to_string() == text => number.into(),
                    _ => text.into(),
                },
            },
            Value::Scalar { text, plain: false } => text.as_ref().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, value)| (key.text.to_string(), value.to_json())).collect(),
        }
    }
}
