//! What waits to be said to an engine.

use std::collections::VecDeque;
use std::io::{self, Read};

use charly_ir::Digest;
use charly_ir::frame::{self, MAX_CHUNK};
use charly_ir::message::Request;

use super::ClientError;
use crate::supply::{Blob, Supply};

/// A queue of things to say; each is turned into bytes only when the stream has room for it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Item>,
    /// The blob under way and how much of it is left. Nothing else may come between its chunks.
    blob: Option<(Blob, u64)>,
}

#[derive(Debug)]
enum Item {
    Message(Box<Request>),
    Manifest(u32),
    Blob(Digest),
}

impl Outgoing {
    /// Queues a message.
    pub(super) fn message(&mut self, request: Request) {
        self.queue.push_back(Item::Message(Box::new(request)));
    }

    /// Queues a message ahead of everything that was not begun.
    pub(super) fn urgent(&mut self, request: Request) {
        self.queue.push_front(Item::Message(Box::new(request)));
    }

    /// Queues a step's manifest.
    pub(super) fn manifest(&mut self, step: u32) {
        self.queue.push_back(Item::Manifest(step));
    }

    /// Queues a blob.
    pub(super) fn blob(&mut self, digest: Digest) {
        self.queue.push_back(Item::Blob(digest));
    }

    /// Forgets what was not begun.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Appends the next frame to `out`; false where there is nothing to say.
    pub(super) fn next(&mut self, supply: &mut dyn Supply, out: &mut Vec<u8>) -> Result<bool, ClientError> {
        if let Some((blob, left)) = &mut self.blob {
            let length = usize::try_from(*left).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
            let mut chunk = vec![0; length];
            blob.read_exact(&mut chunk).map_err(ClientError::Blob)?;
            frame::write_chunk(out, &chunk).map_err(ClientError::Blob)?;
            *left -= length as u64;
            if *left == 0 {
                self.blob = None;
            }
            return Ok(true);
        }
        let Some(item) = self.queue.pop_front() else { return Ok(false) };
        let request = match item {
            Item::Message(request) => *request,
            Item::Manifest(step) => {
                supply.manifest(step).map_or_else(|problem| Request::Missing { problem }, Request::Manifest)
            }
            Item::Blob(digest) => match supply.blob(digest) {
                Ok(blob) => {
                    let size = blob.size();
                    self.blob = (size > 0).then_some((blob, size));
                    Request::Blob { digest, size }
                }
                Err(problem) => Request::Missing { problem },
            },
        };
        frame::write_message(out, &request).map_err(encode)?;
        Ok(true)
    }
}

fn encode(error: io::Error) -> ClientError {
    ClientError::Frame(error.into())
}
