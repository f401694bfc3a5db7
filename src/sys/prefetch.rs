//! Asks the processor to bring a cache line nearer before it is needed.
//!
//! Promise: no effect but on speed, whatever the address. Must not know: what is there.
#![allow(unsafe_code)]
// Why unsafe: the intrinsic takes a pointer. Obligation: none that the architecture asks for, see below.

/// Asks for the cache line of `address`, to be read or written soon. Does nothing where the architecture
/// has no such instruction in stable Rust.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and reads nothing into the program: an address where nothing is
        // mapped is ignored (Intel SDM, PREFETCHh; AMD64 manual 3, PREFETCHlevel).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
