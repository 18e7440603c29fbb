//! What the program prints, kept as transcripts in `tests/cli`.
//!
//! They run the real program and the real engine, in a home folder of their own and below a deploy's name nobody else
//! has: a deploy belongs to its user and its name, so no transcript can touch what its reader has deployed. After a change
//! that is meant, `TRYCMD=overwrite cargo test -p charly --test cli` writes them anew.

#[test]
fn transcripts() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().canonicalize().unwrap();
    let cases = trycmd::TestCases::new();
    cases.env("HOME", path.to_str().unwrap()).env("NO_COLOR", "1").env("COLUMNS", "100");
    for base in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
        cases.env(base, "");
    }
    cases.insert_var("[HOME]", path.to_string_lossy().into_owned()).unwrap();
    cases.case("tests/cli/*.trycmd");
}
