//! File capabilities: the text of setcap(8), and the bytes of the `security.capability` attribute.

use std::fmt;
use std::fmt::Write as _;

/// The name of the extended attribute that holds them.
pub const XATTR: &str = "security.capability";

const REVISION_MASK: u32 = 0xFF00_0000;
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// The capabilities of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCaps {
    /// Added to the permitted set, one bit a capability.
    permitted: u64,
    /// Kept from the inheritable set, one bit a capability.
    inheritable: u64,
    /// Whether they are effective at once. A file cannot say so of some of its capabilities only.
    effective: bool,
}

/// A text that setcap(8) would not take, or that no file can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapsError {
    /// There is no such capability.
    #[error("there is no capability `{0}`")]
    Unknown(String),
    /// The text is malformed.
    #[error("`{0}` is not a clause of capabilities, such as `cap_net_raw+ep`")]
    Clause(String),
    /// Some capabilities would be effective and others not.
    #[error("a file's capabilities are either all effective or none is")]
    PartlyEffective,
    /// The attribute is of another revision.
    #[error("the attribute's {length} bytes are not file capabilities of revision 2")]
    Attribute {
        /// The attribute's length.
        length: usize,
    },
}

impl FileCaps {
    /// Reads the text of setcap(8). An empty text means a file without the attribute, so nothing is returned.
    pub fn parse(text: &str) -> Result<Option<Self>, CapsError> {
        let mut sets = Sets::default();
        let mut clauses = text.split_whitespace().peekable();
        if clauses.peek().is_none() {
            return Ok(None);
        }
        clauses.try_for_each(|clause| sets.apply(clause))?;
        let any = sets.permitted | sets.inheritable;
        if sets.effective != 0 && sets.effective != any {
            return Err(CapsError::PartlyEffective);
        }
        Ok(Some(Self { permitted: sets.permitted, inheritable: sets.inheritable, effective: sets.effective != 0 }))
    }

    /// Returns the bytes of the attribute.
    pub fn to_bytes(self) -> [u8; 20] {
        let [low, high] = [|set: u64| set & 0xFFFF_FFFF, |set: u64| set >> 32];
        let words = [
            u64::from(REVISION_2 | if self.effective { EFFECTIVE } else { 0 }),
            low(self.permitted),
            low(self.inheritable),
            high(self.permitted),
            high(self.inheritable),
        ];
        let mut bytes = [0; 20];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes()[..4]);
        }
        bytes
    }

    /// Reads the bytes of the attribute.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CapsError> {
        let error = CapsError::Attribute { length: bytes.len() };
        let bytes: &[u8; 20] = bytes.try_into().map_err(|_| error.clone())?;
        let word = |at: usize| u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        let head = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if head & REVISION_MASK != REVISION_2 {
            return Err(error);
        }
        Ok(Self {
            permitted: word(4) | word(12) << 32,
            inheritable: word(8) | word(16) << 32,
            effective: head & EFFECTIVE != 0,
        })
    }
}

impl fmt::Display for FileCaps {
    /// Writes clauses that setcap(8) reads: `cap_net_admin,cap_net_raw=ep`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effective = if self.effective { "e" } else { "" };
        let mut clauses = Vec::new();
        for (set, flags) in [
            (self.permitted & self.inheritable, "ip"),
            (self.permitted & !self.inheritable, "p"),
            (self.inheritable & !self.permitted, "i"),
        ] {
            if set != 0 {
                clauses.push(format!("{}={effective}{flags}", names(set)));
            }
        }
        f.write_str(if clauses.is_empty() { "=" } else { "" })?;
        f.write_str(&clauses.join(" "))
    }
}

#[derive(Default)]
struct Sets {
    permitted: u64,
    inheritable: u64,
    effective: u64,
}

impl Sets {
    /// Applies one clause: capabilities, then operators, each with its flags.
    fn apply(&mut self, clause: &str) -> Result<(), CapsError> {
        let error = || CapsError::Clause(clause.chars().take(80).collect());
        let at = clause.find(['=', '+', '-']).ok_or_else(error)?;
        let (list, mut rest) = clause.split_at(at);
        let set = match list {
            // Only an assignment may leave the capabilities out: it means all of them.
            "" if rest.starts_with('=') => ALL,
            "" => return Err(error()),
            list => list.split(',').try_fold(0, |set, name| Ok(set | bit(name)?))?,
        };
        while let Some(operator) = rest.chars().next() {
            rest = &rest[1..];
            let length = rest.find(['=', '+', '-']).unwrap_or(rest.len());
            let flags;
            (flags, rest) = rest.split_at(length);
            if flags.chars().any(|flag| !"eip".contains(flag)) || (flags.is_empty() && operator != '=') {
                return Err(error());
            }
            if operator == '=' {
                for held in [&mut self.permitted, &mut self.inheritable, &mut self.effective] {
                    *held &= !set;
                }
            }
            for flag in flags.chars() {
                let held = match flag {
                    'p' => &mut self.permitted,
                    'i' => &mut self.inheritable,
                    _ => &mut self.effective,
                };
                *held = if operator == '-' { *held & !set } else { *held | set };
            }
        }
        Ok(())
    }
}

