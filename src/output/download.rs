//! The bar of a download.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Returns what shows the bytes of a download so far and in all, on a terminal.
pub(crate) fn download_bar(visible: bool) -> impl FnMut(u64, u64) + Send + 'static {
    let visible = visible && io::stderr().is_terminal();
    let mut bar: Option<ProgressBar> = None;
    move |done, total| {
        if !visible {
            return;
        }
        let shown = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{spinner} fetching {bytes} of {total_bytes}, {bytes_per_sec}") {
                Ok(style) => bar.with_style(style),
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
