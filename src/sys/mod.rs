//! The operating system, where no crate speaks for us already: on which cores this process may run.
//!
//! Promise: every answer is usable, also where the system gives none. Refuses to know: shards.

use std::thread;

use core_affinity::CoreId;

/// Cores this process may use: the CPU quota of its control group and its affinity mask included.
pub(crate) fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The cores threads may be pinned to, taken from the affinity mask (a container's cores need not be
/// numbered from 0). Empty where the system does not say, and where a quota is smaller than the mask:
/// pinned threads would then share a core while another is free.
pub(crate) fn cores_to_pin() -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if core_count() < cores.len() {
        Vec::new()
    } else {
        cores
    }
}

/// Pins the calling thread. Call it inside the thread: threads started later inherit the mask.
pub(crate) fn pin_to(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}
