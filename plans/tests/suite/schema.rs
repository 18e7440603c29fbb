//! The JSON schema that editors use.

use std::fs;
use std::path::PathBuf;

use charly_plans::schema::json_schema;

#[test]
fn the_committed_schema_is_current() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/charly.schema.json");
    let want = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    let have = fs::read_to_string(file).unwrap_or_default();
    assert!(have == want, "run: cargo run -p charly-plans --example schema > docs/schema/charly.schema.json");
}
