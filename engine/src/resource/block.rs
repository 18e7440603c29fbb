//! Fenced blocks in text files that somebody else owns.
//!
//! A block is the lines between `# opencharly:begin TAG` and `# opencharly:end TAG`, each fence a line of its own. Everything
//! else in the file is left byte for byte as it is, whether its last line had an end included.

use std::io::Read;

use charly_ir::Digest;

use crate::ledger::{BlockState, Entry, State};
use crate::tree::{self, Content, Node, TreeError};
use crate::venue::Venue;

/// The largest text file that charly edits, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A text file taken apart around one block.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    before: &'a str,
    /// The lines between the fences; absent where there is no such block.
    block: Option<&'a str>,
    after: &'a str,
}

/// Follows links from a start-up file to the file that is really edited, as people keep theirs in one folder and link to it.
pub(crate) fn real_path(venue: &Venue, path: &str) -> Result<String, TreeError> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        let Node::Link { target } = tree::observe(&venue.root, &path)? else { return Ok(path) };
        path = match target.strip_prefix('/') {
            Some(_) => normalize(&target),
            None => normalize(&format!("{}/{target}", tree::parent(&path))),
        };
    }
    Err(TreeError::new("edit", &path, std::io::Error::other("too many links lead on from here")))
}

/// Looks at a block.
pub(crate) fn observe(venue: &Venue, path: &str, tag: &str) -> Result<BlockState, TreeError> {
    let Some(text) = read(venue, path)? else { return Ok(BlockState::NoFile) };
    let parts = take_apart(&text, tag).map_err(|why| unbalanced(path, &why))?;
    Ok(match parts.block {
        Some(block) => BlockState::Text(block.to_owned()),
        None if text.is_empty() || text.ends_with('\n') => BlockState::Missing,
        None => BlockState::MissingUnended,
    })
}

/// Makes a block say this. A file that is not there is made.
pub(crate) fn converge(venue: &Venue, path: &str, tag: &str, block: &str) -> Result<(), TreeError> {
    let text = read(venue, path)?;
    let old = text.as_deref().unwrap_or_default();
    let parts = take_apart(old, tag).map_err(|why| unbalanced(path, &why))?;
    write(venue, path, &put_together(&parts, tag, block))
}

/// Takes a block out, and the file with it where charly made the file and nothing else is in it. Says why where the block is
/// left.
pub(crate) fn restore(venue: &Venue, path: &str, tag: &str, entry: &Entry) -> Result<Option<&'static str>, TreeError> {
    let Some(text) = read(venue, path)? else { return Ok(None) };
    let parts = take_apart(&text, tag).map_err(|why| unbalanced(path, &why))?;
    let ours = entry.found.is_some() || parts.block.is_none_or(|block| is_text(&entry.want, block));
    if !ours {
        return Ok(Some("its lines were edited since"));
    }
    let rest = without(&parts, &entry.before.state);
    if rest.is_empty() && entry.before.state == State::Block(BlockState::NoFile) {
        tree::remove(&venue.root.spot(path)?)?;
    } else if parts.block.is_some() {
        write(venue, path, &rest)?;
    }
    Ok(None)
}

fn is_text(state: &State, text: &str) -> bool {
    matches!(state, State::Block(BlockState::Text(want)) if want == text)
}

/// Takes a text apart around one block. Fences that do not pair up are an error: what is between them is anybody's guess.
fn take_apart<'a>(text: &'a str, tag: &str) -> Result<Parts<'a>, String> {
    let (begin, end) = (format!("# opencharly:begin {tag}"), format!("# opencharly:end {tag}"));
    let mut open = None;
    let mut found = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = line.strip_suffix('\n').unwrap_or(line);
        if content == begin {
            if open.is_some() || found.is_some() {
                return Err(format!("line {}: a second `{begin}`", number + 1));
            }
            open = Some((at, at + line.len()));
        } else if content == end {
            let (start, inner) =
                open.take().ok_or_else(|| format!("line {}: `{end}` without its beginning", number + 1))?;
            found = Some((start, inner, at, at + line.len()));
        }
        at += line.len();
    }
    match (open, found) {
        (Some(_), _) => Err(format!("`{begin}` without its end")),
        (None, Some((start, inner, stop, after))) => {
            Ok(Parts { before: &text[..start], block: Some(&text[inner..stop]), after: &text[after..] })
        }
        (None, None) => Ok(Parts { before: text, block: None, after: "" }),
    }
}

