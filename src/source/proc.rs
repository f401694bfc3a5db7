//! What the kernel says of this process and its sockets, as text below `/proc`.
//!
//! Promise: an answer, or none where there is no such file; never an error. Refuses to know: sources.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// How many descriptors this process may have.
pub(crate) fn descriptors_max() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    // "unlimited" is no number, and no limit.
    line.split_whitespace().nth(3)?.parse().ok()
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
    fn this_process_is_found() {
        assert!(descriptors_max().is_none_or(|max| max > 10));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let (pid, name) = holder("tcp", address).expect("it listens");
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        drop(listener);
        assert_eq!(holder("tcp", address), None);
    }
}
