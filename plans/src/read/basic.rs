//! How text, numbers, lists and mappings are read.

use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::{Definitions, FromYaml, Reader};
use crate::source::Span;
use crate::yaml::{Node, Value};

/// A value and where it stands in its document. Two are equal if their values are.
#[derive(Clone, Copy, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// A mapping in its author's order, with the places of its keys.
#[derive(Clone, PartialEq)]
pub struct Map<T>(Vec<(Spanned<String>, T)>);

/// A type that is written as text with a form of its own.
pub(crate) trait FromText: Sized + fmt::Display {
    /// Reads the text, or says what is wrong with it.
    fn from_text(text: &str) -> Result<Self, Problem>;

    /// Describes the text, as JSON schema.
    fn text_schema() -> Json;
}

/// What is wrong with a value, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

impl<T: Into<String>> From<T> for Problem {
    fn from(message: T) -> Self {
        Self { message: message.into(), hint: None }
    }
}

impl<T> Spanned<T> {
    /// Puts a value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> Map<T> {
    /// Returns the value under a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known.value == key).map(|(_, value)| value)
    }

    /// Returns the entries in their author's order.
    pub fn iter(&self) -> impl Iterator<Item = (&Spanned<String>, &T)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Tells whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: FromText> FromYaml for T {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        let text = scalar(node, "text", cx)?;
        match T::from_text(text) {
            Ok(value) => Some(value),
            Err(problem) => cx.error(node.span, problem),
        }
    }

    fn schema(_: &mut Definitions) -> Json {
        T::text_schema()
    }
}

impl FromYaml for String {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        scalar(node, "text", cx).map(str::to_owned)
    }

    fn schema(_: &mut Definitions) -> Json {
        json!({"type": ["string", "number", "boolean"]})
    }
}

impl FromYaml for bool {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        match scalar(node, "`true` or `false`", cx)? {
            "true" => Some(true),
            "false" => Some(false),
            text => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => Some("write `true`".to_owned()),
                    "no" | "off" | "n" | "false" => Some("write `false`".to_owned()),
                    _ => None,
                };
                let message = format!("expected `true` or `false`, found {}", node.describe());
                cx.error(node.span, Problem { message, hint })
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(false)
    }

    fn is_absent(&self) -> bool {
        !self
    }

    fn schema(_: &mut Definitions) -> Json {
        json!({"type": "boolean", "default": false})
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl FromYaml for $number {
            fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
                let text = scalar(node, "a number", cx)?;
                match text.parse() {
                    Ok(number) => Some(number),
                    Err(_) if text.parse::<i128>().is_ok() => {
                        let (least, most) = (<$number>::MIN, <$number>::MAX);
                        cx.error(node.span, format!("`{text}` is not between {least} and {most}"))
                    }
                    Err(_) => cx.wrong_type(node, "a number"),
                }
            }

            fn schema(_: &mut Definitions) -> Json {
                json!({"type": "integer", "minimum": <$number>::MIN, "maximum": <$number>::MAX})
            }
        }
    )+};
}

numbers!(u16, u32, i32);

impl<T: FromYaml> FromYaml for Option<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        if node.is_null() { Some(None) } else { T::read(node, cx).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn overlay(&mut self, over: Self) {
        match (self.as_mut(), over) {
            (Some(value), Some(over)) => value.overlay(over),
            (None, over @ Some(_)) => *self = over,
            (_, None) => {}
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        T::schema(definitions)
    }
}

impl<T: FromYaml> FromYaml for Vec<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) => {
                let mut read = Vec::with_capacity(items.len());
                for item in items {
                    if cx.is_full() {
                        break;
                    }
                    read.extend(T::read(item, cx));
                }
                Some(read)
            }
            _ if node.is_null() => Some(Vec::new()),
            _ => {
                let message = format!("expected a list, found {}", node.describe());
                cx.error(node.span, Problem::new(message, "put it in brackets, or after a `- ` on a line of its own"))
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({"type": "array", "items": T::schema(definitions)})
    }
}

impl<T: FromYaml> FromYaml for Map<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => {
                let read = entries.iter().filter_map(|(key, value)| {
                    Some((Spanned::new(key.text.to_string(), key.span), T::read(value, cx)?))
                });
                Some(Self(read.collect()))
            }
            _ if node.is_null() => Some(Self::default()),
            _ => cx.wrong_type(node, "a mapping"),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    /// Mappings are merged key by key.
    fn overlay(&mut self, over: Self) {
        for (key, over) in over.0 {
            match self.0.iter_mut().find(|(known, _)| known.value == key.value) {
                Some((_, value)) => value.overlay(over),
                None => self.0.push((key, over)),
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({"type": "object", "additionalProperties": T::schema(definitions)})
    }
}

impl<T: FromYaml> FromYaml for Spanned<T> {
    fn read(node: &Node<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, cx).map(|value| Self { value, span: node.span })
    }

    fn absent() -> Option<Self> {
        T::absent().map(|value| Self { value, span: Span::default() })
    }

    fn is_absent(&self) -> bool {
        self.value.is_absent()
    }

    fn overlay(&mut self, over: Self) {
        if !over.is_absent() {
            self.value.overlay(over.value);
            self.span = over.span;
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        T::schema(definitions)
    }
}

impl FromYaml for Json {
    fn read(node: &Node<'_>, _: &mut Reader<'_>) -> Option<Self> {
        Some(node.to_json())
    }

    fn schema(_: &mut Definitions) -> Json {
        json!(true)
    }
}

/// Returns a scalar's text.
fn scalar<'n>(node: &'n Node<'_>, wanted: &str, cx: &mut Reader<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => cx.wrong_type(node, wanted),
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<(Spanned<String>, T)> for Map<T> {
    fn from_iter<I: IntoIterator<Item = (Spanned<String>, T)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<T: fmt::Debug> fmt::Debug for Map<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Map<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
