//! Asks the person at the terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};

use charly_ir::message::SecretValue;
use charly_target_core::Interrupts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Printer;

/// How long to wait at most before an interrupt is looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The longest answer that is read.
const MAX_ANSWER: usize = 1000;

/// A question with two answers, of which "no" is the one for silence.
#[derive(Debug)]
pub(crate) struct Question<'a>(pub(crate) &'a str);

/// Tells whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks; `None` where nobody can be asked.
pub(crate) fn ask(question: &Question<'_>, interrupts: &Interrupts) -> Option<bool> {
    if !can_ask() {
        return None;
    }
    let mut stderr = io::stderr();
    write!(stderr, "{} [y/N] ", question.0).and_then(|()| stderr.flush()).ok()?;
    let terminal = File::from(rustix::io::dup(io::stdin()).ok()?);
    let Ok(Some(answer)) = read_line(&terminal, interrupts) else {
        // What comes next shall not stand behind the question.
        Printer::complain("");
        return Some(false);
    };
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for something that is not shown while it is typed; `None` where nobody can be asked, says nothing, or interrupts.
pub(crate) fn ask_secret(question: &str, interrupts: &Interrupts) -> Option<SecretValue> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let silence = Silence::over(&terminal)?;
    write!(terminal, "{question}: ").and_then(|()| terminal.flush()).ok();
    let answer = read_line(&terminal, interrupts);
    drop(silence);
    writeln!(terminal).ok();
    answer.ok()?.filter(|answer| !answer.is_empty()).map(SecretValue::new)
}

/// A terminal that does not show what is typed, for as long as this is held.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn over(terminal: &File) -> Option<Self> {
        let terminal = terminal.try_clone().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // What was typed before is thrown away, so it must be done before anybody is asked.
        tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        tcsetattr(&self.terminal, OptionalActions::Flush, &self.before).ok();
    }
}

/// Reads a line; nothing where the user interrupts or leaves.
fn read_line(mut terminal: &File, interrupts: &Interrupts) -> io::Result<Option<String>> {
    let before = interrupts.count();
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.len() < MAX_ANSWER {
        let mut fds = [PollFd::new(terminal, PollFlags::IN)];
        let ready = match poll(&mut fds, Some(&TICK)) {
            Ok(count) => count > 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => return Err(error.into()),
        };
        if interrupts.count() > before {
            return Ok(None);
        }
        if ready {
            if terminal.read(&mut byte)? == 0 {
                return Ok(None);
            }
            if byte[0] == b'\n' {
                return Ok(String::from_utf8(answer).ok());
            }
            answer.push(byte[0]);
        }
    }
    Ok(None)
}
