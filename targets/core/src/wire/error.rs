//! What can go wrong in a conversation.

use charly_ir::frame::FrameError;

use crate::BoxError;

/// Why a conversation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream ended, or grew beyond all bounds, before an engine spoke.
    #[error("no engine answered{}", wrote(.evidence))]
    NoEngine {
        /// What was written instead, capped.
        evidence: String,
    },
    /// The stream ended between the engine's first word and its last.
    #[error("the engine ended before its last word{}", wrote(.evidence))]
    BrokeOff {
        /// What it wrote to standard error, capped.
        evidence: String,
    },
    /// The connection to the machine broke, so that nobody knows how the engine ended.
    #[error("the connection broke")]
    Lost,
    /// The bytes are not frames.
    #[error("the engine's answer makes no sense")]
    Frame(#[source] FrameError),
    /// The engine speaks another version of the protocol.
    #[error("the engine speaks protocol {theirs}, this charly {ours}")]
    Protocol {
        /// The engine's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A frame came where the protocol has no place for it.
    #[error("the engine sent {what} out of turn")]
    OutOfTurn {
        /// What it was.
        what: &'static str,
    },
    /// A blob's bytes could not be read, or are not as many as were announced.
    #[error("the bytes of a blob could not be read")]
    Blob(#[source] std::io::Error),
    /// What was fetched could not be stored, or is not what was announced.
    #[error("a file brought back from the venue could not be stored")]
    Sink(#[source] std::io::Error),
    /// No request could be made for this venue.
    #[error(transparent)]
    Order(BoxError),
    /// The user stopped waiting.
    #[error("interrupted")]
    Interrupted,
}

/// Renders what a stream held, or nothing.
fn wrote(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it wrote `{text}`") }
}
