//! Sizes as people write them.

/// Reads a size such as `20G`, `8 GiB` or `512M`, in bytes. Powers of 1024 whatever the spelling, as QEMU takes them.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << unit).filter(|bytes| *bytes > 0)
}

/// Writes a size in the largest unit that leaves no remainder.
pub fn display(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fits = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    fits.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        for (text, want) in [
            ("20G", Some(20 << 30)),
            ("8 GiB", Some(8 << 30)),
            ("512m", Some(512 << 20)),
            ("1T", Some(1 << 40)),
            ("4096 b", Some(4096)),
            ("4", None),
            ("", None),
            ("G", None),
            ("0G", None),
            ("-1G", None),
            ("1.5G", None),
            ("20 Gallons", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    #[test]
    fn sizes_are_written_briefly() {
        for (bytes, want) in [(20 << 30, "20G"), (1536 << 20, "1536M"), (5, "5B"), (1 << 40, "1T"), (0, "0B")] {
            assert_eq!(display(bytes), want);
        }
    }
}
