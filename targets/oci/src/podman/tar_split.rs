//! An archive from its unpacked files and what is kept beside them.
//!
//! When storage unpacks a layer, it writes down everything of the archive that is not a file's content: headers, padding, and
//! where which file's content was. With the files as they are it is the same archive again, byte for byte.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;

/// The longest line that is read: a stretch of the archive, or a file's name.
const LINE: u64 = 64 << 20;

/// A note: `type` 1 is a file, 2 a stretch of the archive.
#[derive(Debug, Deserialize)]
struct Note {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: Option<String>,
    /// A name that is no text, in base64.
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    /// Bytes of a stretch, or a file's check sum.
    #[serde(default)]
    payload: Option<String>,
}

/// Reads an archive that is not there as one.
#[derive(Debug)]
pub(super) struct TarSplit<R> {
    notes: R,
    tree: OwnedFd,
    now: Now,
}

#[derive(Debug)]
enum Now {
    Next,
    Stretch { bytes: Vec<u8>, at: usize },
    File { file: File, left: u64, name: String },
}

impl<R: BufRead> TarSplit<R> {
    /// Takes the notes, one a line, and the folder with the files.
    pub(super) fn new(notes: R, tree: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree = rustix::fs::open(tree, flags, Mode::empty())?;
        Ok(Self { notes, tree, now: Now::Next })
    }

    /// Goes on to the next note; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        if self.notes.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let note: Note = serde_json::from_slice(&line).map_err(odd)?;
        self.now = match note.kind {
            1 if note.size > 0 => self.file(note)?,
            2 => {
                let bytes = BASE64.decode(note.payload.unwrap_or_default()).map_err(odd)?;
                Now::Stretch { bytes, at: 0 }
            }
            _ => Now::Next,
        };
        Ok(true)
    }

    fn file(&self, note: Note) -> io::Result<Now> {
        let raw = match note.name_raw {
            Some(raw) => BASE64.decode(raw).map_err(odd)?,
            None => note.name.unwrap_or_default().into_bytes(),
        };
        let name = String::from_utf8_lossy(&raw).into_owned();
        let path = Path::new(std::ffi::OsStr::from_bytes(&raw));
        // Whatever links the layer has, they lead nowhere but into it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&self.tree, path, flags, Mode::empty(), within).map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("`{name}` cannot be read: {errno}"))
        })?;
        Ok(Now::File { file: file.into(), left: note.size, name })
    }
}

impl<R: BufRead> Read for TarSplit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        // Much of an archive is headers; whoever reads gets as much at once as there is room for.
        while done < buffer.len() {
            let room = &mut buffer[done..];
            match &mut self.now {
                Now::Next => {
                    if !self.advance()? {
                        break;
                    }
                }
                Now::Stretch { bytes, at } => {
                    let n = room.len().min(bytes.len() - *at);
                    room[..n].copy_from_slice(&bytes[*at..*at + n]);
                    *at += n;
                    done += n;
                    if *at == bytes.len() {
                        self.now = Now::Next;
                    }
                }
                Now::File { file, left, name } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(room.len());
                    let n = file.read(&mut room[..most])?;
                    if n == 0 {
                        let what = format!("`{name}` is shorter than it was when the image came here");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                    done += n;
                    *left -= n as u64;
                    if *left == 0 {
                        self.now = Now::Next;
                    }
                }
            }
        }
        Ok(done)
    }
}

fn odd(error: impl std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what storage noted of a layer makes no sense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn stretch(bytes: &[u8]) -> String {
        format!("{{\"type\":2,\"payload\":\"{}\"}}\n", BASE64.encode(bytes))
    }

    fn file(name: &str, size: usize) -> String {
        format!(
            "{{\"type\":1,\"name\":{},\"size\":{size},\"payload\":\"AAAA\",\"position\":1}}\n",
            serde_json::json!(name)
        )
    }

    fn read(notes: &str, tree: &Path) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        TarSplit::new(notes.as_bytes(), tree)?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn stretches_and_files_take_turns() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("d")).unwrap();
        std::fs::write(tree.path().join("d/a"), "first").unwrap();
        std::fs::write(tree.path().join("b\"ö"), "second").unwrap();
        let raw = format!("{{\"type\":1,\"name_raw\":\"{}\",\"size\":6,\"payload\":null}}\n", BASE64.encode("b\"ö"));
        let notes = [
            stretch(b"<"),
            file("./d/a", 5),
            stretch(b"|"),
            file("d/", 0),
            file("b\"ö", 6),
            stretch(b""),
            raw,
            stretch(b">"),
        ];
        assert_eq!(read(&notes.concat(), tree.path()).unwrap(), "<first|secondsecond>".as_bytes());
    }

    #[test]
    fn files_that_are_not_as_they_were_are_told() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("short"), "12").unwrap();
        symlink("/etc/passwd", tree.path().join("link")).unwrap();
        symlink("/etc", tree.path().join("etc")).unwrap();
        for (name, why) in [
            ("short", "shorter"),
            ("none", "`none`"),
            ("link", "`link`"),
            ("etc/passwd", "`etc/passwd`"),
            ("../x", "`../x`"),
        ] {
            let error = read(&file(name, 5), tree.path()).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(read("nonsense\n", tree.path()).is_err());
        assert!(read("{\"type\":2,\"payload\":\"%\"}\n", tree.path()).is_err());
    }
}
