//! Counts what the program asks the allocator for, so that `--stats` can show that a steady run asks for
//! nothing; and ends the program in order when there is no memory.
//!
//! Promise: the system's allocator, with one relaxed increment a call; who gets an answer gets memory. Must
//! not know: who allocates.
//!
//! Nobody gets to know that there is no memory, not even who could do with less: what would be left to do on a
//! few bytes is to abort, in the standard library, which has been seen to stand still over its backtrace instead.
#![allow(unsafe_code)]
// Why unsafe: a global allocator is an unsafe trait. Every call goes to the system's allocator unchanged. And
// its end must not allocate, so it writes and exits as the C library does. How that allocator divides its memory
// can be set by calls of the C library only.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::live;

static CALLS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// Allocations and reallocations of the whole process so far.
pub(crate) fn calls() -> u64 {
    // Relaxed: a statistic; no other data depends on it.
    CALLS.load(Ordering::Relaxed)
}

/// Where the address space is limited (`ulimit -v`), has all threads allocate from one heap. Otherwise each would reserve
/// 64 MiB for a heap of its own, of which it uses little: two such threads and the limit is used up. They do not get
/// into each other's way, because threads that count allocate only for new keys.
pub(crate) fn fit_into_address_space() {
    #[cfg(target_env = "gnu")]
    {
        let mut limit = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: the system fills in the structure, which is there as long as the call takes.
        let is_known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
        if is_known && limit.rlim_cur != libc::RLIM_INFINITY {
            // SAFETY: there is only this thread so far, and the number is one that the parameter allows.
            unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        }
    }
}

/// Ends the program if there was no memory for `bytes` more.
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
    // There is room for it.
    let _ = writeln!(
        rest,
        "microtally: out of memory for {bytes} bytes more, results that are not out are lost: allow the process \
         more (ulimit -v), or have it take less with --max-memory"
    );
    let left = rest.len();
    let length = text.len() - left;
    // SAFETY: the text is that long, and neither function keeps it.
    unsafe {
        libc::write(2, text.as_ptr().cast(), length);
        libc::_exit(1)
    }
}

// SAFETY: every method passes its arguments on to `System`, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
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
