//! Patterns as OpenSSH has them: `*` for any characters, `?` for one, `!` before a pattern that excludes.

/// Returns whether a pattern covers the whole text. Letters count as they are written.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    // Walking back to the last star alone is enough: a later star makes what an earlier one took irrelevant. That keeps hostile
    // patterns from taking more than `text * pattern` steps.
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut want) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(want) {
            Some(b'*') => {
                star = Some((at, want));
                want += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                at += 1;
                want += 1;
            }
            _ => {
                let Some((from, stood)) = star else { return false };
                star = Some((from + 1, stood));
                at = from + 1;
                want = stood + 1;
            }
        }
    }
    pattern[want..].iter().all(|byte| *byte == b'*')
}

/// Returns whether some pattern covers the text and none that begins with `!` does.
pub(crate) fn matches_any<'a>(text: &str, patterns: impl IntoIterator<Item = &'a str>) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text, pattern) => return false,
            Some(_) => {}
            None => found |= matches(text, pattern),
        }
    }
    found
}

/// Returns whether a comma-separated list of patterns covers a host's name, whose letters' case does not count.
pub(crate) fn list_matches_host(host: &str, list: &str) -> bool {
    matches_any(&host.to_ascii_lowercase(), list.to_ascii_lowercase().split(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_the_whole_text() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "*", true),
            ("", "?", false),
            ("a", "", false),
            ("web1", "web?", true),
            ("web", "web?", false),
            ("web12", "web?", false),
            ("a.b.example.org", "*.example.org", true),
            ("example.org", "*.example.org", false),
            ("abcabd", "*abd", true),
            ("aab", "a*a*b", true),
            ("ab", "a*a*b", false),
            ("Web", "web", false),
            ("[h]:22", "[h]:*", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} against {pattern}");
        }
    }

    #[test]
    fn what_is_excluded_wins_over_any_order() {
        for (host, list, expected) in [
            ("a", "a,b", true),
            ("a", "!a,*", false),
            ("a", "*,!a", false),
            ("b", "!a", false),
            ("b", "!a,*", true),
            ("WEB", "web", true),
            ("web", "WEB", true),
            ("web", "", false),
        ] {
            assert_eq!(list_matches_host(host, list), expected, "{host} in {list}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_ages() {
        let text = "a".repeat(10_000);
        assert!(!matches(&text, &format!("{}b", "a*".repeat(1_000))));
    }
}
