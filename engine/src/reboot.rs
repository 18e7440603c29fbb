//! Asking a venue to reboot.

use std::path::Path;
use std::time::Duration;

use charly_ir::message::Problem;

use crate::environment::STANDARD_PATH;
use crate::process::tree::Stat;
use crate::tool::Tool;
use crate::worker::WorkError;

/// What process 1 is called where it starts a machine, rather than being the one program of a container.
const INITS: &[&str] =
    &["systemd", "init", "openrc-init", "runit", "runit-init", "dinit", "finit", "s6-svscan", "s6-linux-init"];

/// How long the answer may take. A venue that says nothing for so long has a manager that does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the program, with its arguments, that asks this machine to reboot; nothing where there is nothing to reboot.
pub fn way() -> Option<Vec<String>> {
    if Path::new("/run/systemd/system").is_dir() {
        return Some(vec!["systemctl".to_owned(), "reboot".to_owned()]);
    }
    let first = Stat::of(1).map(|stat| stat.comm)?;
    let installed = |program: &str| STANDARD_PATH.split(':').any(|folder| Path::new(folder).join(program).exists());
    if !INITS.contains(&first.as_str()) {
        None
    } else if installed("reboot") {
        Some(vec!["reboot".to_owned()])
    } else {
        installed("shutdown").then(|| ["shutdown", "-r", "now"].map(str::to_owned).to_vec())
    }
}

/// Asks for a reboot. When this returns without an error, it is under way.
pub(crate) fn ask(way: &[String]) -> Result<(), WorkError> {
    let Some((program, arguments)) = way.split_first() else {
        return Err(refused(Problem::new("it has nothing that reboots it")));
    };
    let tool = Tool::new(program).args(arguments.iter().map(String::as_str)).limit(PATIENCE);
    tool.run_outside().and_then(crate::tool::Output::success).map(drop).map_err(|error| refused(error.problem()))
}

fn refused(why: Problem) -> WorkError {
    let mut problem = Problem::new("the venue refused to reboot").because(why.what);
    problem.because.extend(why.because);
    WorkError::Program(Box::new(
        problem.hint("reboot it yourself, then run the same command again; it goes on after that"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let ask = |way: &[&str]| ask(&way.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(ask(&["true"]).is_ok());
        let refusal = |way: &[&str]| ask(way).unwrap_err().problem();
        let problem = refusal(&["sh", "-c", "echo 'Access denied' >&2; exit 4"]);
        assert_eq!(problem.what, "the venue refused to reboot");
        assert_eq!(problem.because[0], "`sh -c echo 'Access denied' >&2; exit 4` ended with status 4");
        assert_eq!(problem.because[1], "Access denied");
        assert!(problem.hint.is_some());
        assert_eq!(refusal(&["no-such-program"]).because[0], "cannot run `no-such-program`");
        assert_eq!(refusal(&[]).because, ["it has nothing that reboots it"]);
    }
}
