//! A table keeps within its limit while it makes room, too: told by an allocator that counts, and
//! not by the table.
#![allow(unsafe_code)]
// Why unsafe: a global allocator is an unsafe trait. Every call goes to the system's allocator
// unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use microtally::internals::{KeyTable, Seed};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every method passes its arguments on to `System`, whose contract is the same. Where it
// grows a block the old and the new one are counted, as if it were moved.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises about `block`, `layout` and `new_size` are passed on.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises about `block` and `layout` are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Limits that end anywhere between two leaves, keys of one class or of all: making room has its
/// own memory.
#[test]
fn a_table_that_makes_room_stays_within_its_limit() {
    for step in 0..40 {
        let bytes = KeyTable::<u64>::bytes_min() + step * 41_000;
        let before = LIVE.get();
        PEAK.set(before);
        let mut table = KeyTable::counting_within(Seed::random(), bytes);
        let mut key = Vec::with_capacity(64);
        let of_key = 64;
        for number in 0..60_000u64 {
            key.clear();
            key.extend_from_slice(&number.to_be_bytes()[4..]);
            key.push(1);
            if number % 4 < step as u64 % 5 {
                // A long one, and now and then one of 9 to 16 bytes.
                key.resize(
                    if number % 7 == 0 {
                        12
                    } else {
                        20 + number as usize % 40
                    },
                    1,
                );
            }
            table.add(&key, 1, |a, b| a + b);
        }
        let peak = usize::try_from(PEAK.get() - before).expect("there is a table") - of_key;
        assert!(
            table.len() > 1000 && peak > bytes / 3,
            "{step}: it was full"
        );
        assert!(peak <= bytes, "{step}: {peak} bytes of {bytes}");
    }
}
