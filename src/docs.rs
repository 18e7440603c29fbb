//! The reference of the command line, generated from what can be typed.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

/// Set to write the reference instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn the_reference_is_what_can_be_typed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let want = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == want, "docs/cli.md is not what can be typed; run `{UPDATE}=1 cargo test -p charly reference`");
}

fn reference() -> String {
    let mut text = "# Command line\n\nGenerated from the program; a test fails where they differ.\n".to_owned();
    let mut charly = Cli::command().term_width(100);
    charly.build();
    describe(&charly, "charly", &mut text);
    text
}

fn describe(command: &Command, name: &str, text: &mut String) {
    let mut shown = command.clone().term_width(100).disable_help_subcommand(true);
    let help = shown.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()).unwrap();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        describe(verb, &format!("{name} {}", verb.get_name()), text);
    }
}
