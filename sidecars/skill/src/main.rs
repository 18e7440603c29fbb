//! The program `charly-skill`.

use std::{error::Error, io::Write, process::ExitCode};

use charly_skill::cli::{Process, ServeArgs, run};
use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

/// Runs programs for a caller who may hold no credentials
#[derive(Parser)]
#[command(name = "charly-skill", version)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> ExitCode {
    let args = Cli::parse().serve;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::INFO).with_target(false).init();
    let process =
        Process { arguments: std::env::args_os().skip(1).collect(), environment: std::env::vars_os().collect() };
    run(args, process, &mut std::io::stdout()).unwrap_or_else(|error| {
        // Nobody is left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "error: {}", explain(&error));
        ExitCode::FAILURE
    })
}

fn explain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", explain(cause)),
        None => error.to_string(),
    }
}
