//! Detects whether standard output was open when the program started.
//!
//! Promise: the check runs before the standard library opens `/dev/null` in place of closed
//! descriptors, after which results would vanish and the run would look successful. Must not know:
//! `output`, `counting`.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Returns `true` if the program was started with standard output closed (`>&-`).
pub(crate) fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// The system's loader calls this before `main` and before the standard library starts.
// SAFETY: the section is an array of pointers to functions of this type, and `look` needs no part
// of the standard library that must be set up first: it makes one system call and stores a flag.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: reading the flags of a descriptor changes nothing, whether or not it is open.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    IS_STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
}
