//! A cursor over a mapping's keys.

use super::{FromYaml, Problem, Reader};
use crate::diagnostic::suggestion;
use crate::source::Span;
use crate::yaml::{Key, Node, Value};

/// A mapping whose keys are taken one by one; what nobody took is a mistake.
#[derive(Default)]
pub(crate) struct Fields<'n, 's> {
    /// The first key, which stands for the mapping in messages.
    head: Span,
    entries: Vec<Option<&'n (Key<'s>, Node<'s>)>>,
}

impl<'n, 's> Fields<'n, 's> {
    pub(crate) fn of(node: &'n Node<'s>, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => {
                let start = Span { end: node.span.start, ..node.span };
                let head = entries.first().map_or(start, |(key, _)| key.span);
                Some(Self { head, entries: entries.iter().map(Some).collect() })
            }
            _ => cx.wrong_type(node, "a mapping"),
        }
    }

    /// Takes the entry under one of the names that a key goes by.
    pub(crate) fn entry(&mut self, names: &[&str]) -> Option<&'n (Key<'s>, Node<'s>)> {
        let named = |entry: &&mut Option<&(Key<'s>, Node<'s>)>| {
            entry.is_some_and(|(key, _)| names.contains(&key.text.as_ref()))
        };
        self.entries.iter_mut().find(named)?.take()
    }

    /// Reads the value under one of the names that a key goes by.
    pub(crate) fn take<T: FromYaml>(&mut self, names: &[&'static str], cx: &mut Reader<'_>) -> Option<T> {
        let Some((key, value)) = self.entry(names) else {
            let absent = T::absent();
            if absent.is_none() {
                return cx.error(self.head(), format!("`{}` is missing", names[0]));
            }
            return absent;
        };
        if let Some((again, _)) = names.get(1).and_then(|_| self.entry(names)) {
            return cx.error(again.span, format!("`{}` and `{}` are the same key", key.text, again.text));
        }
        let read = T::read(value, cx);
        // A mistake in an optional value is in the findings already; the rest of the mapping is worth reading.
        if read.is_none() { T::absent() } else { read }
    }

    /// Returns those of the names that are keys nobody has taken, in the names' order.
    pub(crate) fn present(&self, names: &[&str]) -> Vec<&'n Key<'s>> {
        names.iter().filter_map(|name| self.keys().find(|key| key.text == *name)).collect()
    }

    /// Returns the keys nobody has taken.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'n Key<'s>> {
        self.entries.iter().flatten().map(|(key, _)| key)
    }

    /// Returns what nobody has taken.
    pub(crate) fn rest(&mut self) -> Vec<&'n (Key<'s>, Node<'s>)> {
        self.entries.iter_mut().filter_map(Option::take).collect()
    }

    /// Ends the reading: whatever is left has no meaning here.
    pub(crate) fn finish<'k>(mut self, known: &(impl IntoIterator<Item = &'k str> + Clone), cx: &mut Reader<'_>) {
        for (key, _) in self.rest() {
            if cx.is_full() {
                break;
            }
            let hint = suggestion(&key.text, known.clone()).or_else(|| {
                let known: Vec<_> = known.clone().into_iter().collect();
                (known.len() <= 8).then(|| format!("the keys here are {}", listing(&known)))
            });
            cx.error::<()>(key.span, Problem { message: format!("unknown key `{}`", key.text), hint });
        }
    }

    /// Returns the place that stands for the mapping in messages.
    pub(crate) fn head(&self) -> Span {
        self.head
    }
}

/// Writes names as people list them.
pub(crate) fn listing(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
