//! Asking a venue to reboot.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use charly_ir::STANDARD_PATH;
use charly_ir::message::Problem;

use crate::process::tree::Stat;
use crate::tool::Tool;
use crate::worker::WorkError;

/// What process 1 is called where it starts a machine, rather than being the one program of a container.
const INITS: &[&str] =
    &["systemd", "init", "openrc-init", "runit", "runit-init", "dinit", "finit", "s6-svscan", "s6-linux-init"];

/// How long the answer may take. A venue that says nothing for so long has a manager that does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to ask a venue for a reboot.
#[derive(Clone)]
pub struct Reboot(Arc<dyn Fn() -> Result<(), Problem> + Send + Sync>);

impl Reboot {
    /// Takes what asks; it returns once the reboot is under way, or the venue's words where it refused.
    pub fn new(ask: impl Fn() -> Result<(), Problem> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Returns the way to reboot this machine; nothing where there is nothing to reboot.
    pub fn of_this_machine() -> Option<Self> {
        let way = way()?;
        Some(Self::new(move || run(&way).map_err(|error| error.problem())))
    }

    /// Asks for a reboot. When this returns without an error, it is under way.
    pub(crate) fn ask(&self) -> Result<(), WorkError> {
        (self.0)().map_err(refused)
    }
}

impl fmt::Debug for Reboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reboot")
    }
}

/// Returns the program, with its arguments, that reboots this machine.
fn way() -> Option<Vec<&'static str>> {
    if Path::new("/run/systemd/system").is_dir() {
        return Some(vec!["systemctl", "reboot"]);
    }
    let first = Stat::of(1).map(|stat| stat.comm)?;
    let installed = |program: &str| STANDARD_PATH.split(':').any(|folder| Path::new(folder).join(program).exists());
    if !INITS.contains(&first.as_str()) {
        None
    } else if installed("reboot") {
        Some(vec!["reboot"])
    } else {
        installed("shutdown").then(|| vec!["shutdown", "-r", "now"])
    }
}

fn run(way: &[&str]) -> Result<(), WorkError> {
    let (program, arguments) = way.split_first().map_or(("", way), |(program, arguments)| (*program, arguments));
    let tool = Tool::new(program).args(arguments.iter().copied()).limit(PATIENCE);
    tool.run_outside().and_then(crate::tool::Output::success).map(drop)
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
        let ask = |way: &[&'static str]| {
            let way = way.to_vec();
            Reboot::new(move || run(&way).map_err(|error| error.problem())).ask()
        };
        assert!(ask(&["true"]).is_ok());
        let refusal = |way: &[&'static str]| ask(way).unwrap_err().problem();
        let problem = refusal(&["sh", "-c", "echo 'Access denied' >&2; exit 4"]);
        assert_eq!(problem.what, "the venue refused to reboot");
        assert_eq!(problem.because[0], "`sh -c echo 'Access denied' >&2; exit 4` ended with status 4");
        assert_eq!(problem.because[1], "Access denied");
        assert!(problem.hint.is_some());
        assert_eq!(refusal(&["no-such-program"]).because[0], "cannot run `no-such-program`");
    }
}
