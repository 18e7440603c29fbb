//! Text of a venue, made safe for a terminal.

use anstream::adapter::strip_str;

/// Takes out escape sequences, control characters, and what reverses the direction of text. Line ends stay.
pub(crate) fn clean(text: &str) -> String {
    let text = strip_str(text).to_string();
    text.chars().filter_map(|c| if c == '\t' { Some(' ') } else { is_harmless(c).then_some(c) }).collect()
}

fn is_harmless(c: char) -> bool {
    c == '\n'
        || !(c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        for (text, want) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("over\rwritten\x08\x07", "overwritten"),
            ("a\tb\nc", "a b\nc"),
            ("\u{9b}31mx", "31mx"),
            ("evil\u{202e}txt.exe", "eviltxt.exe"),
            ("Grüße 🦀", "Grüße 🦀"),
        ] {
            assert_eq!(clean(text), want, "{text:?}");
        }
    }
}
