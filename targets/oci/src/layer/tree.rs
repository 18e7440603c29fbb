//! Layers merged, by what they say alone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Entry, Kind, LayerError};

const MAX_LINKS: usize = 40;

/// What a root made of layers has at each path, without its contents.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// By path; whiteouts are never in it, and everything's folder is.
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Takes what a layer says about one path. The entries of a layer come sorted, as [`list`](super::list()) has them: a
    /// folder that is opaque comes before what the same layer has in it.
    pub fn apply(&mut self, mut entry: Entry) {
        match entry.kind {
            // Its folder is there, if only to hold the whiteout.
            Kind::Whiteout => {
                self.remove(&entry.path);
                return self.make_folders(&entry.path);
            }
            Kind::OpaqueDir => {
                self.remove_below(&entry.path);
                entry.kind = Kind::Dir;
            }
            Kind::Dir => {}
            _ => self.remove(&entry.path),
        }
        self.make_folders(&entry.path);
        self.entries.insert(entry.path.clone(), entry);
    }

    /// Returns what is at a path, which is taken as it is: no link is followed.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns where a path leads, following links as they would be followed with the tree as root. What does not exist yet is
    /// named where it would come to be.
    pub fn resolve(&self, path: &str, follow_last: bool) -> Result<String, LayerError> {
        let mut real = String::with_capacity(path.len());
        // What is still to be walked, the next part last.
        let mut parts: Vec<Cow<'_, str>> = path.split('/').rev().map(Cow::Borrowed).collect();
        let mut links = 0;
        while let Some(part) = parts.pop() {
            match &*part {
                "" | "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let is_last = parts.iter().all(|part| matches!(&**part, "" | "."));
            let above = real.len();
            if above > 0 {
                real.push('/');
            }
            real.push_str(&part);
            match self.entries.get(&real).map(|entry| &entry.kind) {
                Some(Kind::Symlink { target }) if follow_last || !is_last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LayerError::Loop { path: path.to_owned() });
                    }
                    real.truncate(if target.starts_with('/') { 0 } else { above });
                    parts.extend(target.split('/').rev().map(|part| Cow::Owned(part.to_owned())));
                }
                None | Some(Kind::Dir) => {}
                Some(_) if is_last => {}
                Some(_) => return Err(LayerError::NoFolder { path: path.to_owned(), through: real }),
            }
        }
        Ok(real)
    }

    /// Returns everything there is, sorted by path; folders come before what is in them.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    fn remove(&mut self, path: &str) {
        if let Some(entry) = self.entries.remove(path)
            && entry.kind == Kind::Dir
        {
            self.remove_below(path);
        }
    }

    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            self.entries.clear();
            return;
        }
        // `0` follows `/`.
        let below = self.entries.range(format!("{path}/")..format!("{path}0"));
        for path in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.entries.remove(&path);
        }
    }

    /// Sees that a path's folders are folders; a layer need not name those that it has things in.
    fn make_folders(&mut self, path: &str) {
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/') {
            if self.entries.get(folder).is_some_and(|entry| entry.kind == Kind::Dir) {
                return;
            }
            self.entries.insert(folder.to_owned(), implied(folder));
            above = folder;
        }
    }
}

/// Returns a folder that no layer describes.
pub(crate) fn implied(path: &str) -> Entry {
    Entry { path: path.to_owned(), kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { kind, ..implied(path) }
    }

    fn file() -> Kind {
        Kind::File { size: 0 }
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    fn tree(entries: &[(&str, Kind)]) -> Tree {
        let mut tree = Tree::default();
        for (path, kind) in entries {
            tree.apply(entry(path, kind.clone()));
        }
        tree
    }

    fn paths(tree: &Tree) -> String {
        tree.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn layers_hide_what_is_below() {
        let base = [("a/b/c", file()), ("a/b.x", file()), ("a/b0", file()), ("a-b", file()), ("d", link("a"))];
        for (over, want) in [
            (("a/b", Kind::Whiteout), "a a-b a/b.x a/b0 d"),
            (("a", Kind::Whiteout), "a-b d"),
            (("a", Kind::OpaqueDir), "a a-b d"),
            (("a", Kind::Dir), "a a-b a/b a/b.x a/b/c a/b0 d"),
            (("a/b", file()), "a a-b a/b a/b.x a/b0 d"),
            (("d/e", file()), "a a-b a/b a/b.x a/b/c a/b0 d d/e"),
            (("", Kind::OpaqueDir), ""),
            (("x", Kind::Whiteout), "a a-b a/b a/b.x a/b/c a/b0 d"),
            (("x/y/z", Kind::Whiteout), "a a-b a/b a/b.x a/b/c a/b0 d x x/y"),
        ] {
            let mut tree = tree(&base);
            tree.apply(entry(over.0, over.1.clone()));
            assert_eq!(paths(&tree).trim_start(), want, "{over:?}");
        }
    }

    #[test]
    fn paths_lead_where_a_root_would_have_them() {
        let tree = tree(&[
            ("usr/bin/x", file()),
            ("bin", link("usr/bin")),
            ("abs", link("/usr")),
            ("up", link("../../../usr/./bin/")),
            ("usr/up", link("..")),
            ("self", link("self")),
            ("dangling", link("no/where")),
            ("twice", link("abs/bin/x")),
        ]);
        for (path, follow, want) in [
            ("bin/x", true, "usr/bin/x"),
            ("/bin//./x/", true, "usr/bin/x"),
            ("bin", false, "bin"),
            ("bin/", false, "bin"),
            ("bin", true, "usr/bin"),
            ("abs/new/thing", true, "usr/new/thing"),
            ("up/x", true, "usr/bin/x"),
            ("usr/up/bin/x", true, "usr/bin/x"),
            ("../../etc/x", true, "etc/x"),
            ("no/../bin/x", true, "usr/bin/x"),
            ("dangling/file", true, "no/where/file"),
            ("twice", true, "usr/bin/x"),
            ("", true, ""),
            ("/", false, ""),
            ("self", false, "self"),
        ] {
            assert_eq!(tree.resolve(path, follow).unwrap(), want, "{path}");
        }
        assert!(matches!(tree.resolve("self/x", false), Err(LayerError::Loop { .. })));
        assert!(
            matches!(tree.resolve("twice/y", true), Err(LayerError::NoFolder { through, .. }) if through == "usr/bin/x")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a set of paths that is searched from end to end.
        #[test]
        fn layers_apply_as_the_specification_says(
            said in prop::collection::vec(("[ab](/[ab.0]){0,3}", 0..4_u8), 0..20),
        ) {
            let mut tree = Tree::default();
            let mut simple: BTreeSet<(String, bool)> = BTreeSet::new();
            for (path, kind) in said {
                let below = format!("{path}/");
                let kind = [file(), Kind::Dir, Kind::OpaqueDir, Kind::Whiteout][usize::from(kind)].clone();
                if kind != Kind::Dir {
                    simple.retain(|(known, _)| !known.starts_with(&below));
                }
                simple.retain(|(known, _)| *known != path);
                for (at, _) in path.match_indices('/') {
                    simple.remove(&(path[..at].to_owned(), false));
                    simple.insert((path[..at].to_owned(), true));
                }
                if kind != Kind::Whiteout {
                    simple.insert((path.clone(), kind != file()));
                }
                tree.apply(entry(&path, kind));
            }
            let got: BTreeSet<_> = tree.iter().map(|entry| (entry.path.clone(), entry.kind == Kind::Dir)).collect();
            prop_assert_eq!(got, simple);
        }
    }
}
