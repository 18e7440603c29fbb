//! Keeps secrets out of what programs print.

use std::borrow::Cow;

const HIDDEN: &[u8] = b"[redacted]";

/// Replaces known values in a stream, however the stream is cut into pieces.
pub(super) struct Veil<'a> {
    secrets: Vec<&'a [u8]>,
    /// The end of what came so far, while it may be the beginning of a secret.
    held: Vec<u8>,
}

impl<'a> Veil<'a> {
    /// Hides these values; white space around one is no part of it, since shells drop it.
    pub(super) fn new(secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut secrets: Vec<_> =
            secrets.map(|secret| secret.trim().as_bytes()).filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets, held: Vec::new() }
    }

    /// Takes a piece, and returns what can be shown by now.
    pub(super) fn pass<'b>(&mut self, piece: &'b [u8]) -> Cow<'b, [u8]> {
        if self.secrets.is_empty() {
            return Cow::Borrowed(piece);
        }
        self.held.extend_from_slice(piece);
        Cow::Owned(self.shown(false))
    }

    /// Returns what is left at the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        self.shown(true)
    }

    fn shown(&mut self, last: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while let Some((byte, _)) = self.held[at..].split_first() {
            let ahead = &self.held[at..];
            if !last && self.secrets.iter().any(|secret| secret.len() > ahead.len() && secret.starts_with(ahead)) {
                break;
            }
            if let Some(secret) = self.secrets.iter().find(|secret| ahead.starts_with(secret)) {
                shown.extend_from_slice(HIDDEN);
                at += secret.len();
            } else {
                shown.push(*byte);
                at += 1;
            }
        }
        self.held.drain(..at);
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn veiled(secrets: &[&str], pieces: &[&str]) -> String {
        let mut veil = Veil::new(secrets.iter().copied());
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| veil.pass(piece.as_bytes()).into_owned()).collect();
        shown.extend(veil.rest());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn secrets_are_hidden_wherever_the_stream_is_cut() {
        for (secrets, pieces, want) in [
            (&["abc"][..], &["x abc y"][..], "x [redacted] y"),
            (&["abc"], &["x a", "b", "c y"], "x [redacted] y"),
            (&["abc"], &["ab", "abc", "ab"], "ab[redacted]ab"),
            (&["abc", "abcdef"], &["abc", "def abc"], "[redacted] [redacted]"),
            (&[" abc\n"], &["abc"], "[redacted]"),
            (&["", "\n"], &["a", "b"], "ab"),
            (&[], &["a", "b"], "ab"),
        ] {
            assert_eq!(veiled(secrets, pieces), want, "{secrets:?} {pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_makes_no_difference(pieces in prop::collection::vec("[ab]{0,4}", 0..6)) {
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            let shown = veiled(&["aab", "ba"], &pieces);
            prop_assert_eq!(&shown, &veiled(&["aab", "ba"], &[&pieces.concat()]));
            prop_assert!(!shown.replace("[redacted]", "|").contains("aab"));
        }
    }
}
