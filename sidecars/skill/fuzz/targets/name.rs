//! Whatever a caller sends as a name, what it leads to lies in the skills folder.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    sync::OnceLock,
};

use charly_skill::{SkillFolder, SkillName};
use tempfile::TempDir;

/// Holds a skills folder full of ways out, and the inodes of what is inside.
struct World {
    skills: SkillFolder,
    inside: BTreeSet<u64>,
    _root: TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("skills");
        fs::create_dir_all(folder.join("sub")).unwrap();
        let program = |path: &Path| {
            fs::write(path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            fs::metadata(path).unwrap().ino()
        };
        program(&root.path().join("outside"));
        let inside = ["a", "b.sh", "c-d", "7", "sub/e"].map(|name| program(&folder.join(name))).into();
        for (name, target) in [
            ("f", "a"),
            ("g", "sub/e"),
            ("h", "../outside"),
            ("i", "/bin/sh"),
            ("j", "/proc/self/exe"),
            ("k", "k"),
            ("l", "sub"),
            ("m", "sub/../../outside"),
            ("n", "sub/../a"),
            ("o", ".."),
            ("p", "/"),
            ("q", "gone"),
        ] {
            symlink(target, folder.join(name)).unwrap();
        }
        World { skills: SkillFolder::open(&folder).unwrap(), inside, _root: root }
    })
}

pub(crate) fn fuzz(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(name) = SkillName::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    assert!(Path::new(text).components().count() == 1 && !text.contains(['/', '\0']) && !text.starts_with('.'));
    let world = world();
    if let Ok(program) = world.skills.resolve(&name) {
        let stat = fs::File::from(program.handle().try_clone_to_owned().unwrap()).metadata().unwrap();
        assert!(world.inside.contains(&stat.ino()), "{text:?} leads out");
    }
}
