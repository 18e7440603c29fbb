//! The paths of an archive's members.

use super::UnpackError;

/// Returns a member's path as its components, `.` dropped. Absolute ones, `..` and what is no text are refused.
pub(super) fn components(path: &[u8]) -> Result<Vec<&str>, UnpackError> {
    let lossy = || UnpackError::Path(String::from_utf8_lossy(path).into_owned());
    let path = std::str::from_utf8(path).map_err(|_| lossy())?;
    if path.starts_with('/') || path.contains(['\0', '\n']) {
        return Err(lossy());
    }
    let components: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if components.contains(&"..") { Err(lossy()) } else { Ok(components) }
}

/// Tells whether a link at `path` that points to `target` stays within the folder that `path` is relative to.
pub(super) fn stays_within(path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let mut depth = path.split('/').count() - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        for (path, want) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("", Some("")),
            ("a/...", Some("a/...")),
            ("/a", None),
            ("..", None),
            ("a/../b", None),
            ("a\0b", None),
        ] {
            let got = components(path.as_bytes()).ok().map(|parts| parts.join("/"));
            assert_eq!(got.as_deref(), want, "{path:?}");
        }
        assert!(components(b"a/\xff").is_err());
    }

    #[test]
    fn links_stay_within() {
        for (path, target, want) in [
            ("a", "b", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("a/b/c", "../../../c", false),
            ("a", "b/../../c", false),
            ("a", "/etc/passwd", false),
            ("a", "", false),
        ] {
            assert_eq!(stays_within(path, target), want, "{path} -> {target}");
        }
    }
}
