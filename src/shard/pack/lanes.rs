//! What sorting eight tokens a step takes, whatever the instructions are.
//!
//! Promise: the tokens of all steps and those `by_the_side` are the tokens of the run. Must not know:
//! instructions.

#![allow(unsafe_code)]
// Why unsafe: an empty `asm!`. Obligation: none, it is empty.

use super::{EMPTY_ROW, LIST_LEN, Lists, Run, Sorted, by_length};
use crate::split::CHUNK_BYTES_MAX;

/// Tokens a step.
pub(super) const LANES: usize = 8;

/// Empty tokens that are passed over at once where there are as many.
const LONG_ROW: usize = 64;

const _: () = assert!(LIST_LEN >= CHUNK_BYTES_MAX + LANES && EMPTY_ROW == LANES);

/// Puts the tokens that are in no whole step on the lists, and gives the steps.
///
/// # Panics
///
/// If eight bytes from the start of any token are not in `around`.
#[inline(always)]
pub(super) fn by_the_side<'e>(
    run: &Run<'_, 'e>,
    around: &[u8],
    lists: &mut Lists,
    sorted: &mut Sorted,
) -> Steps<'e> {
    let (ends, base) = (run.ends, run.base);
    let Some(&last) = ends.last() else {
        return Steps {
            ends,
            next: 0,
            end: 0,
        };
    };
    // Every token begins at or before the last delimiter, and eight bytes are loaded from its start.
    assert!(base + usize::from(last) + 8 <= around.len() && ends.len() <= CHUNK_BYTES_MAX);
    debug_assert!(ends.is_sorted());
    // The first token may have begun in an earlier chunk. It and what is left behind the last whole step go
    // one by one.
    let steps = (ends.len() - 1) / LANES;
    let first = Run {
        ends: &ends[..1],
        ..*run
    };
    by_length(&first, around, lists, sorted);
    let rest = Run {
        start: base + usize::from(ends[steps * LANES]) + 1,
        ends: &ends[steps * LANES + 1..],
        ..*run
    };
    by_length(&rest, around, lists, sorted);
    Steps {
        ends,
        next: 0,
        end: steps,
    }
}

/// The steps in which not all tokens are empty. A step is a place in `ends`: its tokens are what is between that
/// position and the `LANES` behind it, all of which exist.
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

/// The same pointer, but the compiler cannot know it: else it makes one load of a whole vector, and takes the
/// numbers out of it one by one, at two operations each, where loads do it for one.
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
