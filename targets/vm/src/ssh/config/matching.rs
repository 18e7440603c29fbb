//! Whether a block's first line is about a host.

use crate::ssh::pattern;

/// What `Host` and `Match` compare with at the point they stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The host in this pass: as it was given, and in the last pass what it was resolved to.
    pub(super) pass_host: &'a str,
    /// The host as it was given.
    pub(super) original_host: &'a str,
    /// The host with what `HostName` made of it so far.
    pub(super) host: &'a str,
    /// Who logs in as far as that is known.
    pub(super) user: &'a str,
    /// The local user.
    pub(super) local_user: &'a str,
    /// Whether this is the last pass.
    pub(super) last_pass: bool,
}

/// What a `Match` line comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    /// Whether the block applies.
    pub(super) applies: bool,
    /// Whether the line asks for a last pass.
    pub(super) wants_last_pass: bool,
    /// The criterion that charly does not judge, because of which alone the block does not apply.
    pub(super) not_judged: Option<String>,
}

/// Returns whether a `Host` line's patterns are about the subject.
pub(super) fn host(subject: Subject<'_>, patterns: &[String]) -> bool {
    pattern::matches_any(subject.pass_host, patterns.iter().map(String::as_str))
}

/// Judges a `Match` line's criteria, or returns what is wrong with them.
pub(super) fn criteria(subject: Subject<'_>, arguments: &[String]) -> Result<Matched, String> {
    let mut matched = Matched { applies: true, ..Matched::default() };
    let mut words = split_values(arguments).peekable();
    let mut count = 0;
    if words.peek().is_none() {
        return Err("`Match` has no criterion".to_owned());
    }
    while let Some(word) = words.next() {
        let (negated, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
        let name = name.to_ascii_lowercase();
        let holds = match name.as_str() {
            "all" if count > 0 || words.peek().is_some() => return Err("`all` stands beside other criteria".to_owned()),
            "all" => true,
            "canonical" => subject.last_pass,
            "final" => {
                matched.wants_last_pass = true;
                subject.last_pass
            }
            _ => {
                count += 1;
                let value = words.next().ok_or_else(|| format!("`{name}` has no value"))?;
                match name.as_str() {
                    "host" => pattern::list_matches_host(subject.host, value),
                    "originalhost" => pattern::list_matches_host(subject.original_host, value),
                    "user" => pattern::matches_any(subject.user, value.split(',')),
                    "localuser" => pattern::matches_any(subject.local_user, value.split(',')),
                    _ => {
                        matched.not_judged = Some(name);
                        continue;
                    }
                }
            }
        };
        matched.applies &= holds != negated;
    }
    // What was not judged is worth a word only where nothing else kept the block away.
    matched.not_judged = matched.not_judged.filter(|_| matched.applies);
    matched.applies &= matched.not_judged.is_none();
    Ok(matched)
}

/// Takes `criterion=value` apart, which may be written so with blanks anywhere around the `=`.
fn split_values(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().flat_map(|argument| argument.splitn(2, '=')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(line: &str) -> Result<Matched, String> {
        let subject = Subject {
            pass_host: "web",
            original_host: "web",
            host: "web.example.org",
            user: "root",
            local_user: "me",
            last_pass: false,
        };
        criteria(subject, &line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_block_applies_if_all_its_criteria_hold() {
        for (line, expected) in [
            ("all", true),
            ("!all", false),
            ("host web.example.org", true),
            ("host web", false),
            ("Host *.Example.org", true),
            ("originalhost web,db", true),
            ("!originalhost web,db", false),
            ("host=*.org user=root", true),
            ("user root,!root", false),
            ("user Root", false),
            ("localuser m?", true),
            ("localuser m? user nobody", false),
            ("canonical", false),
            ("!canonical host *", true),
            ("canonical all", false),
        ] {
            assert_eq!(judge(line), Ok(Matched { applies: expected, ..Matched::default() }), "{line}");
        }
    }

    #[test]
    fn what_is_not_judged_keeps_the_block_away_and_is_told() {
        for (line, told) in [
            ("exec true", Some("exec")),
            ("!exec true", Some("exec")),
            ("host nobody exec true", None),
            ("exec true host nobody", None),
            ("tagged x", Some("tagged")),
        ] {
            assert_eq!(
                judge(line),
                Ok(Matched { applies: false, wants_last_pass: false, not_judged: told.map(str::to_owned) }),
                "{line}"
            );
        }
    }

    #[test]
    fn incomplete_criteria_are_refused() {
        for (line, expected) in [
            ("", "`Match` has no criterion"),
            ("host", "`host` has no value"),
            ("all host web", "`all` stands beside other criteria"),
            ("host web all", "`all` stands beside other criteria"),
        ] {
            assert_eq!(judge(line), Err(expected.to_owned()), "{line}");
        }
    }
}
