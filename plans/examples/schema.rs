//! Prints the JSON schema of a `charly.yml`:
//! `cargo run -p charly-plans --example schema > docs/schema/charly.schema.json`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let schema = serde_json::to_string_pretty(&charly_plans::schema::json_schema())?;
    writeln!(io::stdout(), "{schema}")
}
