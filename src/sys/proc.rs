//! What the kernel says of this process and its sockets, as text below `/proc`.
//!
//! Promise: an answer, or none where there is no such file; never an error. Must not know: sources.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::limits;

/// Descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// How many it may have.
    pub(crate) max: usize,
    /// How many it has.
    pub(crate) open: usize,
}

impl Descriptors {
    /// How many of them connections may take, at least one.
    pub(crate) fn connections_max(self) -> usize {
        let spared = limits::DESCRIPTORS_SPARED.min(self.max / 4);
        let others = self.open.saturating_add(limits::DESCRIPTORS_FREE);
        self.max.saturating_sub(spared.max(others)).max(1)
    }
}

/// Descriptors of this process, if there is a limit.
pub(crate) fn descriptors() -> Option<Descriptors> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    // "unlimited" is no number, and no limit.
    let max = line.split_whitespace().nth(3)?.parse().ok()?;
    // Looking takes one itself.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
    Some(Descriptors { max, open })
}

/// A row of `/proc/net/tcp`, `udp` and their like.
struct Row<'t>(Vec<&'t str>);

impl Row<'_> {
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

    /// Datagrams dropped, which only the tables of `udp` have.
    fn drops(&self) -> Option<u64> {
        self.0.get(12)?.parse().ok()
    }
}

/// The first answer that `of` gives for a row of the table and its IPv6 sister.
fn find<T>(protocol: &str, of: impl Fn(&Row<'_>) -> Option<T>) -> Option<T> {
    ["", "6"].iter().find_map(|version| {
        let table = fs::read_to_string(format!("/proc/net/{protocol}{version}")).ok()?;
        let mut rows = table.lines().skip(1);
        rows.find_map(|row| of(&Row(row.split_whitespace().collect())))
    })
}

/// Datagrams the kernel has dropped for the UDP socket with this inode.
pub(crate) fn datagrams_dropped(inode: u64) -> Option<u64> {
    find("udp", |row| (row.inode()? == inode).then(|| row.drops())?)
}

/// Who has the port of `address`, as far as this process may see: a process and its name.
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
        // Whoever has more open than is spared.
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
