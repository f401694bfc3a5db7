//! The index pass with AVX2.
//!
//! Promise: the same index as `scalar`, reading no byte outside the chunk. Must not know: other
//! CPUs. Without AVX2, `kernel` is `None`.
//!
//! # Why it is written like this
//!
//! The naive version is in `portable`. What was done here:
//!
//! 1. 64 bytes a step: compare two vectors with each delimiter and gather the results in one `u64`
//!    with one bit a byte. The masks of `\n` and `\r` are needed for that anyway, so counting the
//!    two costs a popcount each.
//! 2. Whitespace is one shuffle and one comparison: space and 9..=13 have six different low
//!    nibbles, so a table by low nibble holds the only byte that could be whitespace here. The
//!    shuffle returns 0 for bytes of 0x80 and above and for unused nibbles, and no byte of these
//!    classes is 0 (NUL has the low nibble of the space).
//! 3. NUL: keep the smallest byte seen per lane, look at it once per chunk.
//! 4. Positions: eight bits of the mask choose a row of a 2 KiB table, which holds the numbers of
//!    the set bits. Widened and added to the base they are stored, all eight of them, and `count`
//!    advances by as many as were real. The next store overwrites the rest. The cost is the same
//!    for every text, and no branch depends on the data.
//! 5. The last, short step works on a copy padded with 1, which is neither NUL nor a line end nor
//!    whitespace. It may be the separator, so the mask is cut to the valid bits.
//!
//! Tried and dropped: finding bits one by one (`tzcnt`, clear lowest). On English-like text it took
//! 0.25 ns a byte against 0.096, because nobody can predict after how many rounds the loop ends. On
//! lines of 70 bytes it is the faster one, 0.060 against 0.092, but that is not where the time
//! goes, and one path is easier to trust than two.
//!
//! # Unsafe
//!
//! Needed for calling code compiled for AVX2, and for loads and stores through pointers. The
//! obligations: `kernel` asks the CPU, `Kernel::index` asserts the two lengths, `count` never
//! exceeds the number of bytes looked at. The property tests attack the last one with chunks of
//! delimiters only, in exact allocations so that a sanitizer sees any byte too far.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::portable::BITS;
use super::{ChunkCounts, Kernel, LineEnds, Rule, kind};

/// The kernel, if this CPU can run it.
pub(super) fn kernel() -> Option<Kernel> {
    let supported = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
    supported.then_some(Kernel {
        name: "avx2",
        index,
        line_ends: LineEnds::Universal,
    })
}

/// Reachable only through `kernel`, and called only by `Kernel::index`.
fn index(rule: Rule, line_ends: [u8; 2], chunk: &[u8], ends: &mut [u16]) -> ChunkCounts {
    // SAFETY: `kernel`, the only way to this function, saw that the CPU has both features which
    // `scan` enables; its caller `Kernel::index` asserted the lengths which `scan` asks for.
    unsafe {
        match rule {
            Rule::Split(separator) => scan::<{ kind::SPLIT }>(separator, line_ends, chunk, ends),
            Rule::SplitWhitespace => {
                scan::<{ kind::SPLIT_WHITESPACE }>(b' ', line_ends, chunk, ends)
            }
            Rule::Lines => scan::<{ kind::LINES }>(line_ends[0], line_ends, chunk, ends),
        }
    }
}

