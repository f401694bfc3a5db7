//! The texts that benches count, from kind to hostile.
//!
//! Promise: equal kind and size make equal bytes everywhere. Every text is whole lines, and its
//! length is the requested one, give or take a line or a few keys.
//! Must not know: microtally, harness.
//!
//! The benches and `microtally bench` count the same texts, so their figures can be compared. Each
//! text stands for one thing that makes counting fast or slow; none is meant to be typical. A
//! changed text is a new kind with a new name, or old figures would lie.
//!
//! Two kinds collide on purpose, in hash functions that know no secret:
//!
//! - `collide-fx`: FxHash of one 8-byte word is a multiplication by a public odd constant, modulo
//!   2^64. Such a multiplication can be undone, so the keys are computed from the intended hashes:
//!   the lowest 20 bits equal (the slot, in any table of up to a million slots), the highest 7 bits
//!   equal (the tag that tells slots apart in tables of the SwissTable family), everything between
//!   different.
//! - `collide-fold`: many fast hash functions multiply the two halves of a 16-byte key, each
//!   combined with a seed, and fold the 128-bit product: high half exclusive-or low half. With
//!   seeds of zero all ways to write one product as two factors have the same hash, all 64 bits of
//!   it. The keys are such ways, for a product of the first primes.
//!
//! Keys that contain a NUL or a white-space byte are left out of both: they would not be one token.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use self::words::{PERIOD_BYTES_MAX, PERIOD_BYTES_MIN, SplitMix64, Words};

mod installed;
#[cfg(test)]
mod tests;
pub(crate) mod words;

pub(crate) use self::installed::Installed;

/// Between the tokens of a line in every kind: the tutorial's separator.
pub(crate) const SEPARATOR: u8 = b' ';

/// Largest text.
pub(crate) const TEXT_BYTES_MAX: usize = PERIOD_BYTES_MAX / 2;

/// The field of a line of [`Kind::Log`] that is worth counting, the path: one of 100 000. The first
/// field has number 0.
pub(crate) const LOG_FIELD: usize = 5;

/// Different keys of [`Kind::Uniform`]. A text of 64 MB draws seven million times.
const UNIFORM_KEYS: u64 = 10_000_000;

/// Different keys of [`Kind::Uuid`]: each comes about twice in 64 MB.
const UUID_KEYS: u64 = 1_000_000;

/// Different words of [`Kind::Medium`].
const MEDIUM_WORDS: u64 = 50_000;

/// A word much longer than a block, and a quarter of the default record limit.
const GIANT_BYTES_MAX: usize = 4 << 20;

/// Most different keys of [`Kind::CollideFx`]. A table that searches all keys that collide takes
/// seconds for them and not hours, so that a bench still ends and shows it.
const COLLIDE_FX_KEYS: usize = 1 << 16;

/// Most different keys of [`Kind::CollideFold`].
const COLLIDE_FOLD_KEYS: usize = 1 << 14;

/// The constant by which FxHash multiplies.
const FX_FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// The prime factors of the product that [`Kind::CollideFold`] writes as two factors, and how often
/// each occurs. The product has 117 bits: halves of up to 64 bits, with no high byte that must be
/// 0.
const FOLD_PRIMES: [(u64, u64); 22] = [
    (2, 6),
    (3, 4),
    (5, 2),
    (7, 2),
    (11, 1),
    (13, 1),
    (17, 1),
    (19, 1),
    (23, 1),
    (29, 1),
    (31, 1),
    (37, 1),
    (41, 1),
    (43, 1),
    (47, 1),
    (53, 1),
    (59, 1),
    (61, 1),
    (67, 1),
    (71, 1),
    (73, 1),
    (79, 1),
];

