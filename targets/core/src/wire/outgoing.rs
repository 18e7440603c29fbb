//! What waits to be said to an engine.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::time::Duration;

use charly_ir::Digest;
use charly_ir::frame::{self, MAX_CHUNK, Packing};
use charly_ir::message::{MemberKind, Request};

use super::ClientError;
use super::pace::Pace;
use super::squeeze::Squeeze;
use crate::supply::{Blob, Supply};

/// A queue of things to say; each is turned into bytes only when the stream has room for it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Item>,
    /// The blob under way and how much of it is left. Nothing else may come between its chunks.
    blob: Option<(Blob, u64)>,
    packing: Packing,
    pace: Pace,
    /// Packs the layers of an image.
    squeeze: Option<Squeeze>,
    /// The sizes of blobs, as far as they are known.
    sizes: BTreeMap<Digest, u64>,
    sent: u64,
    total: u64,
}

#[derive(Debug)]
enum Item {
    Message(Box<Request>),
    Manifest(u32),
    Image,
    /// A blob, from some byte on.
    Blob(Digest, u64),
}

impl Outgoing {
    /// Packs from now on what becomes shorter by it.
    pub(super) fn pack(&mut self) {
        self.packing = Packing::Deflate;
    }

    /// Tells whether it packs.
    pub(super) fn is_packed(&self) -> bool {
        self.packing == Packing::Deflate
    }

    /// Learns how fast the stream took some bytes.
    pub(super) fn paced(&mut self, bytes: usize, took: Duration) {
        self.pace.took(bytes, took);
    }

    /// Queues the request, and the blobs that follow it unasked.
    pub(super) fn request(&mut self, request: Request, sizes: BTreeMap<Digest, u64>) {
        self.sizes = sizes;
        let follows = match &request {
            Request::Apply(apply) => apply.follows.clone(),
            _ => Vec::new(),
        };
        self.message(request);
        for digest in follows {
            self.blob(digest, 0);
        }
    }

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

    /// Queues the image that is to be delivered, but for its layers. Those are large, and sent packed however fast the link.
    pub(super) fn image(&mut self) {
        if self.is_packed() {
            self.pace = Pace::always_worth_it();
            // Without it they are packed like everything else.
            self.squeeze = Squeeze::new().ok();
        }
        self.queue.push_back(Item::Image);
    }

    /// Queues a blob, of which so many bytes are there already.
    pub(super) fn blob(&mut self, digest: Digest, from: u64) {
        self.total += self.sizes.get(&digest).copied().unwrap_or(0).saturating_sub(from);
        self.queue.push_back(Item::Blob(digest, from));
    }

    /// Forgets what was not said, the rest of a blob too: its beginning is kept over there, and gone on with another time.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.blob = None;
    }

    /// Returns how many bytes of blobs were sent, and of how many, where there are any.
    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        (self.total > 0).then_some((self.sent, self.total))
    }

    /// Appends the next frame to `out`; false where there is nothing to say.
    pub(super) fn next(&mut self, supply: &mut dyn Supply, out: &mut Vec<u8>) -> Result<bool, ClientError> {
        if self.blob.is_some() {
            self.chunk(out).map_err(ClientError::Blob)?;
            return Ok(true);
        }
        let Some(item) = self.queue.pop_front() else { return Ok(false) };
        let request = match item {
            Item::Message(request) => *request,
            Item::Manifest(step) => match supply.manifest(step) {
                Ok(manifest) => {
                    for member in &manifest.members {
                        if let MemberKind::File { digest, size, .. } = member.kind {
                            self.sizes.insert(digest, size);
                        }
                    }
                    Request::Manifest(manifest)
                }
                Err(problem) => Request::Missing { problem },
            },
            Item::Image => match supply.image() {
                Ok((image, sizes)) => {
                    self.sizes.extend(sizes);
                    Request::Image(image)
                }
                Err(problem) => Request::Missing { problem },
            },
            Item::Blob(digest, have) => match supply.blob(digest) {
                Ok(mut blob) => {
                    let size = blob.size();
                    // A beginning longer than the whole is none of it.
                    let from = if have <= size { have } else { 0 };
                    io::copy(&mut (&mut blob).take(from), &mut io::sink()).map_err(ClientError::Blob)?;
                    self.blob = (size > from).then_some((blob, size - from));
                    Request::Blob { digest, size, from }
                }
                Err(problem) => Request::Missing { problem },
            },
        };
        self.packing.write_message(out, &request).map_err(encode)?;
        Ok(true)
    }

    /// Appends the next bytes of the blob under way.
    fn chunk(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some((blob, left)) = &mut self.blob else { return Ok(()) };
        let length = usize::try_from(*left).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let mut chunk = vec![0; length];
        blob.read_exact(&mut chunk)?;
        *left -= length as u64;
        self.sent += length as u64;
        if *left == 0 {
            self.blob = None;
        }
        if let Some(squeeze) = &mut self.squeeze
            && self.pace.packing() == Packing::Deflate
        {
            let packed = squeeze.pack(&chunk)?;
            self.pace.packed(length, packed.len());
            if packed.len() < length {
                return frame::write_zstd_chunk(out, &packed);
            }
            return Packing::None.write_chunk(out, &chunk);
        }
        let packing =
            if self.packing == Packing::None || self.squeeze.is_some() { Packing::None } else { self.pace.packing() };
        let before = out.len();
        packing.write_chunk(out, &chunk)?;
        if packing == Packing::Deflate {
            self.pace.packed(length, out.len() - before);
        }
        Ok(())
    }
}

fn encode(error: io::Error) -> ClientError {
    ClientError::Frame(error.into())
}
