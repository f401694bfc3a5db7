//! What the kernel reports about this process and its sockets, in text files below `/proc`.
//!
//! Promise: an answer, or `None` without such a file; never an error.
//! Must not know: source, engine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::limits;

/// Descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The limit.
    pub(crate) max: usize,
    /// Those open.
    pub(crate) open: usize,
}

impl Descriptors {
    /// Returns how many of them connections may take, at least one.
    pub(crate) fn connections_max(self) -> usize {
        let spared = limits::DESCRIPTORS_SPARED.min(self.max / 4);
        let others = self.open.saturating_add(limits::DESCRIPTORS_FREE);
        self.max.saturating_sub(spared.max(others)).max(1)
    }
}

/// Returns the descriptors of this process, if there is a limit.
pub(crate) fn descriptors() -> Option<Descriptors> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    // "unlimited" is no number, and no limit.
    let max = line.split_whitespace().nth(3)?.parse().ok()?;
    // Listing them takes one.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
    Some(Descriptors { max, open })
}

/// A row of `/proc/net/tcp`, `udp` and their like.
struct SocketRow<'t>(Vec<&'t str>);

impl SocketRow<'_> {
    /// The port of the socket's own address.
    fn port(&self) -> Option<u16> {
        let (_, port) = self.0.get(1)?.split_once(':')?;
        u16::from_str_radix(port, 16).ok()
    }

    fn state(&self) -> Option<&str> {
        self.0.get(3).copied()
    }

    fn inode(&self) -> Option<u64> {
        self.0.get(9)?.parse().ok()
    }

    /// Datagrams dropped; only the tables of `udp` have them.
    fn drops(&self) -> Option<u64> {
        self.0.get(12)?.parse().ok()
    }
}

/// Returns the first result of `of` for a row of the table, or of the same table for IPv6.
fn find<T>(protocol: &str, of: impl Fn(&SocketRow<'_>) -> Option<T>) -> Option<T> {
    ["", "6"].iter().find_map(|version| {
        let table = fs::read_to_string(format!("/proc/net/{protocol}{version}")).ok()?;
        let mut rows = table.lines().skip(1);
        rows.find_map(|row| of(&SocketRow(row.split_whitespace().collect())))
    })
}

/// Returns the datagrams that the kernel has dropped for the UDP socket with this inode.
pub(crate) fn datagrams_dropped(inode: u64) -> Option<u64> {
    find("udp", |row| (row.inode()? == inode).then(|| row.drops())?)
}

/// Returns the process that has the port of `address` and its name, if this process may see it.
pub(crate) fn holder(protocol: &str, address: SocketAddr) -> Option<(u32, String)> {
    const LISTENING: &str = "0A";
    const UNCONNECTED: &str = "07";
    let inode = find(protocol, |row| {
        let is_open = matches!(row.state()?, LISTENING | UNCONNECTED);
        (row.port()? == address.port() && is_open).then(|| row.inode())?
    })?;
    let link = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).ok()?;
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.as_os_str() == link.as_str())
            .then_some(())
    };
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_what_descriptors_others_leave() {
        let connections = |max, open| Descriptors { max, open }.connections_max();
        assert_eq!((connections(1024, 20), connections(256, 20)), (960, 192));
        assert_eq!((connections(64, 5), connections(64, 20)), (48, 36));
        // More are open than are spared.
        assert_eq!(connections(1024, 500), 516);
        assert_eq!((connections(16, 10), connections(3, 3)), (1, 1));
    }

    #[test]
    fn this_process_is_found() {
        assert!(descriptors().is_none_or(|of| of.max > of.open && of.open > 2));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let (pid, name) = holder("tcp", address).expect("it listens");
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        drop(listener);
        assert_eq!(holder("tcp", address), None);
    }
}
