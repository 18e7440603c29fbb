//! How an engine is started on a machine that has only `sh`, and gets there first.
//!
//! The exec request is the single word `sh`: whatever the login shell is, it need interpret nothing else. A script follows
//! on standard input that starts the engine; where there is none, it says so and reads on, and a second script that asks for
//! it is sent. Nothing follows a script until it has answered, so that no shell can read too far.

use charly_ir::frame::MAGIC;
use charly_target_core::engine;

use super::settings::Delivery;

/// What the script says before a line of its own. As long as an engine's first word, so that one window finds both.
const MARK: [u8; 16] = *b"\0charly-deliver\n";

/// The longest line that is read behind the mark.
const MAX_LINE: usize = 200;

/// What the script asks for, or why there is no engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// Send the script that asks for the engine.
    More,
    /// Send the engine, packed.
    Packed,
    /// Send the engine as it is.
    Plain,
    /// The machine is of another architecture.
    Arch(String),
    /// There is no folder from which programs can be started.
    Nowhere,
    /// There is no room for it.
    Full,
    /// What arrived is not what was sent.
    Damaged,
    /// Something that no script of ours says.
    Other(String),
}

/// Returns the script that comes first.
pub(super) fn script(delivery: Delivery) -> String {
    // What is set comes from nowhere outside: a digest, a word of this program and two numbers.
    let head = format!("digest={}\n", engine::digest());
    match delivery {
        // It is sent on every connection, so nothing is in it that a shell does not need: what it does is said here. A folder
        // and a program of the user's own, neither of them a link, are the engine of that digest, and take the shell's place.
        Delivery::Auto | Delivery::Never => head + include_str!("find.sh") + "start\n",
        Delivery::Always => head + include_str!("find.sh") + &deliver_script(),
    }
}

/// Returns the script that asks for the engine, for the shell that has the first one's words.
pub(super) fn deliver_script() -> String {
    let (packed, plain) = (engine::PACKED.len(), engine::size());
    format!("arch={} packed={packed} plain={plain}\n{}", engine::ARCH, include_str!("deliver.sh"))
}

/// Finds the script's words in what a session says before its engine does.
#[derive(Debug, Default)]
pub(super) struct Listener {
    kept: Vec<u8>,
    /// The engine speaks: whatever looks like a mark from now on is none.
    over: bool,
}

impl Listener {
    /// Takes the next bytes. Returns those that are none of the script's, and a word of it if one is whole.
    ///
    /// Nothing is kept back for longer than it may be the beginning of the mark.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Word>) {
        self.kept.extend_from_slice(bytes);
        self.over |= self.kept.windows(MAGIC.len()).any(|window| window == MAGIC);
        if self.over {
            return (std::mem::take(&mut self.kept), None);
        }
        let at = self.kept.windows(MARK.len()).position(|window| window == MARK);
        let Some(at) = at else {
            let is_begun = |length: &usize| [MARK, MAGIC].iter().any(|mark| self.kept.ends_with(&mark[..*length]));
            let begun = (1..MARK.len()).rev().find(is_begun).unwrap_or(0);
            let rest = self.kept.split_off(self.kept.len() - begun);
            return (std::mem::replace(&mut self.kept, rest), None);
        };
        let line = &self.kept[at + MARK.len()..];
        let end = match line.iter().position(|byte| *byte == b'\n') {
            Some(end) => end,
            None if line.len() < MAX_LINE => {
                let rest = self.kept.split_off(at);
                return (std::mem::replace(&mut self.kept, rest), None);
            }
            None => MAX_LINE,
        };
        let word = Word::parse(&String::from_utf8_lossy(&line[..end]));
        let rest = self.kept.split_off((at + MARK.len() + end + 1).min(self.kept.len()));
        self.kept.truncate(at);
        let mut before = std::mem::take(&mut self.kept);
        before.extend(rest);
        (before, Some(word))
    }
}

