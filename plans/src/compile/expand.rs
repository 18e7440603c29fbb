//! `${NAME}`, `~` and paths.

use std::collections::BTreeMap;
use std::ops::Range;

use charly_ir::Text;

use crate::diagnostic::suggestion;
use crate::load::LoadedCandy;
use crate::read::Problem;
use crate::schema::Spanned;
use crate::source::Span;

/// The values that `${NAME}` stands for in one candy.
#[derive(Debug)]
pub(super) struct Variables<'a>(BTreeMap<&'a str, String>);

impl<'a> Variables<'a> {
    pub(super) fn of(candy: &'a LoadedCandy, arch: &str) -> Self {
        let debian = match arch {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "armv7l" => "armhf",
            "i686" => "386",
            other => other,
        };
        let automatic = [
            ("USER", Text::USER),
            ("UID", Text::UID),
            ("GID", Text::GID),
            ("HOME", Text::HOME),
            ("ARCH", debian),
            ("BUILD_ARCH", arch),
        ];
        let mut all: BTreeMap<_, _> = automatic.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        all.extend(candy.candy.var.iter().map(|(name, value)| (name.as_str(), value.value.clone())));
        Self(all)
    }

    /// Replaces every `${NAME}`. The error holds the part of the text that is wrong.
    pub(super) fn expand(&self, text: &str) -> Result<String, (Range<usize>, Problem)> {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(start) = text[at..].find("${").map(|found| at + found) {
            out.push_str(&text[at..start]);
            let Some(length) = text[start..].find('}') else {
                let problem = Problem::new("`${` is not closed", "write `${NAME}`");
                return Err((start..text.len(), problem));
            };
            let end = start + length + 1;
            let name = &text[start + 2..end - 1];
            if let Some(value) = self.0.get(name) {
                out.push_str(value);
            } else {
                let hint = suggestion(name, self.0.keys().copied())
                    .unwrap_or_else(|| "declare it under the candy's `var`".to_owned());
                return Err((start..end, Problem::new(format!("nothing says what `${{{name}}}` is"), hint)));
            }
            at = end;
        }
        out.push_str(&text[at..]);
        Ok(out)
    }
}

/// Turns a leading `~` into the home token.
pub(super) fn home(text: &str) -> String {
    match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{}{rest}", Text::HOME),
        _ => text.to_owned(),
    }
}

/// Turns what stands for the home folder in a variable's value into the home token.
pub(super) fn home_in_value(text: &str) -> Text {
    let text = home(text).replace("${HOME}", Text::HOME).replace("%(ENV_HOME)s", Text::HOME);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("$HOME") {
        out.push_str(before);
        // `$HOMEPAGE` is another variable.
        let longer = after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_');
        out.push_str(if longer { "$HOME" } else { Text::HOME });
        rest = after;
    }
    out.push_str(rest);
    Text::new(out)
}

/// Brings a path to its one form, or says why it is none: absolute or below the home, without `..`.
pub(super) fn path(text: &str) -> Result<String, Problem> {
    let text = home(text);
    let (root, rest) = match text.strip_prefix(Text::HOME) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => (Text::HOME, rest),
        _ if text.starts_with('/') => ("", text.as_str()),
        _ => {
            let hint = "begin it with `/`, `~/` or `${HOME}/`";
            return Err(Problem::new(format!("`{text}` is not an absolute path"), hint));
        }
    };
    let mut out = root.to_owned();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Problem::new(format!("`{text}` climbs with `..`"), "write where it leads")),
            part => {
                out.push('/');
                out.push_str(part);
            }
        }
    }
    if text.contains(['\0', '\n']) {
        return Err("a path has one line".into());
    }
    Ok(if out.is_empty() { "/".to_owned() } else { out })
}

/// Returns the place of a part of a scalar, or the whole where the scalar is not written as it reads.
pub(super) fn part_of(candy: &LoadedCandy, scalar: &Spanned<String>, range: Range<usize>) -> Span {
    let Span { start, end } = scalar.span;
    let written = candy.source.text().get(start as usize..end as usize).unwrap_or_default();
    if written == scalar.value {
        return scalar.span.part(range);
    }
    match written.get(1..written.len().saturating_sub(1)) {
        Some(inner) if inner == scalar.value => scalar.span.part(range.start + 1..range.end + 1),
        _ => scalar.span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (text, want) in [
            ("/a//b/./c/", Ok("/a/b/c")),
            ("/", Ok("/")),
            ("~", Ok("{{.Home}}")),
            ("~/x", Ok("{{.Home}}/x")),
            ("{{.Home}}/x/", Ok("{{.Home}}/x")),
            ("~root/x", Err("`~root/x` is not an absolute path")),
            ("a/b", Err("`a/b` is not an absolute path")),
            ("", Err("`` is not an absolute path")),
            ("/a/../b", Err("`/a/../b` climbs with `..`")),
            ("/a\nb", Err("a path has one line")),
        ] {
            let got = path(text).map_err(|problem| problem.message);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }

    #[test]
    fn the_home_is_found_in_values() {
        for (text, want) in [
            ("~/x", "{{.Home}}/x"),
            ("/usr/lib:$HOME/x", "/usr/lib:{{.Home}}/x"),
            ("$HOMEPAGE:${HOME}", "$HOMEPAGE:{{.Home}}"),
            ("a~b", "a~b"),
        ] {
            assert_eq!(home_in_value(text).as_str(), want, "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let variables = Variables(BTreeMap::from([("A", "${B}".to_owned()), ("VERSION", "v1".to_owned())]));
        assert_eq!(variables.expand("x${A}y$A${VERSION}").unwrap(), "x${B}y$Av1");
        let (range, problem) = variables.expand("a/${VERSON}").unwrap_err();
        assert_eq!((range, problem.hint.as_deref()), (2..11, Some("did you mean `VERSION`?")));
        assert_eq!(variables.expand("a${b").unwrap_err().1.message, "`${` is not closed");
    }
}