fn put_together(parts: &Parts<'_>, tag: &str, block: &str) -> String {
    let Parts { before, block: _, after } = parts;
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let end = if block.is_empty() || block.ends_with('\n') { "" } else { "\n" };
    format!("{before}{gap}# opencharly:begin {tag}\n{block}{end}# opencharly:end {tag}\n{after}")
}

fn without(parts: &Parts<'_>, before: &State) -> String {
    let unended = *before == State::Block(BlockState::MissingUnended) && parts.after.is_empty();
    let head = if unended { parts.before.strip_suffix('\n').unwrap_or(parts.before) } else { parts.before };
    format!("{head}{}", parts.after)
}

fn read(venue: &Venue, path: &str) -> Result<Option<String>, TreeError> {
    match tree::observe(&venue.root, path)? {
        Node::Absent => Ok(None),
        Node::File { size, .. } if size <= MAX_FILE => {
            let mut text = String::new();
            let mut file = tree::open_file(&venue.root, path)?;
            file.read_to_string(&mut text).map_err(|source| TreeError::new("read", path, source))?;
            Ok(Some(text))
        }
        node => {
            let why = format!("it is a {} that charly does not edit", node.what());
            Err(TreeError::new("edit", path, std::io::Error::other(why)))
        }
    }
}

/// Replaces the text in one step, keeping the file's mode, owner and attributes.
fn write(venue: &Venue, path: &str, text: &str) -> Result<(), TreeError> {
    let spot = venue.root.spot(path)?;
    let digest = Digest::of(text.as_bytes());
    let size = text.len() as u64;
    let want = if let Node::File { mode, uid, gid, xattrs, .. } = spot.observe()? {
        Node::File { digest, size, mode, uid, gid, xattrs, mtime_ns: None }
    } else {
        let ((uid, gid), xattrs) = (venue.owner, std::collections::BTreeMap::new());
        Node::File { digest, size, mode: 0o644, uid, gid, xattrs, mtime_ns: None }
    };
    let placed = tree::place_file(&spot, &want, Some(digest), Content::Bytes(&mut text.as_bytes()))?;
    placed.file.sync_all().map_err(|source| TreeError::new("write", path, source))
}

fn unbalanced(path: &str, why: &str) -> TreeError {
    TreeError::new("edit", path, std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned()))
}

fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state_of(text: &str) -> State {
        let unended = !text.is_empty() && !text.ends_with('\n');
        State::Block(if unended { BlockState::MissingUnended } else { BlockState::Missing })
    }

    #[test]
    fn fences_that_do_not_pair_up_are_refused() {
        for (text, why) in [
            ("# opencharly:begin a\n", "`# opencharly:begin a` without its end"),
            ("x\n# opencharly:end a\n", "line 2: `# opencharly:end a` without its beginning"),
            ("# opencharly:begin a\n# opencharly:begin a\n", "line 2: a second `# opencharly:begin a`"),
        ] {
            assert_eq!(take_apart(text, "a").unwrap_err(), why);
        }
        let other = "# opencharly:begin ab\n # opencharly:begin a\n";
        assert_eq!(take_apart(other, "a").unwrap().block, None);
    }

    proptest! {
        #[test]
        fn putting_a_block_in_and_taking_it_out_is_nothing(text in "([a-c#\n ]{0,40})", block in "([a-c\n]{0,20})") {
            let parts = take_apart(&text, "t").unwrap();
            let with = put_together(&parts, "t", &block);
            let again = take_apart(&with, "t").unwrap();
            prop_assert_eq!(again.block.unwrap().trim_end_matches('\n'), block.trim_end_matches('\n'));
            prop_assert_eq!(put_together(&again, "t", again.block.unwrap()), with.clone());
            prop_assert_eq!(without(&again, &state_of(&text)), text);
        }
    }
}