impl Word {
    fn parse(line: &str) -> Self {
        match line {
            "packed" => Self::Packed,
            "plain" => Self::Plain,
            "more" => Self::More,
            "nowhere" => Self::Nowhere,
            "full" => Self::Full,
            "damaged" => Self::Damaged,
            other => match other.strip_prefix("arch ") {
                Some(arch) => Self::Arch(arch.to_owned()),
                None => Self::Other(other.to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn words_are_found_whatever_the_pieces() {
        let stream = b"Welcome!\0char\0charly-deliver\npacked\nand more";
        for size in 1..=stream.len() {
            let mut listener = Listener::default();
            let (mut other, mut words) = (Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                let (bytes, word) = listener.hear(piece);
                other.extend(bytes);
                words.extend(word);
            }
            assert_eq!((words, &other[..]), (vec![Word::Packed], &b"Welcome!\0charand more"[..]), "pieces of {size}");
        }
        let mut listener = Listener::default();
        let mut other = Vec::new();
        let engine = [&MAGIC[..], b"\x02\0\0\0\0\0charly-deliver\npacked\n\0"].concat();
        for piece in engine.chunks(1) {
            let (bytes, word) = listener.hear(piece);
            assert_eq!(word, None, "an engine's words are none of the script's");
            other.extend(bytes);
        }
        assert_eq!(other, engine, "nothing of them is kept back");
        let mut listener = Listener::default();
        let (_, word) = listener.hear(b"\0charly-deliver\narch riscv64\n");
        assert_eq!(word, Some(Word::Arch("riscv64".into())));
    }

    /// Speaks to the script in a home of its own, with one shell or another.
    fn talk(shell: &str, home: &Path, script: &str, answer: &dyn Fn(&Word) -> Vec<u8>) -> (Vec<u8>, Vec<Word>) {
        let mut child =
            Command::new(shell).env("HOME", home).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        let (mut listener, mut heard, mut words, mut buffer) = (Listener::default(), Vec::new(), Vec::new(), [0; 4096]);
        loop {
            let n = stdout.read(&mut buffer).unwrap();
            let (bytes, word) = listener.hear(&buffer[..n]);
            heard.extend(bytes);
            if let Some(word) = word {
                let bytes = answer(&word);
                match &mut stdin {
                    Some(stdin) if !bytes.is_empty() => stdin.write_all(&bytes).unwrap(),
                    // Nothing more comes.
                    _ => stdin = None,
                }
                words.push(word);
            }
            if n == 0 || heard.windows(16).any(|window| window == charly_ir::frame::MAGIC) {
                break;
            }
        }
        drop(stdin);
        child.wait().unwrap();
        (heard, words)
    }

    fn send(word: &Word) -> Vec<u8> {
        match word {
            Word::More => deliver_script().into_bytes(),
            Word::Packed => engine::PACKED.to_vec(),
            Word::Plain => engine::program(),
            _ => Vec::new(),
        }
    }

    fn is_awake(heard: &[u8]) -> bool {
        heard.windows(16).any(|window| window == charly_ir::frame::MAGIC)
    }

    #[test]
    fn the_engine_is_sent_once_and_started_by_any_shell() {
        for shell in ["sh", "dash", "bash"] {
            let home = tempfile::tempdir().unwrap();
            let auto = script(Delivery::Auto);
            let (heard, words) = talk(shell, home.path(), &auto, &send);
            assert!(is_awake(&heard), "{shell}: {}", String::from_utf8_lossy(&heard));
            assert_eq!(words, [Word::More, Word::Packed], "{shell}");
            let (heard, words) = talk(shell, home.path(), &auto, &send);
            assert!(is_awake(&heard) && words.is_empty(), "{shell}: {words:?}");
            let (heard, words) = talk(shell, home.path(), &script(Delivery::Always), &send);
            assert!(is_awake(&heard) && words == [Word::Packed], "{shell}: {words:?}");
            let folder = home.path().join(".cache/charly/engine");
            let names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [format!("charly-guest-{}", engine::digest()).as_str()]);
        }
    }

    #[test]
    fn why_there_is_no_engine_is_told() {
        let home = tempfile::tempdir().unwrap();
        let (_, words) = talk("sh", home.path(), &script(Delivery::Never), &|_| Vec::new());
        assert_eq!(words.first(), Some(&Word::More));
        let other = script(Delivery::Always).replace(&format!("arch={}", engine::ARCH), "arch=vax");
        let (_, words) = talk("sh", home.path(), &other, &send);
        assert_eq!(words, [Word::Arch(engine::ARCH.into())]);
        let torn = |word: &Word| {
            let mut bytes = send(word);
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            bytes
        };
        let (_, words) = talk("sh", home.path(), &script(Delivery::Always), &torn);
        assert_eq!(words, [Word::Packed, Word::Damaged]);
    }

    #[test]
    fn a_folder_of_somebody_elses_choice_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".cache/charly")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join(".cache/charly/engine")).unwrap();
        let (_, words) = talk("sh", home.path(), &script(Delivery::Always), &|_| Vec::new());
        assert_eq!(words, [Word::Packed, Word::Damaged]);
        assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
    }
}
