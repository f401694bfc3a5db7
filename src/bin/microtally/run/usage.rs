//! Processor time, as the system accounts for it.
//!
//! Promise: that of all threads, those that ended and the kernel on their behalf included. Must not know: what
//! it was taken for.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Seconds of this process so far.
pub(crate) fn own_cpu_s() -> f64 {
    cpu_s(UsageWho::RUSAGE_SELF)
}

/// Seconds of all processes it started that have ended and were waited for.
pub(crate) fn children_cpu_s() -> f64 {
    cpu_s(UsageWho::RUSAGE_CHILDREN)
}

fn cpu_s(who: UsageWho) -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    // It fails for no argument that can be given here.
    getrusage(who).map_or(0.0, |usage| {
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}