fn bit(name: &str) -> Result<u64, CapsError> {
    let lower = name.to_ascii_lowercase();
    if lower == "all" {
        return Ok(ALL);
    }
    let by_name = || lower.strip_prefix("cap_").and_then(|lower| NAMES.iter().position(|known| *known == lower));
    let by_number = || lower.parse::<usize>().ok().filter(|at| *at < 64 && !lower.starts_with('+'));
    by_name().or_else(by_number).map(|at| 1 << at).ok_or_else(|| CapsError::Unknown(name.chars().take(80).collect()))
}

fn names(set: u64) -> String {
    let mut out = String::new();
    for at in (0..64).filter(|at| set >> at & 1 == 1) {
        let separator = if out.is_empty() { "" } else { "," };
        // Writing to a string cannot fail. A capability of a later kernel has its number for a name, as libcap has it.
        let _ = match NAMES.get(at) {
            Some(name) => write!(out, "{separator}cap_{name}"),
            None => write!(out, "{separator}{at}"),
        };
    }
    out
}

const ALL: u64 = (1 << NAMES.len()) - 1;

/// The capabilities' names in the order of their bits, without `cap_`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_read_as_setcap_reads_it() {
        for (text, want) in [
            ("cap_net_raw,cap_net_admin+ep", "cap_net_admin,cap_net_raw=ep"),
            ("cap_net_bind_service=+ep", "cap_net_bind_service=ep"),
            ("CAP_NET_RAW=eip", "cap_net_raw=eip"),
            ("cap_chown=p cap_kill=i", "cap_chown=p cap_kill=i"),
            ("cap_chown=p cap_chown=", "="),
            ("cap_chown,cap_kill=p cap_kill-p", "cap_chown=p"),
            ("=", "="),
            ("= cap_bpf+p", "cap_bpf=p"),
            ("cap_chown=ep-e", "cap_chown=p"),
            ("  cap_chown=p\t", "cap_chown=p"),
            ("5,63=p", "cap_kill,63=p"),
            ("cap_chown=eip cap_kill=ep cap_bpf=ei", "cap_chown=eip cap_kill=ep cap_bpf=ei"),
        ] {
            let caps = FileCaps::parse(text).unwrap().unwrap();
            assert_eq!(caps.to_string(), want, "{text}");
        }
        assert_eq!(FileCaps::parse(" \n"), Ok(None));
        assert_eq!(FileCaps::parse("all=p"), FileCaps::parse("=p"));
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, want) in [
            ("cap_net_raw", "`cap_net_raw` is not a clause of capabilities, such as `cap_net_raw+ep`"),
            ("+ep", "`+ep` is not a clause of capabilities, such as `cap_net_raw+ep`"),
            ("cap_kill+x", "`cap_kill+x` is not a clause of capabilities, such as `cap_net_raw+ep`"),
            ("cap_kill+", "`cap_kill+` is not a clause of capabilities, such as `cap_net_raw+ep`"),
            ("cap_kill,+ep", "there is no capability ``"),
            ("net_raw+ep", "there is no capability `net_raw`"),
            ("cap_flý=p", "there is no capability `cap_flý`"),
            ("cap_kill=ep cap_chown=p", "a file's capabilities are either all effective or none is"),
            ("cap_41=p", "there is no capability `cap_41`"),
            ("64=p", "there is no capability `64`"),
            ("cap_kill=e", "a file's capabilities are either all effective or none is"),
        ] {
            assert_eq!(FileCaps::parse(text).map_err(|error| error.to_string()), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_bytes_are_the_kernels() {
        // As setcap(8) of libcap writes them.
        for (text, want) in [
            ("cap_net_admin,cap_net_raw+ep", "01000002003000000000000000000000 00000000"),
            ("cap_bpf=ip", "00000002000000000000000080000000 80000000"),
        ] {
            let bytes = FileCaps::parse(text).unwrap().unwrap().to_bytes();
            let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(hex, want.replace(' ', ""), "{text}");
        }
        for length in [0, 12, 19, 21, 24] {
            assert!(FileCaps::from_bytes(&vec![2; length]).is_err(), "{length}");
        }
        assert!(FileCaps::from_bytes(&[0; 20]).is_err());
    }

    proptest! {
        #[test]
        fn text_and_bytes_say_the_same(permitted: u64, inheritable: u64, effective: bool) {
            let effective = effective && permitted | inheritable != 0;
            let caps = FileCaps { permitted, inheritable, effective };
            prop_assert_eq!(FileCaps::from_bytes(&caps.to_bytes()), Ok(caps));
            prop_assert_eq!(FileCaps::parse(&caps.to_string()), Ok(Some(caps)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z_,+=\\- é]{0,40}|\\PC{0,40}") {
            let _ = FileCaps::parse(&text);
        }
    }
}
