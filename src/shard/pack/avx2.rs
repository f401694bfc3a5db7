//! Packs eight tokens a step, with AVX2.
//!
//! Promise: the same lists as `portable`. Must not know: other CPUs. There `pack` is
//! `None`.
//!
//! # Why it is written like this
//!
//! Packing is what `avx512` does, in halves of four lanes, with other means where those
//! instructions have no counterpart:
//!
//! 1. Lengths and classes are computed in eight lanes of 16 bits, because positions are that short.
//! 2. Instead of a compress, the set of lanes that go on a list chooses one of 16 permutations from
//!    a table of 512 bytes.
//! 3. Of long tokens only the number is listed, by the table that the index pass has for its
//!    positions; the few of them get their places in a loop of their own. Two more permutations
//!    would be twice the work.
//!
//! The look-up is `portable`'s, one packed token after the other. On Zen 3, text of `PERF.md`, ns a
//! token: packing one by one 2.2, so 1.0 to 1.3; the whole 4.2 and 2.6. **Dropped**: looking up in
//! the same step, as `avx512` does (slots by three multiplications, through memory to become
//! addresses): half as many instructions and no faster than one by one, because a step waits for
//! its own keys, and the processor has only two steps under way. Looking up in a vector loop of its
//! own: 2.7 to 2.8 for the whole, with gathers 2.8 to 3.0. **Dropped**: key and count of a slot
//! side by side, no difference.

#![allow(unsafe_code)]
// Why unsafe: code compiled for CPU features; loads and stores through pointers. Obligations:
// `pack` asks the CPU; `by_the_side` asserts where the last load ends; lists have a vector's room
// behind them. Attacked by: the property tests of this module and of `tests/oracle`, the fuzz
// targets `cuts_do_not_matter` and `chunks_do_not_matter`.

use std::arch::x86_64::*;

use super::lanes::{by_the_side, opaque};
use super::{IndexedChunk, Lists, PackFn, Sorted, look_up, place};
use crate::split::{BITS, CHUNK_BYTES_MAX};
use crate::table::hot::Slots;

/// The implementation, if this CPU can run it.
pub(super) fn pack() -> Option<PackFn> {
    let supported = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt");
    // SAFETY: the CPU has the features that `sort` enables.
    supported.then_some(|chunk, around, slots, lists| unsafe { sort(chunk, around, slots, lists) })
}

/// For each set of four lanes, as a number of four bits, the halves of its members in front.
static MEMBERS: [[u32; 8]; 16] = {
    let mut members = [[0; 8]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut at) = (0, 0);
        while lane < 4 {
            if set >> lane & 1 == 1 {
                members[set][at] = 2 * lane;
                members[set][at + 1] = 2 * lane + 1;
                at += 2;
            }
            lane += 1;
        }
        set += 1;
    }
    members
};

/// # Safety
///
/// The CPU has the features named below. `chunk.ends` ascends, as an `IndexedChunk` promises, and
/// `around` is the chunk's block with its guard.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
unsafe fn sort(
    chunk: &IndexedChunk<'_, '_>,
    around: &[u8],
    slots: &mut Slots,
    lists: &mut Lists,
) -> Sorted {
    let mut sorted = Sorted::default();
    let (ends, base) = (chunk.ends, chunk.base);
    let steps = by_the_side(chunk, around, lists, &mut sorted);
    let mut long_count = 0;
    for at in steps {
        // SAFETY: `at + 8` is below `ends.len()`: the nine positions from `at` on exist.
        let (before, end) = unsafe {
            let from = ends.as_ptr().add(at);
            (
                _mm_loadu_si128(from.cast()),
                _mm_loadu_si128(from.add(1).cast()),
            )
        };
        let len = _mm_sub_epi16(_mm_sub_epi16(end, before), _mm_set1_epi16(1));
        let is_long = _mm_cmpgt_epi16(len, _mm_set1_epi16(8));
        let is_empty = _mm_cmpeq_epi16(len, _mm_setzero_si128());
        let classes = _mm_movemask_epi8(_mm_packs_epi16(is_long, is_empty)) as usize;
        let (is_long, is_short) = (classes & 0xff, !(classes | classes >> 8) & 0xff);

        // SAFETY: each position is before the last, so eight bytes behind it end in `around`, as
        // `by_the_side` asserted.
        let (low, high) = unsafe {
            let (bytes, from) = (around.as_ptr().add(base + 1), ends.as_ptr().add(at));
            (load_each(bytes, from), load_each(bytes, from.add(4)))
        };
        let low = keep(low, len);
        let high = keep(high, _mm_bsrli_si128::<8>(len));
        // SAFETY: a row has eight bytes.
        let long = unsafe { _mm_loadl_epi64(BITS[is_long].as_ptr().cast()) };
        let long = _mm_add_epi16(_mm_cvtepu8_epi16(long), _mm_set1_epi16(at as i16));
        debug_assert!(long_count.max(sorted.short) < CHUNK_BYTES_MAX);
        // SAFETY: each list holds at most as many items as there were tokens before its vector,
        // which are fewer than `CHUNK_BYTES_MAX`, and has room for a vector more than that.
        unsafe {
            _mm_storeu_si128(lists.numbers.as_mut_ptr().add(long_count).cast(), long);
            for (keys, is_short) in [(low, is_short & 0xf), (high, is_short >> 4)] {
                let members = _mm256_loadu_si256(MEMBERS[is_short].as_ptr().cast());
                let room = lists.short.as_mut_ptr().add(sorted.short);
                _mm256_storeu_si256(room.cast(), _mm256_permutevar8x32_epi32(keys, members));
                sorted.short += is_short.count_ones() as usize;
            }
        }
        long_count += is_long.count_ones() as usize;
    }
    for &number in &lists.numbers[..long_count] {
        let [before, end] = [0, 1].map(|next| usize::from(ends[usize::from(number) + next]));
        lists.long[sorted.long] = place(base + before + 1, end - before - 1);
        sorted.long += 1;
    }
    look_up(slots, lists, &mut sorted);
    sorted
}

/// Of each of four times eight bytes, keeps the first ones: as many as the lower half of `len`
/// says.
#[inline]
#[target_feature(enable = "avx2")]
fn keep(bytes: __m256i, len: __m128i) -> __m256i {
    let bits = _mm256_slli_epi64::<3>(_mm256_cvtepu16_epi64(len));
    // A shift by 64 and more makes 0, which keeps all of them.
    _mm256_andnot_si256(_mm256_sllv_epi64(_mm256_set1_epi64x(-1), bits), bytes)
}

/// Eight bytes from each of four places.
///
/// # Safety
///
/// There are four `positions`, and from `bytes` on, eight bytes can be read at each of them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_each(bytes: *const u8, positions: *const u16) -> __m256i {
    let positions = opaque(positions);
    let at = |lane: usize| {
        // SAFETY: the caller's promise.
        unsafe {
            let position = usize::from(positions.add(lane).read());
            bytes.add(position).cast::<i64>().read_unaligned()
        }
    };
    _mm256_setr_epi64x(at(0), at(1), at(2), at(3))
}
