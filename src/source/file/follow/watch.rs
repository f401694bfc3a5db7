//! Events of the kernel for followed files: a write to a file, a new name in a directory.
//!
//! Promise: an event is a reason for a check, and never the only one: where there are no events, as
//! on network file systems, files are checked in turn all the same. Must not know: what is in a
//! file.
//!
//! Linux only, by inotify.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use crate::source::Port;

/// Room for some hundred events.
#[cfg(target_os = "linux")]
const EVENT_BYTES: usize = 4096;

/// A watched file or directory; watching it again returns the same number.
pub(super) type WatchId = i32;

/// An event.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there are no events")
)]
pub(super) enum WatchEvent<'a> {
    /// A file was written to or truncated.
    Written(WatchId),
    /// A directory has this new name in it.
    Named(&'a OsStr),
    /// Some events were lost: everything has to be checked.
    Everything,
}

/// A queue of events.
pub(super) struct Watcher {
    #[cfg(target_os = "linux")]
    queue: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl Watcher {
    /// Creates a queue that wakes the source of `port`.
    pub(super) fn new(port: &Port) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        port.register_fd(&queue)?;
        Ok(Watcher { queue })
    }

    /// Watches an open file, whatever its name is by now, until it is closed everywhere.
    pub(super) fn file(&self, file: &File, path: &Path) -> io::Result<WatchId> {
        let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let flags = WatchFlags::MODIFY;
        let watched = match inotify::add_watch(&self.queue, itself.as_str(), flags) {
            // Without /proc, the name is used.
            Err(Errno::NOENT | Errno::ACCESS) => inotify::add_watch(&self.queue, path, flags),
            watched => watched,
        };
        Ok(watched?)
    }

    /// Watches a directory for new names.
    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.queue, path, flags)?;
        Ok(())
    }

    /// Ends the watch of a file. The kernel may have ended it already.
    pub(super) fn forget(&self, id: WatchId) {
        let _ = inotify::remove_watch(&self.queue, id);
    }

    /// Reads all events.
    pub(super) fn read_events(&self, mut each: impl FnMut(WatchEvent<'_>)) {
        let mut buf = [std::mem::MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.queue, &mut buf);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    each(WatchEvent::Everything);
                }
                Ok(event) => match event.file_name() {
                    Some(name) => each(WatchEvent::Named(OsStr::from_bytes(name.to_bytes()))),
                    None if event.events().contains(ReadFlags::MODIFY) => {
                        each(WatchEvent::Written(event.wd()));
                    }
                    None => {}
                },
                Err(Errno::INTR) => {}
                // There are no more events, or they cannot be read: files are checked in turn.
                Err(_) => return,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Watcher {
    pub(super) fn new(_: &Port) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn file(&self, _: &File, _: &Path) -> io::Result<WatchId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn directory(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn forget(&self, _: WatchId) {}

    pub(super) fn read_events(&self, _: impl FnMut(WatchEvent<'_>)) {}
}
