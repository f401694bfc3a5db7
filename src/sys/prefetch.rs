//! Brings a cache line nearer before it is needed.
//!
//! Promise: it affects only speed, whatever the address. Must not know: table, shard.
#![allow(unsafe_code)]
// Why unsafe: the intrinsic takes a pointer. The architecture imposes no obligation, see below.

/// Prefetches the cache line of `address`, which is read or written soon. Does nothing if stable
/// Rust has no such instruction for the architecture.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and reads nothing into the program. An unmapped address
        // is ignored (Intel SDM, PREFETCHh; AMD64 manual 3, PREFETCHlevel).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
