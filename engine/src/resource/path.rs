//! Files, folders and links.

use std::fs::File;
use std::io::{self, Read};

use crate::ledger::{Entry, State};
use crate::tree::{self, Content, Node, Placed, TreeError};
use crate::venue::Venue;

/// What became of a path that was given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    /// It is as it was before.
    Done,
    /// A folder still has something in it; it may be empty later.
    NotEmpty,
    /// It is left, for this reason.
    Kept(&'static str),
}

/// Looks at a path.
pub(crate) fn observe(venue: &Venue, path: &str) -> Result<Node, TreeError> {
    tree::observe(&venue.root, path)
}

/// Looks at a path to compare it with what is wanted.
pub(crate) fn glance(venue: &Venue, path: &str) -> Result<Node, TreeError> {
    tree::glance(&venue.root, path)
}

/// Makes a path be what is wanted. Returns the file placed, still open, so that many can be made durable together.
pub(crate) fn converge(
    venue: &Venue,
    path: &str,
    want: &Node,
    content: Option<Content<'_>>,
) -> Result<Option<File>, TreeError> {
    let refuse = |why: &str| TreeError::new("replace", path, io::Error::other(why.to_owned()));
    let spot = venue.root.spot(path)?;
    let there = || spot.observe();
    match want {
        Node::File { digest, .. } => {
            match there()? {
                Node::Dir { .. } => return Err(refuse("a folder is there, and charly never replaces one by a file")),
                Node::Special => return Err(refuse("a device, socket or FIFO is there")),
                Node::Absent | Node::File { .. } | Node::Link { .. } => {}
            }
            let content = content.ok_or_else(|| refuse("its content was never sent"))?;
            let Placed { file, .. } = tree::place_file(&spot, want, Some(*digest), content)?;
            Ok(Some(file))
        }
        Node::Dir { mode, uid, gid } => match there()? {
            Node::Absent | Node::Dir { .. } => tree::make_dir(&spot, *mode, *uid, *gid).map(|()| None),
            other => Err(refuse(&format!("a {} is there, not a folder", other.what()))),
        },
        Node::Link { target } => match there()? {
            Node::Dir { .. } => Err(refuse("a folder is there, and charly never replaces one by a link")),
            Node::Special => Err(refuse("a device, socket or FIFO is there")),
            _ => tree::make_link(&spot, target, venue.owner.0, venue.owner.1).map(|()| None),
        },
        Node::Absent => tree::remove(&spot).map(|()| None),
        Node::Special => Err(refuse("no plan asks for a device, socket or FIFO")),
    }
}

/// Puts a path back to what it was before its first claim, unless somebody else changed it since.
pub(crate) fn restore(
    venue: &Venue,
    path: &str,
    entry: &Entry,
    kept: Option<&mut dyn Read>,
    purge: bool,
) -> Result<Restored, TreeError> {
    let State::Node(before) = &entry.before.state else { return Ok(Restored::Done) };
    let actual = observe(venue, path)?;
    if actual.agrees(before) {
        return Ok(Restored::Done);
    }
    if matches!(before, Node::Absent) && matches!(actual, Node::Dir { .. }) {
        return remove_folder(venue, path, entry, purge);
    }
    if !is_ours(&actual, entry) {
        return Ok(Restored::Kept(match actual {
            Node::Absent => "it was removed since, and what it replaced is not put back",
            _ => "it was edited since",
        }));
    }
    let spot = venue.root.spot(path)?;
    match before {
        Node::Absent if entry.want == State::Anything => tree::remove_tree(&spot)?,
        Node::Absent => tree::remove(&spot)?,
        Node::File { digest, .. } => {
            let error = || TreeError::new("put back", path, io::Error::other("its former content was not kept"));
            let content = kept.ok_or_else(error)?;
            let placed = tree::place_file(&spot, before, Some(*digest), Content::Bytes(content))?;
            placed.file.sync_all().map_err(|source| TreeError::new("put back", path, source))?;
        }
        Node::Dir { mode, uid, gid } => match actual {
            Node::Dir { .. } | Node::Absent => tree::make_dir(&spot, *mode, *uid, *gid)?,
            _ => return Ok(Restored::Kept("a folder was there before, and is not put back over what is there now")),
        },
        Node::Link { target } => tree::make_link(&spot, target, venue.owner.0, venue.owner.1)?,
        Node::Special => return Ok(Restored::Kept("what was there before cannot be put back")),
    }
    Ok(Restored::Done)
}

/// Tells whether what is at a path is what charly left there, so that undoing it takes nothing from anybody.
fn is_ours(actual: &Node, entry: &Entry) -> bool {
    let agrees = |state: &State| match state {
        State::Node(node) => actual.agrees(node),
        State::Anything => true,
        _ => false,
    };
    agrees(&entry.want) || entry.found.as_ref().is_some_and(agrees)
}

fn remove_folder(venue: &Venue, path: &str, entry: &Entry, purge: bool) -> Result<Restored, TreeError> {
    let spot = venue.root.spot(path)?;
    if purge || entry.want == State::Anything {
        tree::remove_tree(&spot)?;
        return Ok(Restored::Done);
    }
    match tree::remove(&spot) {
        Ok(()) => Ok(Restored::Done),
        Err(error) if error.source.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Restored::NotEmpty),
        Err(error) => Err(error),
    }
}
