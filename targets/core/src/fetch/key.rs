//! Repository keys, in the form their readers take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Returns an OpenPGP key in binary form, whichever form it comes in; `None` where it is in neither.
pub(super) fn binary(key: &[u8]) -> Option<Vec<u8>> {
    if is_packet(key) {
        return Some(key.to_vec());
    }
    let mut text = std::str::from_utf8(key).ok()?;
    let mut packets = Vec::new();
    while let Some((_, rest)) = text.split_once(BEGIN) {
        let (block, after) = rest.split_once(END)?;
        packets.extend(block_bytes(block)?);
        text = after;
    }
    is_packet(&packets).then_some(packets)
}

/// Tells whether bytes begin as an OpenPGP public key does: bit 7 set, tag 6.
fn is_packet(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| match first & 0xC0 {
        0xC0 => first & 0x3F == 6,
        0x80 => (first >> 2) & 0x0F == 6,
        _ => false,
    })
}

/// Decodes what is between the lines of an armoured block and holds it against its checksum.
fn block_bytes(block: &str) -> Option<Vec<u8>> {
    let mut lines = block.lines().map(str::trim).skip(1);
    let mut data = String::new();
    let mut checksum = None;
    // Headers such as `Version:` end at an empty line.
    let mut in_headers = true;
    for line in &mut lines {
        if in_headers && line.contains(": ") {
            continue;
        }
        in_headers = false;
        match line.strip_prefix('=') {
            Some(sum) if sum.len() == 4 => checksum = Some(STANDARD.decode(sum).ok()?),
            _ => data.push_str(line),
        }
    }
    let bytes = STANDARD.decode(data).ok()?;
    let intact = checksum.is_none_or(|sum| sum == crc24(&bytes).to_be_bytes()[1..]);
    intact.then_some(bytes)
}

/// The checksum of RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    let mut crc = 0x00B7_04CE;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4CFB;
            }
        }
    }
    crc & 0x00FF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armour(bytes: &[u8]) -> String {
        let (data, sum) = (STANDARD.encode(bytes), STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]));
        let lines: Vec<_> = data.as_bytes().chunks(20).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("{BEGIN}\nVersion: x\nComment: y\n\n{}\n={sum}\n{END}\n", lines.join("\n"))
    }

    #[test]
    fn armour_comes_off() {
        let key: Vec<u8> = std::iter::once(0x99).chain(0..100).collect();
        let text = armour(&key);
        assert_eq!(binary(text.as_bytes()), Some(key.clone()));
        assert_eq!(binary(&key), Some(key.clone()));
        assert_eq!(binary(text.replace('\n', "\r\n").as_bytes()), Some(key.clone()));
        assert_eq!(binary(format!("{text}\n{text}").as_bytes()), Some([key.clone(), key].concat()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key: Vec<u8> = std::iter::once(0x99).chain(0..100).collect();
        let text = armour(&key);
        let damaged = text.replacen("mQAB", "mQAC", 1);
        assert_ne!(damaged, text);
        for bytes in [b"".as_slice(), b"<html>", damaged.as_bytes(), &text.as_bytes()[..80]] {
            assert_eq!(binary(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc24(b"123456789"), 0x0021_CF02);
    }
}
