//! Which members of an archive are asked for.

/// Tells whether a member is asked for: itself or a folder it lies in, by path or by file name. No pattern asks for all.
pub(super) fn asked_for(patterns: &[String], components: &[&str]) -> bool {
    patterns.is_empty()
        || (1..=components.len()).any(|length| {
            let path = components[..length].join("/");
            let name = components[length - 1];
            patterns.iter().map(|pattern| pattern.trim_start_matches("./").trim_end_matches('/')).any(|pattern| {
                let subject = if pattern.contains('/') { path.as_str() } else { name };
                matches(pattern.as_bytes(), subject.as_bytes())
            })
        })
}

/// Matches a whole string; `*` stands for any run of characters but `/`, `?` for any one of them.
fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    // Where to go on when a run was too short: after the last star, one character later.
    let mut retry: Option<(usize, usize)> = None;
    while s < subject.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, s));
                p += 1;
            }
            Some(b'?') if subject[s] != b'/' => (p, s) = (p + 1, s + 1),
            Some(byte) if *byte == subject[s] => (p, s) = (p + 1, s + 1),
            _ => match retry {
                Some((after, from)) if subject[from] != b'/' => {
                    (p, s) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_name_paths_names_and_folders() {
        for (pattern, path, want) in [
            ("demo", "demo", true),
            ("demo", "demo-1/demo", true),
            ("demo", "demo-1/demos", false),
            ("bin", "pkg/bin/demo", true),
            ("*/bin/demo", "pkg/bin/demo", true),
            ("*/demo", "pkg/bin/demo", false),
            ("./pkg/bin/", "pkg/bin/demo", true),
            ("*.1", "man/demo.1", true),
            ("d?mo", "demo", true),
            ("d?mo", "dmo", false),
            ("*o", "demo.o.o", true),
        ] {
            let components: Vec<_> = path.split('/').collect();
            assert_eq!(asked_for(&[pattern.to_owned()], &components), want, "{pattern} {path}");
        }
        assert!(asked_for(&[], &["x"]));
    }

    /// The definition, as slow as it may be.
    fn naive(pattern: &[u8], subject: &[u8]) -> bool {
        match (pattern.split_first(), subject.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => naive(rest, subject),
            (Some((b'*', rest)), Some((first, tail))) => {
                naive(rest, subject) || (*first != b'/' && naive(pattern, tail))
            }
            (Some((b'?', rest)), Some((first, tail))) => *first != b'/' && naive(rest, tail),
            (Some((byte, rest)), Some((first, tail))) => byte == first && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_its_definition_says(pattern in "[ab*?/]{0,8}", subject in "[ab/]{0,8}") {
            prop_assert_eq!(
                matches(pattern.as_bytes(), subject.as_bytes()),
                naive(pattern.as_bytes(), subject.as_bytes())
            );
        }
    }
}
