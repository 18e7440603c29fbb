//! The real engine, started from where it can be.

use charly_target_core::DeployTarget as _;
use charly_target_local::{Local, Settings};
use pollster::block_on;

/// One test, alone in its process: a program that was just written cannot be started while another thread's child still
/// holds it open.
#[test]
fn the_engine_is_started_from_the_first_folder_that_allows_it() {
    let base = tempfile::tempdir().unwrap();
    let (file, home) = (base.path().join("file"), base.path().join("home"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&home).unwrap();
    let settings = |folders: &[&str]| Settings {
        engine_folders: folders.iter().map(|folder| base.path().join(folder)).collect(),
        home: Some(home.clone()),
        terminal: false,
    };
    let local = Local::new("local", settings(&["file/engine", "engine"]));
    let status = block_on(local.status()).unwrap();
    assert_eq!(status.facts.user.uid, rustix::process::geteuid().as_raw());
    assert_eq!(status.facts.user.home, home.to_str().unwrap());
    assert_eq!(std::fs::read_dir(base.path().join("engine")).unwrap().count(), 1);

    let nowhere = Local::new("local", settings(&["file/engine"]));
    let error = block_on(nowhere.status()).unwrap_err();
    assert_eq!(error.to_string(), "`local` cannot be reached");
}