/// A kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// English-like words.
    English,
    /// English-like words with a long tail.
    ZipfMillion,
    /// Keys of 8 bytes without any order.
    Uniform,
    /// Keys of 36 bytes.
    Uuid,
    /// Lines of a web server's log.
    Log,
    /// Words just too long for one machine word.
    Medium,
    /// Words of one letter.
    Letters,
    /// No words at all.
    Blanks,
    /// Nearly nothing but one word.
    Giant,
    /// Text with the line ends of another system.
    Crlf,
    /// No word twice.
    Grow,
    /// Keys that collide under a seedless multiplication.
    CollideFx,
    /// Keys that collide under a seedless folded multiplication.
    CollideFold,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Kind; 13] = [
        Kind::English,
        Kind::ZipfMillion,
        Kind::Uniform,
        Kind::Uuid,
        Kind::Log,
        Kind::Medium,
        Kind::Letters,
        Kind::Blanks,
        Kind::Giant,
        Kind::Crlf,
        Kind::Grow,
        Kind::CollideFx,
        Kind::CollideFold,
    ];

    /// Returns its name and its description in tables.
    pub(crate) fn label(self) -> (&'static str, &'static str) {
        match self {
            Kind::English => ("english", "English-like words, Zipf over 50 000"),
            Kind::ZipfMillion => ("zipf-1m", "the same, Zipf over 1 million"),
            Kind::Uniform => ("uniform-8", "8-byte keys, uniform over 10 million"),
            Kind::Uuid => ("uuid", "36-byte keys, uniform over 1 million"),
            Kind::Log => ("log", "web server log lines of about 110 bytes"),
            Kind::Medium => ("words-9-16", "words of 9 to 16 bytes, skewed over 50 000"),
            Kind::Letters => ("one-letter", "words of one letter"),
            Kind::Blanks => ("blanks", "nothing but separators, 64 KiB a line"),
            Kind::Giant => ("giant-word", "one word of 4 MiB, over and over"),
            Kind::Crlf => ("crlf", "`english` with CRLF line ends"),
            Kind::Grow => ("grow", "8-byte keys, every one new"),
            Kind::CollideFx => (
                "collide-fx",
                "8-byte keys that collide under seedless FxHash",
            ),
            Kind::CollideFold => (
                "collide-fold",
                "16-byte keys that collide under a seedless folded product",
            ),
        }
    }

    /// Makes a text of this kind: whole lines, about `bytes` bytes.
    ///
    /// # Panics
    ///
    /// If `bytes` is above [`TEXT_BYTES_MAX`].
    pub(crate) fn make(self, bytes: usize) -> Vec<u8> {
        assert!(bytes <= TEXT_BYTES_MAX, "a text of {bytes} bytes");
        match self {
            Kind::English => zipf(bytes, 50_000),
            // A text of these bytes cannot hold more words than that, and making them takes time.
            Kind::ZipfMillion => zipf(bytes, (bytes / 2).clamp(1, 1_000_000)),
            Kind::Uniform => uniform(bytes),
            Kind::Uuid => uuid(bytes),
            Kind::Log => log(bytes),
            Kind::Medium => medium(bytes),
            Kind::Letters => letters(bytes),
            Kind::Blanks => repeat(bytes, SEPARATOR, bytes.clamp(1, 64 << 10)),
            Kind::Giant => repeat(bytes, b'x', bytes.clamp(1, GIANT_BYTES_MAX)),
            Kind::Crlf => crlf(bytes),
            Kind::Grow => grow(bytes),
            Kind::CollideFx => draws(bytes, &fx_keys(key_count(bytes, COLLIDE_FX_KEYS))),
            Kind::CollideFold => draws(bytes, &fold_keys(key_count(bytes, COLLIDE_FOLD_KEYS))),
        }
    }
}

/// Returns the numbered field of a line, counted from 0; empty if there are fewer.
pub(crate) fn field(line: &[u8], number: usize) -> &[u8] {
    let mut separators = memchr::memchr_iter(SEPARATOR, line);
    let start = match number.checked_sub(1) {
        None => Some(0),
        Some(before) => separators.nth(before).map(|at| at + 1),
    };
    match (start, separators.next()) {
        (Some(start), end) => &line[start..end.unwrap_or(line.len())],
        (None, _) => &[],
    }
}

