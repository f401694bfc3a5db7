//! Sorting eight tokens a step: what does not depend on the instructions.
//!
//! Promise: the tokens of all steps and those `by_the_side` are the tokens of the chunk. Must not
//! know: instructions.

#![allow(unsafe_code)]
// Why unsafe: an empty `asm!`. Obligation: none, it is empty.

use super::{EMPTY_ROW, IndexedChunk, LIST_LEN, Lists, Sorted, by_length};
use crate::split::CHUNK_BYTES_MAX;

/// Tokens a step.
pub(super) const LANES: usize = 8;

/// Rows of at least this many empty tokens are skipped at once.
const LONG_ROW: usize = 64;

const _: () = assert!(LIST_LEN >= CHUNK_BYTES_MAX + LANES && EMPTY_ROW == LANES);

/// Lists the tokens that are in no whole step, and returns the steps.
///
/// # Panics
///
/// If eight bytes from the start of any token are not in `around`.
#[inline(always)]
pub(super) fn by_the_side<'e>(
    chunk: &IndexedChunk<'_, 'e>,
    around: &[u8],
    lists: &mut Lists,
    sorted: &mut Sorted,
) -> Steps<'e> {
    let (ends, base) = (chunk.ends, chunk.base);
    let Some(&last) = ends.last() else {
        return Steps {
            ends,
            next: 0,
            end: 0,
        };
    };
    // Every token begins at or before the last delimiter, and eight bytes are loaded from its
    // start.
    assert!(base + usize::from(last) + 8 <= around.len() && ends.len() <= CHUNK_BYTES_MAX);
    debug_assert!(ends.is_sorted());
    // The first token may have begun in an earlier chunk. It and what remains behind the last whole
    // step go one by one.
    let steps = (ends.len() - 1) / LANES;
    let first = IndexedChunk {
        ends: &ends[..1],
        ..*chunk
    };
    by_length(&first, around, lists, sorted);
    let rest = IndexedChunk {
        start: base + usize::from(ends[steps * LANES]) + 1,
        ends: &ends[steps * LANES + 1..],
        ..*chunk
    };
    by_length(&rest, around, lists, sorted);
    Steps {
        ends,
        next: 0,
        end: steps,
    }
}

/// The steps in which not all tokens are empty. A step is an index into `ends`: its tokens are
/// between that position and the next `LANES`, all of which exist.
pub(super) struct Steps<'e> {
    ends: &'e [u16],
    /// Numbers of steps.
    next: usize,
    end: usize,
}

impl Iterator for Steps<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let ends = self.ends;
        while self.next < self.end {
            let at = self.next * LANES;
            self.next += 1;
            if usize::from(ends[at + LANES] - ends[at]) != EMPTY_ROW {
                return Some(at);
            }
            let far = at + LONG_ROW;
            if far < ends.len() && usize::from(ends[far] - ends[at]) == LONG_ROW {
                self.next += LONG_ROW / LANES - 1;
            }
        }
        None
    }
}

/// Returns the pointer, but hides that from the compiler. Otherwise it loads a whole vector and
/// extracts the numbers one by one, at two operations each, where loads take one.
#[inline(always)]
pub(super) fn opaque<T>(pointer: *const T) -> *const T {
    std::ptr::with_exposed_provenance(opaque_number(pointer.expose_provenance() as u64) as usize)
}

/// As [`opaque`], for a number.
#[inline(always)]
pub(super) fn opaque_number(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
    };
    number
}
