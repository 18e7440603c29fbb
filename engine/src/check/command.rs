//! Runs a shell body, as a `command` step would, and judges how it ended.

use std::collections::BTreeMap;
use std::path::PathBuf;

use charly_ir::Text;
use charly_ir::check::Matcher;

use super::findings::{Findings, Halt, quote};
use super::{Probe, Ran, matcher};
use crate::environment::{Script, command_environment};
use crate::process::{Captured, Exit, Program};

pub(super) fn evaluate(
    probe: &Probe<'_>,
    body: &str,
    variables: &BTreeMap<String, Text>,
    exit_status: i32,
    stdout: &[Matcher],
    stderr: &[Matcher],
) -> Result<Findings, Halt> {
    probe.needs_live("a command")?;
    let captured = run(probe, body, variables)?;
    let (out, err) = (captured.stdout.text(), captured.stderr.text());
    let mut findings = Findings::default();
    if captured.exit != Exit::Status(exit_status) {
        let said = [("stdout", &out), ("stderr", &err)];
        let said = said.into_iter().filter(|(_, text)| !text.trim().is_empty());
        let said = said.map(|(stream, text)| format!(", {stream} {}", quote(tail(text)))).collect::<Vec<_>>();
        findings.add(format!("wanted exit status {exit_status}, found {}{}", captured.exit, said.concat()));
    }
    matcher::compare(&mut findings, "stdout", &out, stdout, &probe.tokens());
    matcher::compare(&mut findings, "stderr", &err, stderr, &probe.tokens());
    Ok(findings)
}

fn run(probe: &Probe<'_>, body: &str, variables: &BTreeMap<String, Text>) -> Result<Captured, Halt> {
    let context = probe.context;
    let user = &context.facts.user;
    let script = Script::write(body, context.scratch, context.run_as)
        .map_err(|error| Halt::Fail(format!("cannot write the command's body: {error}")))?;
    let variables = variables.iter().map(|(name, value)| (name.clone(), probe.text(value))).collect();
    let mut program = Program {
        argv: script.argv(),
        env: command_environment(user, context.path_append, &variables),
        cwd: PathBuf::from(&user.home),
        user: context.run_as.cloned(),
        stdin: Vec::new(),
        limit: Some(probe.left()),
        script: Some(script.path().to_owned()),
    };
    if !program.cwd.is_dir() {
        program.cwd = PathBuf::from("/");
    }
    probe.run(&program).map_err(|ran| match ran {
        Ran::Missing => Halt::Fail(format!("cannot find `{}` to run the command", program.argv[0].to_string_lossy())),
        Ran::Halted(halt) => halt,
    })
}

/// The last lines, where programs say what went wrong.
fn tail(text: &str) -> &str {
    let text = text.trim();
    text.char_indices().rev().nth(299).map_or(text, |(at, _)| &text[at..])
}
