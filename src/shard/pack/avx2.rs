//! The portable loop, compiled for CPUs with AVX2 and BMI2.
//!
//! Promise: what `portable` gives. Refuses to know: anything else.
//!
//! Eight tokens a step, as `avx512` has it, needs its masks and its compress.
#![allow(unsafe_code)]
// Why unsafe: calling code compiled for CPU features. Obligation: `pack` asks the CPU.

use super::{Lists, Pack, Run, Sorted, by_length, look_up};
use crate::table::hot::Slots;

/// The implementation, if this CPU can run it.
pub(super) fn pack() -> Option<Pack> {
    let supported = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt");
    // SAFETY: the CPU has the features that `sort` enables.
    supported.then_some(|run, around, slots, lists| unsafe { sort(run, around, slots, lists) })
}

/// # Safety
///
/// The CPU has the features named below.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
unsafe fn sort(run: &Run<'_, '_>, around: &[u8], slots: &mut Slots, lists: &mut Lists) -> Sorted {
    let mut sorted = Sorted::default();
    by_length(run, around, lists, &mut sorted);
    look_up(slots, lists, &mut sorted);
    sorted
}
