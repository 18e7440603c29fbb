//! The language of systemd's unit files.

use std::fmt::Write as _;

/// A unit file under construction.
#[derive(Debug, Default)]
pub(super) struct UnitFile(String);

impl UnitFile {
    pub(super) fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}[{name}]");
    }

    /// Sets a key to text that is already in systemd's own form.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key}={value}");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Writes one word so that systemd reads it as it is. `expands_variables` says that the key is one of those in which
/// `$` begins a variable.
pub(super) fn word(text: &str, expands_variables: bool) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '%' => out.push_str("%%"),
            '$' if expands_variables => out.push_str("$$"),
            // A lone semicolon would end the command, even in quotes.
            ';' if text == ";" => out.push_str("\\x3b"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Writes text that takes the rest of a line, such as a description or a path.
pub(super) fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    // A backslash at the end would join the next line.
    first.trim().trim_end_matches('\\').replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are() {
        for (text, want) in [
            ("/usr/bin/x", "/usr/bin/x"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "\"100%%\""),
            ("$PATH", "\"$$PATH\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            (";", "\"\\x3b\""),
            ("a\n\u{1}", "\"a\\n\\x01\""),
            ("é", "\"é\""),
        ] {
            assert_eq!(word(text, true), want, "{text:?}");
        }
        assert_eq!(word("A=$B", false), "\"A=$B\"");
        assert_eq!(line("50% \\\nx"), "50%% ");
    }
}
