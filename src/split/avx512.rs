//! The index pass with AVX-512 (BW and VBMI2).
//!
//! Promise: the same index as `scalar`, reading no byte outside the chunk. Must not know: other
//! CPUs. Without these instructions, `kernel` is `None`.
//!
//! # Why it is written like this
//!
//! The naive version is in `portable`. What was done here:
//!
//! 1. 64 bytes a step; a comparison returns one bit a byte. The masks of `\n` and `\r` are needed
//!    for the delimiters anyway, so counting the two costs a popcount each.
//! 2. Whitespace is one shuffle and one comparison, as in `avx2`.
//! 3. NUL: keep the smallest byte seen per lane, look at it once per chunk.
//! 4. Positions: compress the vector 0, 1, 2 … 63 by the mask, widen to `u16`, add the base, store.
//!    32 lanes are stored no matter how many count, and the next store overwrites the rest. Only
//!    more than 32 delimiters in 64 bytes need the upper half. Text that has them tends to have
//!    them everywhere, so the branch is predicted.
//! 5. Compress into a register, then a plain store. Compressing into memory takes 52 ns where this
//!    takes 1.4 (Zen 4).
//! 6. Every load is masked, even the whole ones: the mask costs nothing beside the rest, and the
//!    last, short step needs no code of its own. Lanes outside the chunk are not read; they hold 1,
//!    which is neither NUL nor a line end nor whitespace. It may be the separator, so that
//!    comparison is masked as well.
//!
//! Tried and dropped: nothing yet. It takes 0.044 ns a byte of English-like text (Zen 4) against
//! 0.096 for `avx2`, a small part of what any consumer of tokens takes.
//!
//! # Unsafe
//!
//! Needed for calling code compiled for AVX-512, and for loads and stores through pointers. The
//! obligations: `kernel` asks the CPU, `Kernel::index` asserts the two lengths, the count never
//! exceeds the number of bytes looked at. The property tests attack the last one with chunks of
//! delimiters only, in exact allocations so that a sanitizer sees any byte too far.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{ChunkCounts, Kernel, LineEnds, Rule, kind};

/// The kernel, if this CPU can run it.
pub(super) fn kernel() -> Option<Kernel> {
    let supported = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt");
    supported.then_some(Kernel {
        name: "avx512",
        index,
        line_ends: LineEnds::Universal,
    })
}

/// Reachable only through `kernel`, and called only by `Kernel::index`.
fn index(rule: Rule, line_ends: [u8; 2], chunk: &[u8], ends: &mut [u16]) -> ChunkCounts {
    // SAFETY: `kernel`, the only way to this function, saw that the CPU has all features which
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

/// 0, 1, 2 … 63.
static LANES: [u8; 64] = {
    let mut lanes = [0; 64];
    let mut lane = 0;
    while lane < 64 {
        lanes[lane] = lane as u8;
        lane += 1;
    }
    lanes
};

/// # Safety
///
/// `chunk.len() <= CHUNK_BYTES_MAX` and `ends.len() >= ENDS_LEN`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi2,popcnt")]
unsafe fn scan<const KIND: u8>(
    separator: u8,
    line_ends: [u8; 2],
    chunk: &[u8],
    ends: &mut [u16],
) -> ChunkCounts {
    let separator = _mm512_set1_epi8(separator as i8);
    let line_feed = _mm512_set1_epi8(line_ends[0] as i8);
    let carriage_return = _mm512_set1_epi8(line_ends[1] as i8);
    let by_nibble = _mm512_broadcast_i32x4(_mm_setr_epi8(
        32, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12, 13, 0, 0,
    ));
    // SAFETY: `LANES` is 64 bytes long.
    let lanes = unsafe { _mm512_loadu_epi8(LANES.as_ptr().cast()) };
    let filler = _mm512_set1_epi8(1);

    let mut found = ChunkCounts::default();
    let mut lowest = filler;
    let mut base = _mm512_setzero_si512();
    let mut offset = 0;
    while offset < chunk.len() {
        let valid = _bzhi_u64(u64::MAX, (chunk.len() - offset).min(64) as u32);
        // SAFETY: `offset` is inside the chunk (loop condition); `valid` has a bit for each byte
        // from there to its end (line above), and lanes without a bit are not read.
        let bytes =
            unsafe { _mm512_mask_loadu_epi8(filler, valid, chunk.as_ptr().add(offset).cast()) };
        lowest = _mm512_min_epu8(lowest, bytes);
        let line_feeds = _mm512_cmpeq_epi8_mask(bytes, line_feed);
        let carriage_returns = _mm512_cmpeq_epi8_mask(bytes, carriage_return);
        let delimiters = match KIND {
            kind::SPLIT => {
                let separators = _mm512_mask_cmpeq_epi8_mask(valid, bytes, separator);
                separators | line_feeds | carriage_returns
            }
            kind::SPLIT_WHITESPACE => {
                _mm512_cmpeq_epi8_mask(bytes, _mm512_shuffle_epi8(by_nibble, bytes)) | line_feeds
            }
            _ => line_feeds | carriage_returns,
        };

        let count = delimiters.count_ones() as usize;
        // A row of delimiters has nothing to compress.
        let packed = if count == 64 {
            lanes
        } else {
            _mm512_maskz_compress_epi8(delimiters, lanes)
        };
        let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(packed));
        debug_assert!(found.delimiters <= offset && offset + 64 <= ends.len());
        // SAFETY: at most one position was written for each byte before `offset`, `offset` is a
        // multiple of 64 below `CHUNK_BYTES_MAX`, and `ends` is 64 longer than that: there is room
        // for 64 more lanes, of which this store takes 32.
        let out = unsafe { ends.as_mut_ptr().add(found.delimiters) };
        // SAFETY: see `out`.
        unsafe { _mm512_storeu_epi16(out.cast(), _mm512_add_epi16(low, base)) };
        if count > 32 {
            let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(packed));
            // SAFETY: see `out`; these are the other 32.
            unsafe { _mm512_storeu_epi16(out.add(32).cast(), _mm512_add_epi16(high, base)) };
        }

        found.delimiters += count;
        found.line_feeds += line_feeds.count_ones() as usize;
        found.carriage_returns += carriage_returns.count_ones() as usize;
        base = _mm512_add_epi16(base, _mm512_set1_epi16(64));
        offset += 64;
    }
    found.has_nul = _mm512_cmpeq_epi8_mask(lowest, _mm512_setzero_si512()) != 0;
    found
}
