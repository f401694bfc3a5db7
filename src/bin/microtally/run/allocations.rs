//! Counts allocator calls, so that `--stats` can show that a steady run makes none; and ends the
//! program with a message when there is no memory.
//!
//! Promise: the system's allocator, with one relaxed increment per call; every call that returns
//! has memory. Must not know: `counting`, `output`, `parse`.
//!
//! No caller learns that there is no memory, not even one that could do with less. The standard
//! library would only abort, and has been seen to hang while it prints its backtrace.
#![allow(unsafe_code)]
// Why unsafe: a global allocator is an unsafe trait. Every call goes to the system's allocator
// unchanged. The last message must not allocate, so it is written by the C library, which also has
// the only way to set the allocator's number of heaps.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::live;

static CALLS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct CountingAllocator;

/// Allocations and reallocations of the whole process so far.
pub(crate) fn calls() -> u64 {
    // Relaxed: a statistic; no other data depends on it.
    CALLS.load(Ordering::Relaxed)
}

/// Makes all threads allocate from one heap where the address space is limited (`ulimit -v`).
/// Otherwise each thread reserves 64 MiB for its own heap and uses little of it, so that two
/// threads use up the limit. Threads hardly wait for each other, because counting allocates only
/// for new keys.
pub(crate) fn fit_into_address_space() {
    #[cfg(target_env = "gnu")]
    {
        let mut limit = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: the system fills in the structure, which outlives the call.
        let is_known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
        if is_known && limit.rlim_cur != libc::RLIM_INFINITY {
            // SAFETY: this is the only thread so far, and the parameter allows the number.
            unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        }
    }
}

/// Ends the program if there was no memory for `bytes` more bytes.
#[inline]
fn granted(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        end_without_memory(bytes);
    }
    block
}

#[cold]
fn end_without_memory(bytes: usize) -> ! {
    live::screen::abandon();
    let mut text = [0; 256];
    let mut rest = &mut text[..];
    // The text fits.
    let _ = writeln!(
        rest,
        "microtally: out of memory for {bytes} more bytes; results that were not printed are lost; raise the limit \
         of the process (ulimit -v), or lower --max-memory"
    );
    let left = rest.len();
    let length = text.len() - left;
    // SAFETY: the text has this length, and neither function keeps it.
    unsafe {
        libc::write(2, text.as_ptr().cast(), length);
        libc::_exit(1)
    }
}

// SAFETY: every method passes its arguments on to `System`, whose contract is the same.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `block`, `layout` and `new_size` are passed on.
        granted(unsafe { System.realloc(block, layout, new_size) }, new_size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises about `block` and `layout` are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
