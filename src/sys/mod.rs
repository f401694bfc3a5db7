//! The operating system, where no crate covers it: the cores of this process, its memory, its
//! sockets.
//!
//! Promise: every answer is usable, even if the system returns none; no core is given to two
//! threads of the process. Must not know: shard, source, engine.

#[cfg(test)]
pub(crate) mod fenced;
pub(crate) mod prefetch;
pub(crate) mod proc;

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::thread;

use core_affinity::CoreId;

use crate::error::lock;

/// The process that took cores, and the cores that its threads are pinned to. After a `fork` those
/// threads are missing.
static TAKEN: Mutex<(u32, Vec<usize>)> = Mutex::new((0, Vec::new()));

/// Number of cores this process may use, by the CPU quota of its control group and its affinity
/// mask.
pub(crate) fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Cores that threads may be pinned to, one each. No other thread gets them until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Cores(Vec<CoreId>);

impl Cores {
    /// Takes cores of the affinity mask for `thread_count` threads, except those that another
    /// engine of the process has taken. In a container they need not be numbered from 0. Returns
    /// `None` if the system does not report them.
    ///
    /// Takes none if pinning would do harm. With more threads than free cores, or with a CPU quota
    /// below the mask, pinned threads would wait for each other on one core while another is free.
    pub(crate) fn take(thread_count: usize) -> Option<Self> {
        let mut cores = core_affinity::get_core_ids().filter(|cores| !cores.is_empty())?;
        if core_count() < cores.len() {
            return Some(Cores::default());
        }
        let mut taken = lock(&TAKEN);
        let (process, taken) = &mut *taken;
        if std::mem::replace(process, std::process::id()) != *process {
            taken.clear();
        }
        cores.retain(|core| !taken.contains(&core.id));
        if thread_count > cores.len() {
            return Some(Cores::default());
        }
        // From the last core downwards: the first ones serve interrupts and the reading thread.
        let cores = cores.split_off(cores.len() - thread_count);
        taken.extend(cores.iter().map(|core| core.id));
        Some(Cores(cores))
    }

    /// Returns the core of the numbered thread, if there is one for each.
    pub(crate) fn of(&self, thread: usize) -> Option<CoreId> {
        self.0.iter().rev().nth(thread).copied()
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        let mut taken = lock(&TAKEN);
        let is_ours = |id: &usize| self.0.iter().any(|core| core.id == *id);
        taken.1.retain(|id| !is_ours(id));
    }
}

/// Returns the unread bytes of a socket, or another stream, if the system reports them.
pub(crate) fn unread_bytes(stream: impl AsFd) -> Option<u64> {
    rustix::io::ioctl_fionread(stream).ok()
}

/// Pins the calling thread. Threads that it starts later inherit the mask.
pub(crate) fn pin_to(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}

/// Memory of this size and above is requested at once. A piece that an allocator maps on its own
/// changes what it maps later, but in glibc not for pieces of this size.
const LARGE_BYTES: usize = 33 * 1024 * 1024;

/// Smaller memory is requested in pieces that no allocator maps on their own.
const PIECE_BYTES: usize = 96 * 1024;

/// Returns `true` if the system has `bytes` of memory now. They are allocated and freed, so that
/// they are there for what is allocated next. A process that has less gets an error instead of an
/// abort half-way.
pub(crate) fn has_memory(bytes: usize) -> bool {
    let each = if bytes < LARGE_BYTES {
        PIECE_BYTES
    } else {
        bytes
    };
    let count = bytes.div_ceil(each);
    let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(count);
    let has = (0..count).all(|_| {
        let mut piece = Vec::new();
        let has = piece.try_reserve_exact(each).is_ok();
        pieces.push(piece);
        has
    });
    // Without it the compiler may leave out the allocations.
    std::hint::black_box(&mut pieces);
    has
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn no_core_is_taken_twice_and_what_was_given_back_is_free() {
        let Some(all) = core_affinity::get_core_ids() else {
            return;
        };
        // Other tests of this process may have taken some.
        let mut held = Vec::new();
        while let Some(cores) = Cores::take(1)
            && let Some(core) = cores.of(0)
        {
            assert!(all.contains(&core));
            held.push((core.id, cores));
        }
        let mut ids: Vec<usize> = held.iter().map(|(id, _)| *id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "a core was taken twice");
        if let Some((id, cores)) = held.pop() {
            assert!(cores.of(1).is_none());
            drop(cores);
            let taken = TAKEN.lock().expect("no panic").1.clone();
            assert!(!taken.contains(&id), "it was given back");
        }
        assert!(Cores::take(all.len() + 1).is_none_or(|cores| cores.of(0).is_none()));
    }

    #[test]
    fn there_is_some_memory_and_not_all_of_it() {
        assert!(has_memory(1 << 20));
        assert!(!has_memory(usize::MAX / 2));
    }

    #[test]
    fn what_a_socket_holds_is_known_by_its_bytes() {
        let (mut reader, mut writer) = UnixStream::pair().expect("there are sockets");
        assert_eq!(unread_bytes(&reader), Some(0));
        writer.write_all(&[b'x'; 1000]).expect("there is room");
        reader.read_exact(&mut [0; 300]).expect("it is there");
        drop(writer);
        assert_eq!(unread_bytes(&reader), Some(700));
    }
}