/// Makes text with Zipf's distribution.
fn zipf(bytes: usize, vocabulary: usize) -> Vec<u8> {
    let period_bytes = (2 * bytes).clamp(PERIOD_BYTES_MIN, PERIOD_BYTES_MAX);
    let words = Words::new(1)
        .vocabulary(vocabulary)
        .period_bytes(period_bytes);
    let mut text = words.build().expect("the options are in range");
    let mut made = vec![0; bytes.max(PERIOD_BYTES_MIN / 2)];
    text.fill(&mut made);
    let line_end = memchr::memrchr(b'\n', &made);
    made.truncate(line_end.expect("lines are shorter than the least text") + 1);
    made
}

fn uniform(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(7);
    let key = |line: &mut Vec<u8>| {
        let number = random.below(UNIFORM_KEYS).0 as u32;
        // Odd factors and a shift that can be undone: different numbers stay different.
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b);
        line.extend_from_slice(format!("{mixed:08x}").as_bytes());
    };
    lines_of(bytes, 8, key)
}

fn uuid(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(11);
    let key = |line: &mut Vec<u8>| {
        let mut digits = SplitMix64(random.below(UUID_KEYS).0 as u64);
        let (high, low) = (digits.next(), digits.next());
        let text = format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff,
        );
        line.extend_from_slice(text.as_bytes());
    };
    lines_of(bytes, 2, key)
}

/// Long words, many digits, and nearly every time stamp and request a new key.
fn log(bytes: usize) -> Vec<u8> {
    const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
    const STATUSES: [u16; 5] = [200, 204, 301, 404, 500];
    let mut random = SplitMix64(9);
    let mut ms: u64 = 0;
    fill(bytes, |line| {
        ms += random.below(40).0 as u64;
        let text = format!(
            "2026-11-22T{:02}:{:02}:{:02}.{:03}Z INFO web-{} request={:016x} {} \
             /api/v1/items/{}/details {} {}ms\n",
            ms / 3_600_000 % 24,
            ms / 60_000 % 60,
            ms / 1000 % 60,
            ms % 1000,
            random.below(16).0,
            random.next(),
            METHODS[random.below(4).0],
            random.below(100_000).0,
            STATUSES[random.below(5).0],
            random.below(300).0,
        );
        line.extend_from_slice(text.as_bytes());
    })
}

fn medium(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(12);
    let key = |line: &mut Vec<u8>| {
        let number = skewed(&mut random, MEDIUM_WORDS);
        push_letters(line, number, 9..=16);
    };
    lines_of(bytes, 8, key)
}

fn letters(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(8);
    let key = |line: &mut Vec<u8>| line.push(b'a' + random.below(26).0 as u8);
    lines_of(bytes, 40, key)
}

fn crlf(bytes: usize) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes + bytes / 16);
    for line in zipf(bytes, 50_000).split_inclusive(|&byte| byte == b'\n') {
        made.extend_from_slice(&line[..line.len() - 1]);
        made.extend_from_slice(b"\r\n");
        if made.len() >= bytes {
            break;
        }
    }
    made
}

fn grow(bytes: usize) -> Vec<u8> {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut number: u64 = 0;
    let key = |line: &mut Vec<u8>| {
        number += 1;
        // An odd factor: modulo 2^40 no number comes twice before all have come.
        let mut rest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..8 {
            line.push(DIGITS[(rest % 32) as usize]);
            rest /= 32;
        }
    };
    lines_of(bytes, 8, key)
}

/// How many different keys a text of `bytes` has, so that a small one repeats them too.
fn key_count(bytes: usize, most: usize) -> usize {
    (bytes / 64).clamp(1, most)
}

/// Keys whose products with [`FX_FACTOR`] have their lowest 20 and highest 7 bits in common.
fn fx_keys(count: usize) -> Vec<Vec<u8>> {
    const SHARED_LOW_BITS: u32 = 20;
    const SHARED_HIGH_BITS: u32 = 7;
    let inverse = inverse_of_odd(FX_FACTOR);
    // The low bits of a product depend on the low bits of its factors alone: those of a key that
    // begins with these letters.
    let low_mask = (1 << SHARED_LOW_BITS) - 1;
    let low = u64::from_le_bytes(*b"key\0\0\0\0\0").wrapping_mul(FX_FACTOR) & low_mask;
    let high = 0x2a << (64 - SHARED_HIGH_BITS);
    let hashes = (0..1 << (64 - SHARED_LOW_BITS - SHARED_HIGH_BITS))
        .map(|middle: u64| high | middle << SHARED_LOW_BITS | low);
    let keys = hashes.map(|hash| hash.wrapping_mul(inverse).to_le_bytes());
    let tokens = keys.filter(|key| is_one_token(key)).map(Vec::from);
    tokens.take(count).collect()
}

