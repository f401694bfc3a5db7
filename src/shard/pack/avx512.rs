//! Packs and looks up eight tokens a step, with AVX-512.
//!
//! Promise: the same lists and counts as `portable`. Must not know: other CPUs. There `pack`
//! is `None`.
//!
//! # Why it is written like this
//!
//! `portable` takes some forty instructions a token. All of them have a form for eight 64-bit
//! lanes:
//!
//! 1. Starts and lengths are differences of neighbouring positions.
//! 2. A shift by 8 times the length makes the mask; a shift by 64 and more makes 0, which keeps all
//!    bytes.
//! 3. The lists grow by a compress into a register, a whole store, and the number of mask bits.
//! 4. A token that no hot slot counts gets one of eight slots that count nothing, each lane its
//!    own: in a row of empty tokens one counter would wait for itself.
//! 5. Loads are scalar, eight bytes at a time, and joined by inserts. That needs no guess about how
//!    far the tokens spread.
//!
//! Measured on Zen 4 with the text of `PERF.md`, in ns a token: one by one 3.5 (pack and look-up);
//! with gathers for both loads 1.9; one 64-byte load and `vpermb` for the tokens, a gather for the
//! slots 1.35, but it needs a branch on the spread; scalar loads for both 1.2. **Dropped**: adding
//! to the counters in this loop; they are added up in a loop of their own, 0.36.

#![allow(unsafe_code)]
// Why unsafe: code compiled for CPU features; loads and stores through pointers. Obligations:
// `pack` asks the CPU; `by_the_side` asserts where the last load ends; lists have a vector's room
// behind them. Attacked by: the property tests of this module and of `tests/oracle`, the fuzz
// targets `cuts_do_not_matter` and `chunks_do_not_matter`.

use std::arch::x86_64::*;

use super::lanes::{LANES, by_the_side, opaque, opaque_number};
use super::{IndexedChunk, LIST_LEN, Lists, PackFn, Sorted, look_up};
use crate::limits::HOT_SLOTS_LOG2;
use crate::table::hot::{NO_SLOT, Slots};

/// The implementation, if this CPU can run it.
pub(super) fn pack() -> Option<PackFn> {
    let supported = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt");
    // SAFETY: the CPU has the features that `sort` enables.
    supported.then_some(|chunk, around, slots, lists| unsafe { sort(chunk, around, slots, lists) })
}

/// # Safety
///
/// The CPU has the features named below. `chunk.ends` ascends, as an `IndexedChunk` promises, and
/// `around` is the chunk's block with its guard.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
unsafe fn sort(
    chunk: &IndexedChunk<'_, '_>,
    around: &[u8],
    slots: &mut Slots,
    lists: &mut Lists,
) -> Sorted {
    let mut sorted = Sorted::default();
    let (ends, base) = (chunk.ends, chunk.base);
    let steps = by_the_side(chunk, around, lists, &mut sorted);
    look_up(slots, lists, &mut sorted);

    let mut slot_count = 0;
    let multiply = _mm512_set1_epi64(slots.multiply as i64);
    let no_slots = _mm512_add_epi64(
        _mm512_set1_epi64(i64::from(NO_SLOT)),
        _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
    );
    let eight = _mm512_set1_epi64(8);
    let all = _mm512_set1_epi64(-1);
    let bases = _mm512_set1_epi64(base as i64 + 1);
    for at in steps {
        // SAFETY: `at + 8` is below `ends.len()`: the nine positions from `at` on exist.
        let (before, end) = unsafe {
            let from = ends.as_ptr().add(at);
            (
                _mm512_cvtepu16_epi64(_mm_loadu_epi16(from.cast())),
                _mm512_cvtepu16_epi64(_mm_loadu_epi16(from.add(1).cast())),
            )
        };
        let len = _mm512_sub_epi64(_mm512_sub_epi64(end, before), _mm512_set1_epi64(1));
        let start = _mm512_add_epi64(before, bases);
        // SAFETY: each position is before the last, so eight bytes behind it end in `around`, as
        // asserted above.
        let bytes = unsafe { load_each(around.as_ptr().add(base + 1), ends.as_ptr().add(at)) };
        let key = _mm512_andnot_si512(_mm512_sllv_epi64(all, _mm512_slli_epi64::<3>(len)), bytes);
        let is_long = _mm512_cmpgt_epi64_mask(len, eight);
        let is_short = _mm512_test_epi64_mask(len, len) & !is_long;

        let slot = _mm512_srli_epi64::<{ 64 - HOT_SLOTS_LOG2 }>(_mm512_mullo_epi64(key, multiply));
        // SAFETY: the shift leaves the number of a slot, and there is a key for each.
        let hot_key = unsafe { load_each_key(slots.keys.as_ptr(), _mm512_cvtepi64_epi16(slot)) };
        let is_hot = _mm512_mask_cmpeq_epi64_mask(is_short, hot_key, key);
        let is_miss = is_short & !is_hot;

        let counted = _mm512_mask_blend_epi64(is_hot, no_slots, slot);
        let places = _mm512_or_si512(_mm512_slli_epi64::<32>(len), start);
        debug_assert!(slot_count + LANES <= LIST_LEN);
        // SAFETY: each list holds at most as many items as there were tokens before this step,
        // which are fewer than `CHUNK_BYTES_MAX`, and has room for a vector more than that.
        unsafe {
            _mm_storeu_epi16(
                lists.slots.as_mut_ptr().add(slot_count).cast(),
                _mm512_cvtepi64_epi16(counted),
            );
            _mm512_storeu_epi64(
                lists.misses.as_mut_ptr().add(sorted.misses).cast(),
                _mm512_maskz_compress_epi64(is_miss, key),
            );
            _mm512_storeu_epi64(
                lists.long.as_mut_ptr().add(sorted.long).cast(),
                _mm512_maskz_compress_epi64(is_long, places),
            );
        }
        slot_count += LANES;
        sorted.short += is_short.count_ones() as usize;
        sorted.misses += is_miss.count_ones() as usize;
        sorted.long += is_long.count_ones() as usize;
    }
    slots.add_up(&lists.slots[..slot_count]);
    sorted
}

/// Eight bytes from each of eight places.
///
/// # Safety
///
/// There are eight `positions`, and from `bytes` on, eight bytes can be read at each of them.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn load_each(bytes: *const u8, positions: *const u16) -> __m512i {
    let positions = opaque(positions);
    let at = |lane: usize| {
        // SAFETY: the caller's promise.
        unsafe {
            let position = usize::from(positions.add(lane).read());
            bytes.add(position).cast::<i64>().read_unaligned()
        }
    };
    join([0, 1, 2, 3, 4, 5, 6, 7].map(at))
}

/// Eight keys by their numbers.
///
/// # Safety
///
/// `keys` points to more keys than each of `numbers`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn load_each_key(keys: *const u64, numbers: __m128i) -> __m512i {
    let low = opaque_number(_mm_cvtsi128_si64(numbers) as u64);
    let high = opaque_number(_mm_extract_epi64::<1>(numbers) as u64);
    let at = |number: u64| {
        // SAFETY: the caller's promise.
        unsafe { keys.add(usize::from(number as u16)).read() as i64 }
    };
    join([
        at(low),
        at(low >> 16),
        at(low >> 32),
        at(low >> 48),
        at(high),
        at(high >> 16),
        at(high >> 32),
        at(high >> 48),
    ])
}

/// Compiled to four loads into low halves, four into high halves, and three inserts.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn join(lanes: [i64; LANES]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = lanes;
    _mm512_setr_epi64(a, b, c, d, e, f, g, h)
}
