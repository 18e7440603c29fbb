//! Watches a build.

use charly_target_core::{Interrupts, Observer};
use charly_target_oci::build::{State, Watch};
use charly_target_oci::layer::Layer;

use crate::exit::Failure;
use crate::output::{Policy, Printer, Progress, bytes};

const IN_BASE: &str = "is in the base";
const NOTHING: &str = "changes nothing";

/// Watches a build: a line a candy, and the steps of those that run something as in any other run.
#[derive(Debug)]
pub(super) struct Watcher {
    printer: Printer,
    interrupts: Interrupts,
    progress: Progress,
    /// What there is to say of each candy the next time, if nothing changes.
    pub(super) next: Vec<String>,
}

impl Watcher {
    pub(super) fn new(printer: Printer, interrupts: Interrupts) -> Self {
        let progress = progress(printer, &interrupts);
        Self { printer, interrupts, progress, next: Vec::new() }
    }

    /// Takes what is left of the progress away.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.progress.finish()
    }
}

fn progress(printer: Printer, interrupts: &Interrupts) -> Progress {
    Progress::new(printer, interrupts.clone(), Policy { silent_diff: true, ..Policy::default() })
}

impl Watch for Watcher {
    fn candy(&mut self, at: usize, of: usize, name: &str, state: State) {
        let is_over = matches!(state, State::Built(_));
        let line = |text: &str| format!("[{}/{of}] {name} {text}", at + 1);
        let before = |layer: Option<&Layer>| format!("was built before{}", size(layer));
        match &state {
            State::InBase => self.next.push(line(IN_BASE)),
            State::Cached(layer) => self.next.push(line(&before(layer.as_ref()))),
            State::Built(Some(layer)) => self.next.push(line(&before(Some(layer)))),
            State::Built(None) => self.next.push(line(NOTHING)),
            State::Placing | State::Running => {}
        }
        let text = match state {
            State::InBase => IN_BASE.to_owned(),
            State::Cached(layer) => before(layer.as_ref()),
            State::Placing => return,
            State::Running => {
                self.progress = progress(self.printer, &self.interrupts);
                "runs in the image".to_owned()
            }
            State::Built(None) => NOTHING.to_owned(),
            State::Built(layer) => format!("is built{}", size(layer.as_ref())),
        };
        if is_over {
            // Its failure, if there is any, is told at the end.
            self.progress.finish().ok();
        }
        self.printer.say(format_args!("{}", line(&text)));
    }

    fn observer(&mut self) -> &mut dyn Observer {
        &mut self.progress
    }
}

fn size(layer: Option<&Layer>) -> String {
    layer.map(|layer| format!(", {}", bytes(layer.size))).unwrap_or_default()
}