/// # Safety
///
/// `chunk.len() <= CHUNK_BYTES_MAX` and `ends.len() >= ENDS_LEN`.
#[target_feature(enable = "avx2,popcnt")]
unsafe fn scan<const KIND: u8>(
    separator: u8,
    line_ends: [u8; 2],
    chunk: &[u8],
    ends: &mut [u16],
) -> ChunkCounts {
    let mut found = ChunkCounts::default();
    let mut lowest = _mm256_set1_epi8(1);
    let mut base = 0;
    let (groups, tail) = chunk.as_chunks::<64>();
    for group in groups {
        let masks = classify::<KIND>(group, separator, line_ends, &mut lowest);
        // SAFETY: `found.delimiters <= base` (one bit for each byte so far), `base + 64` is at
        // most `CHUNK_BYTES_MAX`, and `ends` is longer than that.
        unsafe { write(masks, base, ends, &mut found) };
        base += 64;
    }
    if !tail.is_empty() {
        let mut group = [1; 64];
        group[..tail.len()].copy_from_slice(tail);
        let mut masks = classify::<KIND>(&group, separator, line_ends, &mut lowest);
        masks.delimiters &= (1 << tail.len()) - 1;
        // SAFETY: as above; `base` is a multiple of 64 below `CHUNK_BYTES_MAX`, itself one.
        unsafe { write(masks, base, ends, &mut found) };
    }
    let nul = _mm256_cmpeq_epi8(lowest, _mm256_setzero_si256());
    found.has_nul = _mm256_movemask_epi8(nul) != 0;
    found
}

/// One bit for each of 64 bytes.
struct Masks {
    delimiters: u64,
    line_feeds: u64,
    carriage_returns: u64,
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn classify<const KIND: u8>(
    group: &[u8; 64],
    separator: u8,
    line_ends: [u8; 2],
    lowest: &mut __m256i,
) -> Masks {
    let (low, high) = group.split_at(32);
    // SAFETY: both halves of the array are 32 bytes long.
    let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
    // SAFETY: as above.
    let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
    *lowest = _mm256_min_epu8(*lowest, _mm256_min_epu8(low, high));

    let mask = |low, high| {
        let low = _mm256_movemask_epi8(low) as u32;
        let high = _mm256_movemask_epi8(high) as u32;
        u64::from(low) | u64::from(high) << 32
    };
    let equal_to = |byte: u8| {
        let byte = _mm256_set1_epi8(byte as i8);
        mask(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
    };
    let line_feeds = equal_to(line_ends[0]);
    let carriage_returns = equal_to(line_ends[1]);
    let delimiters = match KIND {
        kind::SPLIT => equal_to(separator) | line_feeds | carriage_returns,
        kind::SPLIT_WHITESPACE => {
            let by_nibble = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                32, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12, 13, 0, 0,
            ));
            mask(
                _mm256_cmpeq_epi8(low, _mm256_shuffle_epi8(by_nibble, low)),
                _mm256_cmpeq_epi8(high, _mm256_shuffle_epi8(by_nibble, high)),
            ) | line_feeds
        }
        _ => line_feeds | carriage_returns,
    };
    Masks {
        delimiters,
        line_feeds,
        carriage_returns,
    }
}

/// Appends the positions of one group, which begins at `base` in its chunk.
///
/// # Safety
///
/// `found.delimiters + 64 <= ends.len()`.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn write(masks: Masks, base: usize, ends: &mut [u16], found: &mut ChunkCounts) {
    debug_assert!(found.delimiters <= base && found.delimiters + 64 <= ends.len());
    found.line_feeds += masks.line_feeds.count_ones() as usize;
    found.carriage_returns += masks.carriage_returns.count_ones() as usize;
    let mut base = _mm_set1_epi16(base as i16);
    for bits in masks.delimiters.to_le_bytes() {
        // SAFETY: a row of `BITS` is 8 bytes long.
        let lanes = unsafe { _mm_loadl_epi64(BITS[usize::from(bits)].as_ptr().cast()) };
        let positions = _mm_add_epi16(_mm_cvtepu8_epi16(lanes), base);
        // SAFETY: in round `i` of 8, `found.delimiters` has grown by at most `8 * i` and these are
        // 8 lanes: no more than the 64 that the caller vouches for.
        unsafe { _mm_storeu_si128(ends.as_mut_ptr().add(found.delimiters).cast(), positions) };
        found.delimiters += bits.count_ones() as usize;
        base = _mm_add_epi16(base, _mm_set1_epi16(8));
    }
}
