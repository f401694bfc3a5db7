//! CPU time, as the system accounts for it.
//!
//! Promise: it includes all threads, also those that ended, and the kernel on their behalf. Must
//! not know: `output`, `counting`.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Seconds of this process.
pub(crate) fn own_cpu_s() -> f64 {
    cpu_s(UsageWho::RUSAGE_SELF)
}

/// Seconds of all child processes that have ended and were waited for.
pub(crate) fn children_cpu_s() -> f64 {
    cpu_s(UsageWho::RUSAGE_CHILDREN)
}

fn cpu_s(who: UsageWho) -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    // It does not fail for these arguments.
    getrusage(who).map_or(0.0, |usage| {
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}
