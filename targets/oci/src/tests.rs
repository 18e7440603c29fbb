//! What tests share.

use std::process::Command;

/// Tells whether a program is installed. Where all tests are to be run (`CHARLY_LAB=1`, which is what `tests/run` sets once it has
/// installed what they need), one that is not there fails the test.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("CHARLY_LAB").is_none_or(|lab| lab != "1"), "`{program}` is not installed");
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: `{program}` is not installed");
        }
    }
    found
}
