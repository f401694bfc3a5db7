//! The memory that is available, for the default of `--max-memory`, and the peak memory of this
//! process.
//!
//! Promise: the default is never more than half of what the control group allows or the machine has
//! free. Must not know: `counting`, `output`, `parse`.

use std::fs;
use std::path::Path;

/// Address space of a thread's stack, at the standard library's default size, and of its guard
/// page. All of it counts for `ulimit -v`, however little is used.
const STACK_BYTES: u64 = (2 << 20) + (64 << 10);

/// Threads besides those that count: for reading, publishing, signals, progress and the live view.
const OTHER_THREADS: usize = 5;

/// Half of the smallest of: the limits of the control groups (versions 2 and 1), what the machine
/// could provide without swapping, and what is left of the address space (`ulimit -v`) after the
/// stacks of `workers` counting threads and the others. `None` where nothing is known.
pub(crate) fn half_of_available(workers: usize) -> Option<u64> {
    let stacks = (workers + OTHER_THREADS) as u64 * STACK_BYTES;
    let limits = [
        cgroup_limit(),
        number(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes")),
        entry(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:"),
        address_space_left(
            &fs::read_to_string("/proc/self/limits").unwrap_or_default(),
            &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        )
        .map(|bytes| bytes.saturating_sub(stacks)),
    ];
    limits.into_iter().flatten().min().map(|bytes| bytes / 2)
}

/// The least `memory.max` of the process's control group and its ancestors.
fn cgroup_limit() -> Option<u64> {
    let of_process = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = of_process
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new("/sys/fs/cgroup").join(path);
    let around = group
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"));
    around
        .filter_map(|group| number(&group.join("memory.max")))
        .min()
}

/// The number in a file; `None` for `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The peak memory of this process, in bytes. (`getrusage` would include the process that started
/// it.)
pub(crate) fn peak() -> Option<u64> {
    entry(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// An entry of `/proc/meminfo` or a process's status, in bytes.
fn entry(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is left of a process's limit of address space, if it has one.
fn address_space_left(limits: &str, status: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(entry(status, "VmSize:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read() {
        let text = "MemTotal:       24632456 kB\nMemFree:  1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(entry(text, "MemAvailable:"), Some(23_000_000 * 1024));
        assert_eq!(entry("MemTotal: 5 kB\n", "MemAvailable:"), None);
        assert!(peak().expect("Linux reports it") > 1 << 20);
        let limits = "Limit   Soft Limit  Hard Limit  Units\n\
            Max address space         5000000              unlimited            bytes\n";
        let status = "VmPeak:\t 9 kB\nVmSize:\t    1000 kB\n";
        assert_eq!(
            address_space_left(limits, status),
            Some(5_000_000 - 1_024_000)
        );
        let unlimited =
            "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(address_space_left(unlimited, status), None);
        let half = half_of_available(1).expect("Linux reports it");
        assert!(half > 1 << 20, "{half}");
    }
}
