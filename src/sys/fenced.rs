//! Bytes with a page on each side that must not be touched: a read outside of them ends the test
//! process.
//!
//! Property tests in exact allocations need a sanitizer to notice a load that reaches too far. This
//! needs only the memory management unit, so it is part of the default tests. For tests only.
//!
//! # Unsafe
//!
//! Needed for `mmap`, `mprotect` and slices of the mapping. The obligations: the mapping lives as
//! long as the value that lends it, and the fences are never part of a slice.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::slice;

/// One mapping: a fence, room, a fence.
pub(crate) struct Fenced {
    start: NonNull<u8>,
    page: usize,
    room: usize,
}

impl Fenced {
    /// Room for at least `len` bytes between two fences.
    pub(crate) fn new(len: usize) -> Fenced {
        // SAFETY: returns a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).expect("pages have a size");
        let room = len.max(1).next_multiple_of(page);
        // SAFETY: a new mapping at an address that the system chooses. Nothing else uses it.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                room + 2 * page,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let start: NonNull<u8> = NonNull::new(start.cast()).expect("no mapping begins at 0");
        // SAFETY: the pages between the fences, all of them in the mapping above.
        let outcome = unsafe {
            let room_start = start.as_ptr().add(page).cast();
            libc::mprotect(room_start, room, libc::PROT_READ | libc::PROT_WRITE)
        };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        Fenced { start, page, room }
    }

    /// A copy of `bytes` whose last byte touches the fence behind it.
    pub(crate) fn at_end(&mut self, bytes: &[u8]) -> &[u8] {
        let from = self.room - bytes.len();
        self.put(bytes, from)
    }

    /// A copy of `bytes` whose first byte touches the fence before it.
    pub(crate) fn at_start(&mut self, bytes: &[u8]) -> &[u8] {
        self.put(bytes, 0)
    }

    fn put(&mut self, bytes: &[u8], from: usize) -> &[u8] {
        // SAFETY: `room` bytes behind the first fence are readable, writable, zeroed by the system,
        // and borrowed from `self` alone.
        let room =
            unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(self.page), self.room) };
        let place = &mut room[from..from + bytes.len()];
        place.copy_from_slice(bytes);
        place
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that `new` made; no slice of it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.room + 2 * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "MICROTALLY_TEST_READS_TOO_FAR";

    /// A child process that reads one byte too far dies.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_read_outside_of_the_fence_is_noticed() {
        let mut fenced = Fenced::new(10);
        if let Ok(side) = std::env::var(CHILD) {
            let outside = match &side[..] {
                "behind" => fenced.at_end(b"0123456789").as_ptr_range().end,
                _ => fenced.at_start(b"0123456789").as_ptr().wrapping_sub(1),
            };
            // SAFETY: none: this read is to end the process.
            let byte = unsafe { outside.read_volatile() };
            unreachable!("read {byte} outside of the fence");
        }
        for side in ["behind", "before"] {
            let program = std::env::current_exe().expect("the tests' own program");
            let name = "sys::fenced::tests::a_read_outside_of_the_fence_is_noticed";
            let child = Command::new(program)
                .args(["--exact", name])
                .env(CHILD, side)
                .output()
                .expect("it starts");
            let is_fatal = matches!(child.status.signal(), Some(libc::SIGSEGV | libc::SIGBUS));
            assert!(is_fatal, "{side}: {child:?}");
        }
    }
}
