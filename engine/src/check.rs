//! Evaluates what a candy asserts about its venue.
//!
//! | module | assertions |
//! |---|---|
//! | `account` | user, group |
//! | `command` | command |
//! | `file` | file |
//! | `http` | http |
//! | `kernel` | kernel-param, mount |
//! | `matcher` | the matchers of all the others, and matching itself |
//! | `network` | addr, dns, interface |
//! | `package` | package |
//! | `port` | port |
//! | `running` | process, service |
//!
//! An attempt collects [`findings`]: every way in which the venue differs from what is wanted. None means that the
//! check holds.

mod account;
mod command;
mod file;
mod findings;
mod http;
mod kernel;
mod matcher;
mod network;
mod package;
mod port;
mod running;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use charly_ir::Text;
use charly_ir::check::{Assertion, Check};
use charly_ir::facts::Facts;
use charly_ir::message::CheckResult;
use charly_ir::text::Tokens;

use crate::accounts::Accounts;
use crate::environment::tool;
use crate::lookup;
use crate::process::{Cancel, Captured, Exit, Identity, Program, run_captured};
use findings::{Findings, Halt};

/// The most that is kept of what a program writes on each stream.
const OUTPUT_CAP: usize = 1 << 20;
/// The shortest pause between attempts: none at all would take the venue a processor.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// How long a pause between attempts may go on after a cancel.
const NAP: Duration = Duration::from_millis(50);

/// The venue on which checks are evaluated, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct CheckContext<'a> {
    /// The folder that stands for `/`. What runs is only judged where it is the machine's own.
    pub root: &'a Path,
    /// What is known of the venue; the user in it is the deploying one.
    pub facts: &'a Facts,
    /// Whom commands are run as; absent where the engine is the deploying user itself.
    pub run_as: Option<&'a Identity>,
    /// The folders that applied candies append to PATH, tokens resolved.
    pub path_append: &'a [String],
    /// A folder for commands' bodies, which the deploying user can pass through.
    pub scratch: &'a Path,
}

/// Evaluates a check, as often as it allows.
pub fn evaluate(check: &Check, context: &CheckContext<'_>, cancel: &Cancel) -> CheckResult {
    let began = Instant::now();
    let mut attempts = 1;
    loop {
        let limit = Duration::from_secs(u64::from(check.timeout_s.max(1)));
        let probe = Probe { context, cancel, deadline: Instant::now() + limit, limit };
        let evidence = match probe.attempt(&check.assertion) {
            Ok(findings) if findings.is_empty() => return CheckResult::Passed,
            Ok(findings) => findings.into_evidence(),
            Err(Halt::Skip(reason)) => return CheckResult::Skipped { reason },
            Err(Halt::Fail(evidence)) => evidence,
        };
        let again = check.retry.and_then(|retry| {
            let pause = Duration::from_millis(retry.interval_ms).max(SHORTEST_PAUSE);
            (began.elapsed() + pause <= Duration::from_millis(retry.within_ms)).then_some(pause)
        });
        if cancel.is_requested() || !again.is_none_or(|pause| rest(pause, cancel)) {
            return CheckResult::Skipped { reason: "the run was cancelled".to_owned() };
        }
        if again.is_none() {
            let tried = if attempts == 1 { String::new() } else { format!(" (attempt {attempts})") };
            return CheckResult::Failed { evidence: evidence + &tried };
        }
        attempts += 1;
    }
}