/// Keys whose two halves, as little-endian numbers, have one and the same product.
fn fold_keys(count: usize) -> Vec<Vec<u8>> {
    let power = |&(prime, times): &(u64, u64)| (0..times).fold(1u128, |p, _| p * u128::from(prime));
    let product: u128 = FOLD_PRIMES.iter().map(power).product();
    let mut random = SplitMix64(13);
    let (mut keys, mut seen) = (Vec::new(), BTreeSet::new());
    while keys.len() < count {
        // One way in twenty or so is usable, and there are five million that are.
        let first = FOLD_PRIMES.iter().fold(1u128, |first, &(prime, times)| {
            let taken = random.below(times + 1).0;
            (0..taken).fold(first, |first, _| first * u128::from(prime))
        });
        let halves = (u64::try_from(first), u64::try_from(product / first));
        if let (Ok(first), Ok(second)) = halves
            && is_one_token(&first.to_le_bytes())
            && is_one_token(&second.to_le_bytes())
            && seen.insert(first)
        {
            keys.push([first.to_le_bytes(), second.to_le_bytes()].concat());
        }
    }
    keys
}

/// The number whose product with `odd` is 1, modulo 2^64.
fn inverse_of_odd(odd: u64) -> u64 {
    // Newton's iteration: an odd number is its own inverse in the lowest three bits, and each step
    // doubles how many bits are right: 3, 6, 12, 24, 48, 96.
    (0..5).fold(odd, |inverse, _| {
        inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)))
    })
}

/// Neither NUL nor what separates tokens under any rule with this text's separator.
fn is_one_token(key: &[u8]) -> bool {
    !key.iter()
        .any(|&byte| byte == 0 || byte == b' ' || (9..=13).contains(&byte))
}

/// All keys in a random order, over and over.
fn draws(bytes: usize, keys: &[Vec<u8>]) -> Vec<u8> {
    let mut random = SplitMix64(14);
    let key = |line: &mut Vec<u8>| line.extend_from_slice(&keys[random.below(keys.len() as u64).0]);
    lines_of(bytes, 8, key)
}

/// Lines of `length` equal bytes, the line end included in it.
fn repeat(bytes: usize, byte: u8, length: usize) -> Vec<u8> {
    fill(bytes, |line| {
        line.resize(line.len() + length - 1, byte);
        line.push(b'\n');
    })
}

/// Lines of `count` keys each.
fn lines_of(bytes: usize, count: usize, mut key: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    fill(bytes, |line| {
        for _ in 0..count {
            key(line);
            line.push(SEPARATOR);
        }
        *line.last_mut().expect("a line has a key") = b'\n';
    })
}

/// Calls `append` until there are `bytes` bytes.
fn fill(bytes: usize, mut append: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes + 4096);
    while lines.len() < bytes {
        append(&mut lines);
    }
    lines
}

/// A number below `below`, a small one more often, about as in text: the logarithm is uniform.
fn skewed(random: &mut SplitMix64, below: u64) -> u64 {
    let bits = u64::from(below.ilog2()) + 1;
    let top = 1u64 << random.below(bits + 1).0;
    random.below(top).0 as u64 % below
}

/// Appends letters that depend on `number` alone; their length is in `lengths`, which holds eight
/// or fewer and at most 26.
fn push_letters(line: &mut Vec<u8>, number: u64, lengths: RangeInclusive<usize>) {
    let span = (lengths.end() - lengths.start() + 1) as u64;
    let length = lengths.start() + (number % span) as usize;
    let mut digits = SplitMix64(number);
    let mut rest = 0;
    for at in 0..length {
        // A number of 64 bits holds 13 letters.
        if at % 13 == 0 {
            rest = digits.next();
        }
        line.push(b'a' + (rest % 26) as u8);
        rest /= 26;
    }
}
