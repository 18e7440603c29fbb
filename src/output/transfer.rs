//! The bar of a transfer.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Returns what shows the bytes of a transfer so far and in all, on a terminal.
pub(crate) fn transfer_bar(visible: bool, what: &'static str) -> impl FnMut(u64, u64) + Send + 'static {
    let visible = visible && io::stderr().is_terminal();
    let mut bar: Option<ProgressBar> = None;
    move |done, total| {
        if !visible {
            return;
        }
        let shown = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{spinner} {msg} {bytes} of {total_bytes}, {bytes_per_sec}") {
                Ok(style) => bar.with_style(style).with_message(what),
                Err(_) => bar,
            }
        });
        shown.set_position(done);
        if done == total {
            shown.finish_and_clear();
            bar = None;
        }
    }
}