/// Waits between attempts and tells whether to go on.
fn rest(pause: Duration, cancel: &Cancel) -> bool {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if cancel.is_requested() || left.is_zero() {
            return !cancel.is_requested();
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// One attempt at one check.
struct Probe<'a> {
    context: &'a CheckContext<'a>,
    cancel: &'a Cancel,
    deadline: Instant,
    limit: Duration,
}

impl Probe<'_> {
    fn attempt(&self, assertion: &Assertion) -> Result<Findings, Halt> {
        match assertion {
            Assertion::File { path, exists, mode, owner, filetype, contains, sha256 } => {
                let wanted =
                    file::Wanted { mode: *mode, owner: owner.as_deref(), filetype: filetype.as_deref(), contains };
                file::evaluate(self, &self.text(path), *exists, &wanted, sha256.as_deref())
            }
            Assertion::Command { body, env, exit_status, stdout, stderr } => {
                command::evaluate(self, body, env, exit_status.unwrap_or(0), stdout, stderr)
            }
            Assertion::Package { name, installed, version } => package::evaluate(self, name, *installed, version),
            Assertion::Service { units, running, enabled } => running::service(self, units, *running, *enabled),
            Assertion::Port { port, protocol, listening, address } => {
                port::evaluate(self, *port, *protocol, *listening, address.as_deref())
            }
            Assertion::Process { name, running } => running::process(self, name, *running),
            Assertion::Http { url, method, status, body, headers, allow_insecure } => {
                let request = http::Request {
                    url: self.text(url),
                    method: method.as_deref().unwrap_or("GET"),
                    status: *status,
                    insecure: *allow_insecure,
                };
                http::evaluate(self, &request, body, headers)
            }
            Assertion::Dns { name, resolvable, addresses } => network::dns(self, name, *resolvable, addresses),
            Assertion::User { name, exists, uid, gid, groups, home, shell } => {
                let home = home.as_ref().map(|home| self.text(home));
                let wanted =
                    account::Wanted { uid: *uid, gid: *gid, groups, home: home.as_deref(), shell: shell.as_deref() };
                account::user(self, &self.text(name), *exists, &wanted)
            }
            Assertion::Group { name, exists, gid } => account::group(self, name, *exists, *gid),
            Assertion::KernelParam { name, value } => kernel::parameter(self, name, value),
            Assertion::Mount { path, exists, filesystem, source, options } => {
                let wanted = kernel::Wanted { filesystem: filesystem.as_deref(), source: source.as_deref(), options };
                kernel::mount(self, &self.text(path), *exists, &wanted)
            }
            Assertion::Addr { address, reachable } => network::addr(self, &self.text(address), *reachable),
            Assertion::Interface { name, exists, addresses, mtu } => {
                network::interface(self, name, *exists, addresses, *mtu)
            }
            Assertion::Matching { value, matches } => {
                let mut findings = Findings::default();
                matcher::compare(&mut findings, "the value", &self.text(value), matches, &self.tokens());
                Ok(findings)
            }
            Assertion::Carried { verb, reason, fields: _ } => Err(Halt::Skip(format!("`{verb}`: {reason}"))),
        }
    }

    fn tokens(&self) -> Tokens {
        let user = &self.context.facts.user;
        let home = user.home.trim_end_matches('/').to_owned();
        Tokens { home, user: user.name.clone(), uid: user.uid, gid: user.gid }
    }

    fn text(&self, text: &Text) -> String {
        text.resolve(&self.tokens())
    }

    fn accounts(&self) -> Accounts {
        Accounts::new(self.context.root)
    }

    /// Ends the attempt where only a running machine could answer.
    fn needs_live(&self, what: &str) -> Result<(), Halt> {
        if lookup::is_live(self.context.root) {
            return Ok(());
        }
        Err(Halt::Skip(format!("{what} can only be judged on a running venue")))
    }

    /// Returns the time left for the attempt, never nothing: a limit of zero would mean none to some tools.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// Runs one of the venue's tools; nothing where the venue has none such.
    fn tool<S: AsRef<std::ffi::OsStr>>(&self, argv: &[S]) -> Result<Option<Captured>, Halt> {
        match self.run(&tool(argv, self.left())) {
            Err(Ran::Missing) => Ok(None),
            Err(Ran::Halted(halt)) => Err(halt),
            Ok(captured) => Ok(Some(captured)),
        }
    }

    /// Runs a program within the attempt's time.
    fn run(&self, program: &Program) -> Result<Captured, Ran> {
        let name = || program.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match run_captured(program, self.cancel, OUTPUT_CAP) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Ran::Missing),
            Err(error) => Err(Ran::Halted(Halt::Fail(findings::chain(&error)))),
            Ok(Captured { exit: Exit::TimedOut, .. }) => {
                Err(Ran::Halted(Halt::Fail(format!("`{}` did not end within {} s", name(), self.limit.as_secs()))))
            }
            Ok(captured) => Ok(captured),
        }
    }
}

/// Why a program gave no answer.
enum Ran {
    /// It is not on the venue.
    Missing,
    /// It failed otherwise.
    Halted(Halt),
}

#[cfg(test)]
mod tests;
