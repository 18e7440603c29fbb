//! One line: its keyword and its arguments.

/// Splits a line into its keyword and what follows, or returns nothing for an empty line or a comment.
///
/// Between the two stand blanks, or one `=` with blanks around it.
pub(super) fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim_matches([' ', '\t', '\r', '\n', '\x0c']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_at(line.find([' ', '\t', '=', '"']).unwrap_or(line.len())),
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix('=').map_or(rest, |rest| rest.trim_start_matches([' ', '\t']));
    Some((keyword.to_ascii_lowercase(), rest))
}

/// Splits arguments at blanks that are not quoted, up to a comment. Returns nothing if a quote is not closed.
pub(super) fn arguments(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| matches!(letter, ' ' | '\t')).is_some() {}
        if letters.peek().is_none_or(|letter| *letter == '#') {
            return Some(found);
        }
        let mut argument = String::new();
        let mut quote = None;
        while let Some(letter) = letters.next_if(|letter| quote.is_some() || !matches!(letter, ' ' | '\t')) {
            match letter {
                '\\' => {
                    let escaped =
                        letters.next_if(|next| matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' '));
                    argument.push(escaped.unwrap_or('\\'));
                }
                '"' | '\'' if quote.is_none() => quote = Some(letter),
                _ if quote == Some(letter) => quote = None,
                _ => argument.push(letter),
            }
        }
        if quote.is_some() {
            return None;
        }
        found.push(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_end_at_blanks_or_one_equals_sign() {
        for (line, expected) in [
            ("", None),
            ("  \t", None),
            ("# Host a", None),
            ("  Port 22  ", Some(("port", "22"))),
            ("PORT=22", Some(("port", "22"))),
            ("Port \t=\t22\r", Some(("port", "22"))),
            ("Port ==22", Some(("port", "=22"))),
            ("\"Port\" 22", Some(("port", "22"))),
            ("User\"a b\"", Some(("user", "\"a b\""))),
            ("Port", Some(("port", ""))),
        ] {
            assert_eq!(keyword(line), expected.map(|(keyword, rest)| (keyword.to_owned(), rest)), "{line:?}");
        }
    }

    #[test]
    fn arguments_may_be_quoted() {
        for (text, expected) in [
            ("", Some(vec![])),
            ("a b\tc", Some(vec!["a", "b", "c"])),
            ("\"a b\" 'c d'", Some(vec!["a b", "c d"])),
            ("a\" \"b", Some(vec!["a b"])),
            ("a\\ b \\\"c\\\" d\\e", Some(vec!["a b", "\"c\"", "d\\e"])),
            ("\"a\\ b\"", Some(vec!["a\\ b"])),
            ("a # b", Some(vec!["a"])),
            ("a#b", Some(vec!["a#b"])),
            ("\"\"", Some(vec![""])),
            ("\"a", None),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|arguments| arguments.into_iter().map(str::to_owned).collect());
            assert_eq!(arguments(text), expected, "{text:?}");
        }
    }
}
