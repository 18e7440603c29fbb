//! Drives the fuzz targets without a nightly compiler: over mutations of known inputs, from a fixed seed.
//!
//! `CHARLY_FUZZ_SECONDS=60 cargo test -p charly-skill --test it fuzz` is what CI runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::support::print;

#[path = "../../fuzz/targets/name.rs"]
mod name;
#[path = "../../fuzz/targets/request.rs"]
mod request;

/// How long each target runs where nobody asks for more.
const SECONDS: u64 = 1;

#[test]
fn names_stay_in_the_folder() {
    let seeds = [
        "a",
        "b.sh",
        "c-d",
        "7",
        "f",
        "g",
        "h",
        "i",
        "j",
        "k",
        "l",
        "m",
        "n",
        "o",
        "p",
        "q",
        "sub/e",
        "../outside",
        "..",
        ".",
        "charly",
    ];
    let words = ["..", "/", "%2f", "\0", ".", "-", "_", "\\", "sub", "e", "~", "é", "\u{2215}", "outside", "proc"];
    drive("name", &seeds, &words, name::fuzz);
}

#[test]
fn requests_hold_only_what_a_program_may_be_given() {
    let seeds = [
        "{}",
        r#"{"args":["a","b c"],"env":{"SKILL_A":"1"},"stdin":"x","timeout":30,"encoding":"base64"}"#,
        r#"{"env":{"SKILL_A":"1","SKILL_B":"2"}}"#,
        r#"{"args":["\u0041\u00e9\ud83d\ude00"],"timeout":300}"#,
        r#"{"stdin":null,"more":[{"x":[1.5e3,true]}]}"#,
        r#"{"env":{"SKILL_TOKEN":"x"}}"#,
    ];
    let words = [
        "\\u0000",
        "\0",
        "SKILL_",
        "TOKEN",
        "=",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "-1",
        "1e9",
        "0",
        "args",
        "env",
        "timeout",
        "\"args\":[\"z\"],",
        "\"SKILL_A\":\"2\",",
        "\u{feff}",
        "\\ud800",
        " ",
        "\n",
    ];
    drive("request", &seeds, &words, request::fuzz);
}

fn drive(what: &str, seeds: &[&str], words: &[&str], target: fn(&[u8])) {
    let seconds = std::env::var("CHARLY_FUZZ_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    for seed in &pool {
        target(seed);
    }
    let mut count = 0_u64;
    while Instant::now() < end {
        for _ in 0..64 {
            let input = mutate(&mut random, &pool, words);
            count += 1;
            let held = catch_unwind(AssertUnwindSafe(|| target(&input))).is_ok();
            assert!(held, "{what} fails on {:?}", String::from_utf8_lossy(&input));
            // Some mutations are mutated further.
            if random.below(64) == 0 && input.len() < 4096 {
                if pool.len() < 512 {
                    pool.push(input);
                } else {
                    let at = seeds.len() + random.below(pool.len() - seeds.len());
                    pool[at] = input;
                }
            }
        }
    }
    print(&format!("{what}: {count} inputs in {seconds} s"));
}

fn mutate(random: &mut Random, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.insert(at, random.byte()),
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => {
                let end = (at + 1 + random.below(8)).min(input.len());
                input.drain(at..end);
            }
            3 => {
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            4 if at < input.len() => input[at] = random.byte(),
            _ => {
                let word = words[random.below(words.len())].as_bytes();
                input.splice(at..at, word.iter().copied());
            }
        }
    }
    input
}

/// Makes the same numbers every time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}
