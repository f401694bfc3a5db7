//! Keys, filters and values are found without asking the allocator, once the first lines have gone
//! through: an allocator that counts what its own thread asks for, and the finders, line after
//! line.
#![allow(unsafe_code)] // A global allocator is an unsafe trait; calls go to the system's unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use microtally::extract::{FieldIndex, Finder, Number, Selector, Separator};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every method passes its arguments on to `System`, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and is not the one that is looked at.
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises about `block` and `layout` are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn a_key_is_found_without_an_allocation() {
    let lines: [&[u8]; 6] = [
        b"a b c,d \"e,\"\"f\"\"\",g status=200",
        b"x,\"quoted, \"\"twice\"\"\",3.25 status=404",
        br#"{"time":"now","user":{"tags":["x",3],"id":17,"name":"ann"},"n":1.5}"#,
        br#"{"user":{"id":18},"name":"escaped"} "#,
        b"",
        b"\xff\xfe not UTF-8 status=500",
    ];
    let pointer = |names: [&str; 2]| Selector::Json(names.map(String::from).to_vec());
    for part in [
        Selector::Line,
        Selector::Field(FieldIndex::FromStart(1)),
        Selector::Field(FieldIndex::FromEnd(0)),
        Selector::Csv(1),
        pointer(["user", "id"]),
        pointer(["user", "name"]),
        Selector::Regex("status=(\\d+)".into()),
        Selector::Regex("[a-z]+".into()),
    ] {
        let mut finder = Finder::new(&part, Separator::Blanks, "key").expect("a finder");
        let (mut out, mut found) = (Vec::with_capacity(1 << 10), 0u64);
        let mut pass = || {
            for line in lines {
                out.clear();
                found += u64::from(finder.find(line, &mut out).is_ok());
                let _ = std::hint::black_box(Number::parse(&out));
            }
        };
        pass();
        let before = CALLS.get();
        for _ in 0..100 {
            pass();
        }
        assert_eq!(CALLS.get() - before, 0, "{part:?}");
        assert!(found >= 101, "{part:?} is found");
    }
}
