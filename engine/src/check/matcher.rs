//! Compares a string with matchers.

use charly_ir::check::Matcher;
use charly_ir::text::Tokens;
use regex_lite::Regex;

use super::findings::{Findings, quote};

/// Adds a finding for every matcher that does not hold.
pub(super) fn compare(findings: &mut Findings, what: &str, found: &str, matchers: &[Matcher], tokens: &Tokens) {
    for matcher in matchers {
        if let Err(wanted) = judge(matcher, found, tokens) {
            findings.add(format!("{what}: wanted {wanted}, found {}", quote(found)));
        }
    }
}

/// Returns what was wanted where a matcher does not hold.
fn judge(matcher: &Matcher, found: &str, tokens: &Tokens) -> Result<(), String> {
    let (holds, wanted) = match matcher {
        Matcher::Equals(text) => {
            let text = text.resolve(tokens);
            (found.trim() == text.trim(), quote(text.trim()))
        }
        Matcher::Contains(text) => {
            let text = text.resolve(tokens);
            (found.contains(&text), format!("something with {}", quote(&text)))
        }
        Matcher::NotContains(text) => {
            let text = text.resolve(tokens);
            (!found.contains(&text), format!("nothing with {}", quote(&text)))
        }
        Matcher::Matches(pattern) => match Regex::new(pattern) {
            // As in Perl and grep, `$` is the end of the last line, whether or not a line end follows.
            Ok(regex) => {
                (regex.is_match(found.strip_suffix('\n').unwrap_or(found)), format!("a match of {}", quote(pattern)))
            }
            Err(error) => (false, format!("a match of {}, which is no regular expression ({error})", quote(pattern))),
        },
    };
    if holds { Ok(()) } else { Err(wanted) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens() -> Tokens {
        Tokens { home: "/home/ann".into(), user: "ann".into(), uid: 1000, gid: 100 }
    }

    fn holds(matcher: &Matcher, found: &str) -> bool {
        judge(matcher, found, &tokens()).is_ok()
    }

    #[test]
    fn matchers_say_what_they_wanted() {
        let matches = |pattern: &str| Matcher::Matches(pattern.to_owned());
        for (matcher, found, want) in [
            (Matcher::Equals(" a ".into()), "\ta\n", ""),
            (Matcher::Equals("a".into()), "a b", "x: wanted `a`, found `a b`"),
            (Matcher::Equals("{{.Home}}/f".into()), "/home/ann/f\n", ""),
            (Matcher::Contains("{{.User}}".into()), "I am ann.", ""),
            (Matcher::Contains("a\nb".into()), "a b", "x: wanted something with `a\\nb`, found `a b`"),
            (Matcher::NotContains("b".into()), "a", ""),
            (Matcher::NotContains("b".into()), "abc", "x: wanted nothing with `b`, found `abc`"),
            (matches("^v[0-9]+"), "v12", ""),
            (matches("(?m)^b$"), "a\nb\nc", ""),
            (matches("^b$"), "b\n", ""),
            (matches("^b$"), "a\nb\nc", "x: wanted a match of `^b$`, found `a\\nb\\nc`"),
            (
                matches("("),
                "(",
                "x: wanted a match of `(`, which is no regular expression (found open group without closing ')'), found `(`",
            ),
        ] {
            let mut findings = Findings::default();
            compare(&mut findings, "x", found, std::slice::from_ref(&matcher), &tokens());
            assert_eq!(findings.into_evidence(), want, "{matcher:?}");
        }
    }

    proptest! {
        #[test]
        fn containing_is_the_opposite_of_not_containing(text in "[ab]{0,3}", found in "[ab\n]{0,8}") {
            let (with, without) = (Matcher::Contains(text.as_str().into()), Matcher::NotContains(text.as_str().into()));
            prop_assert_ne!(holds(&with, &found), holds(&without, &found));
        }

        #[test]
        fn what_equals_also_contains_and_matches_itself(text in "\\PC{0,20}") {
            let text = text.replace("{{.", "");
            let (padded, within) = (format!(" {text}\n"), format!("<{text}>"));
            prop_assert!(holds(&Matcher::Equals(text.as_str().into()), &padded));
            prop_assert!(holds(&Matcher::Contains(text.as_str().into()), &within));
            prop_assert!(holds(&Matcher::Matches(regex_lite::escape(&text)), &within));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in "[a(\\[{*+?|)\\]}\\\\^$.0-9,]{0,12}", found in "\\PC{0,12}") {
            let _ = holds(&Matcher::Matches(pattern), &found);
        }
    }
}
