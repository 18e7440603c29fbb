//! Builders: what npm, cargo and uv make outside of a machine is there, works, is not made twice, and goes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::kit::Result;
use crate::remote::Remote;

#[test]
fn what_is_built_comes_and_goes() -> Result {
    let Some(mut remote) = Remote::new("builders")? else { return Ok(()) };
    remote.keep_boxes();
    for candy in ["built-npm", "built-cargo", "built-uv"] {
        remote.there("deploy", candy);
        let owner = remote.world.ok("root", "find /home/deploy ! -user deploy");
        assert_eq!(owner, "", "{candy}: everything in a home is its user's");
        remote.gone("deploy", candy);
    }
    // What was made for one home would not work in another.
    let made = inodes(&remote);
    assert_eq!(made.len(), 3, "{made:?}");
    remote.there("deploy", "built-uv");
    assert_eq!(inodes(&remote), made, "nothing is made twice");
    remote.there("root", "built-uv");
    assert_eq!(artifacts(&remote).len(), 4);
    remote.run("root", "bundle del @ -y").exits(0);
    remote.gone("deploy", "built-uv");
    Ok(())
}

#[test]
fn what_is_built_goes_into_images() -> Result {
    let Some(mut remote) = Remote::new("builtinto")? else { return Ok(()) };
    remote.keep_boxes();
    remote.there("deploy", "built-cargo");
    let made = inodes(&remote);
    assert_eq!(made.len(), 1, "{made:?}");
    remote.gone("deploy", "built-cargo");
    // The same in an image, for the same home: from the same bytes.
    remote.run_here("box build built").exits(0);
    assert_eq!(inodes(&remote), made, "nothing is made twice");
    remote.run("deploy", "vm cp-box @ built --rootless").exits(0);
    let run = "podman run --rm --network none localhost/built";
    assert_eq!(remote.world.ok("deploy", &format!("{run} .cargo/bin/e2e-built")), "built by cargo, 42\n");
    assert_eq!(remote.world.ok("deploy", &format!("{run} find . -newermt 1980-01-01 ! -user deploy")), "");
    Ok(())
}

#[test]
fn what_cannot_be_built_touches_nothing() -> Result {
    let Some(mut remote) = Remote::new("unbuilt")? else { return Ok(()) };
    remote.keep_boxes();
    let project = remote.copy_of_the_project();
    let crate_ = project.path().join("candy/built-cargo");
    fs::write(crate_.join("src/main.rs"), "fn main() { nonsense }").unwrap();
    let candy = crate_.to_str().unwrap();
    let failed = remote.run("deploy", &format!("bundle add @ {candy} -y"));
    assert_ne!(failed.exit, 0, "{failed}");
    let error = failed.error();
    assert!(error.starts_with("`built-cargo` cannot be built with cargo: it ended with status "), "{error}");
    assert!(error.contains("cannot find value `nonsense`"), "{error}");

    let unknown = remote.run("deploy", &format!("bundle add @ {candy} -y --builder-image nowhere:1"));
    assert_ne!(unknown.exit, 0, "{unknown}");
    let error = unknown.error();
    assert!(error.contains("no box and no image is named `nowhere:1`"), "{error}");
    assert_eq!(artifacts(&remote), Vec::<String>::new());
    assert_eq!(remote.world.traces(), "");
    Ok(())
}

/// Tells one making from another, of all that was made.
fn inodes(remote: &Remote) -> Vec<u64> {
    let inode = |path: &String| fs::metadata(Path::new(path).join("members.json")).unwrap().ino();
    artifacts(remote).iter().map(inode).collect()
}

/// Returns the names of what was made.
fn artifacts(remote: &Remote) -> Vec<String> {
    let folder = remote.home().join(".cache/charly/builders/artifacts");
    let names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_whole = |path: &Path| path.join("members.json").exists();
    let mut names: Vec<_> = names.filter(|path| is_whole(path)).map(|path| path.display().to_string()).collect();
    names.sort();
    names
}
