//! Whether standard output was open when the program started.
//!
//! Promise: looks before the standard library opens `/dev/null` in place of what is closed, after which results would
//! vanish and the run look like a success. Must not know: who writes results.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether whoever started the program had closed standard output (`>&-`).
pub(crate) fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// The system's loader calls what stands here before `main` and before the standard library begins.
// SAFETY: the section is an array of pointers to functions of this type, and `look` needs nothing of the standard
// library that has to be set up before: it makes one system call and stores a flag.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: asking for the flags of a descriptor changes nothing, whether or not it is open.
    let flags = unsafe { nix::libc::fcntl(nix::libc::STDOUT_FILENO, nix::libc::F_GETFD) };
    IS_STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
}
