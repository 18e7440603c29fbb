//! Patterns for arguments: which are allowed, and which are kept out of the audit log.

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, de::Error as _};

/// What stands in the audit log where a value was taken out.
const HIDDEN: &str = "[redacted]";

/// A credential shorter than this is not searched for: it would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Holds a regular expression that has to match a whole argument; it takes time linear in the argument.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, regex_lite::Error> {
        // `\A` and `\z` rather than `^` and `$`: a pattern may turn on multi-line mode within itself.
        Regex::new(text)?;
        Regex::new(&format!(r"\A(?s:{text})\z")).map(Self)
    }

    pub(crate) fn matches(&self, argument: &str) -> bool {
        self.0.is_match(argument)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(|error| D::Error::custom(format!("`{text}` is no pattern: {error}")))
    }
}

/// Describes argument lists: the first arguments by position, and what each further one may be.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Form {
    begin: Vec<Pattern>,
    rest: Vec<Pattern>,
}

impl Form {
    pub(crate) fn allows(&self, arguments: &[String]) -> bool {
        let Some((begin, rest)) = arguments.split_at_checked(self.begin.len()) else { return false };
        self.begin.iter().zip(begin).all(|(pattern, argument)| pattern.matches(argument))
            && rest.iter().all(|argument| self.rest.iter().any(|pattern| pattern.matches(argument)))
    }
}

/// Returns the arguments as the audit log may show them.
///
/// An argument that matches a pattern is hidden. Where it is an option by itself (`--password`), its name stays and the
/// next argument, its value, is hidden. The credentials the run was given are hidden wherever they occur.
pub(crate) fn redact(arguments: &[String], patterns: &[Pattern], secrets: &[&str]) -> Vec<String> {
    let mut hide_next = false;
    arguments
        .iter()
        .map(|argument| {
            let matched = patterns.iter().any(|pattern| pattern.matches(argument));
            let option_alone = matched && argument.starts_with('-') && !argument.contains('=');
            if std::mem::replace(&mut hide_next, option_alone) || (matched && !option_alone) {
                return HIDDEN.to_owned();
            }
            secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET).fold(argument.clone(), |text, secret| {
                if text.contains(secret) { text.replace(secret, HIDDEN) } else { text }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(begin: &[&str], rest: &[&str]) -> Form {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
        Form { begin: patterns(begin), rest: patterns(rest) }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn forms() {
        let issues = form(&["issue", "list|view"], &["--json", "[0-9]+"]);
        for (arguments, allowed) in [
            (vec!["issue", "list"], true),
            (vec!["issue", "view", "12", "--json"], true),
            (vec!["issue"], false),
            (vec![], false),
            (vec!["issue", "listen"], false),
            (vec!["issue", "list", "--web"], false),
            (vec!["auth", "token"], false),
            (vec!["issue", "view", "12\nx"], false),
            (vec!["issue\n", "view"], false),
        ] {
            assert_eq!(issues.allows(&strings(&arguments)), allowed, "{arguments:?}");
        }
        assert!(form(&[], &[]).allows(&[]));
        assert!(!form(&[], &[]).allows(&strings(&["x"])));
    }

    #[test]
    fn a_pattern_covers_the_whole_argument() {
        for (pattern, argument) in [("a|b", "ab"), ("a|b", "xb"), ("(?m)^a$", "a\nb"), ("[a-z]+", "abc\n")] {
            assert!(!Pattern::new(pattern).unwrap().matches(argument), "{pattern} {argument:?}");
        }
        assert!(Pattern::new("a)(b").is_err(), "parentheses cannot close the frame around a pattern");
    }

    #[test]
    fn redaction() {
        let patterns = [Pattern::new("--password(=.*)?").unwrap(), Pattern::new("key-.*").unwrap()];
        let shown = redact(
            &strings(&["login", "--password", "hunter2", "--password=x", "key-1", "url?t=s3cr3t-t0k", "--password"]),
            &patterns,
            &["s3cr3t-t0k", "url"],
        );
        let expected = ["login", "--password", HIDDEN, HIDDEN, HIDDEN, "url?t=[redacted]", "--password"];
        assert_eq!(shown, expected);
    }

    proptest! {
        #[test]
        fn no_secret_passes(before in "[a-z ]{0,9}", secret in "[A-Z0-9]{6,20}", after in "[a-z ]{0,9}") {
            let shown = redact(&[format!("{before}{secret}{after}")], &[], &[&secret]);
            prop_assert!(!shown[0].contains(&secret));
        }
    }
}
