//! Watches a build.

use charly_target_core::{Interrupts, Observer};
use charly_target_oci::build::{State, Watch};
use charly_target_oci::layer::Layer;

use crate::exit::Failure;
use crate::output::{Policy, Printer, Progress, bytes};

/// Watches a build: a line a candy, and the steps of those that run something as in any other run.
#[derive(Debug)]
pub(super) struct Watcher {
    printer: Printer,
    interrupts: Interrupts,
    progress: Progress,
}

impl Watcher {
    pub(super) fn new(printer: Printer, interrupts: Interrupts) -> Self {
        let progress = progress(printer, &interrupts);
        Self { printer, interrupts, progress }
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
        let text = match state {
            State::InBase => "is in the base".to_owned(),
            State::Cached(layer) => format!("was built before{}", size(layer.as_ref())),
            State::Placing => return,
            State::Running => {
                self.progress = progress(self.printer, &self.interrupts);
                "runs in the image".to_owned()
            }
            State::Built(None) => "changes nothing".to_owned(),
            State::Built(layer) => format!("is built{}", size(layer.as_ref())),
        };
        if is_over {
            // Its failure, if there is any, is told at the end.
            self.progress.finish().ok();
        }
        self.printer.say(format_args!("[{}/{of}] {name} {text}", at + 1));
    }

    fn observer(&mut self) -> &mut dyn Observer {
        &mut self.progress
    }
}

fn size(layer: Option<&Layer>) -> String {
    layer.map(|layer| format!(", {}", bytes(layer.size))).unwrap_or_default()
}
