//! The operating system, where no crate speaks for us already: on which cores this process may run.
//!
//! Promise: every answer is usable, also where the system gives none. Refuses to know: shards.

pub(crate) mod prefetch;

use std::thread;

use core_affinity::CoreId;

/// Cores this process may use: the CPU quota of its control group and its affinity mask included.
pub(crate) fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The cores `thread_count` threads may be pinned to, one each, taken from the affinity mask (a
/// container's cores need not be numbered from 0). `None` where the system does not say.
///
/// Empty where pinning would do harm: with more threads than cores, and with a CPU quota below the mask,
/// pinned threads would wait for each other on one core while another is free.
pub(crate) fn cores_to_pin(thread_count: usize) -> Option<Vec<CoreId>> {
    let mut cores = core_affinity::get_core_ids().filter(|cores| !cores.is_empty())?;
    if core_count() < cores.len() || thread_count > cores.len() {
        cores.clear();
    }
    Some(cores)
}

/// Pins the calling thread. Call it inside the thread: threads started later inherit the mask.
pub(crate) fn pin_to(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}
