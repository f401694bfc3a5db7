//! What the kernel reports of followed files: that one was written to, that a directory has another name in it.
//!
//! Promise: an event is a reason to look, and never the only one: where there are none, as on network file
//! systems, files are looked at in turn all the same. Must not know: what is in a file, what a name means.
//!
//! Linux only, by inotify. Elsewhere `absent.rs` takes this file's place.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::source::Port;

/// Room for some hundred events.
const EVENT_BYTES: usize = 4096;

/// What is watched, by number; the same file or directory has the same one again.
pub(super) type WatchId = i32;

/// What was heard.
pub(super) enum Heard<'a> {
    /// A file was written to or truncated.
    Written(WatchId),
    /// A directory has this name in it now, or not any more.
    Named(&'a OsStr),
    /// Some events were lost: everything has to be looked at.
    Everything,
}

/// See the module.
pub(super) struct Watch {
    queue: OwnedFd,
}

impl Watch {
    /// An event queue that wakes the source of `port`.
    pub(super) fn new(port: &Port) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        port.register_fd(&queue)?;
        Ok(Watch { queue })
    }

    /// Watches an open file, whatever its name is by now, until it is closed everywhere.
    pub(super) fn file(&self, file: &File, path: &Path) -> io::Result<WatchId> {
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = WatchFlags::MODIFY;
        let watched = match inotify::add_watch(&self.queue, itself.as_str(), flags) {
            // Without /proc the name has to do.
            Err(Errno::NOENT | Errno::ACCESS) => inotify::add_watch(&self.queue, path, flags),
            watched => watched,
        };
        Ok(watched?)
    }

    /// Watches a directory for names that come and go.
    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.queue, path, flags)?;
        Ok(())
    }

    /// Ends the watch of a file that is closed. One that the kernel has ended already is no error.
    pub(super) fn forget(&self, id: WatchId) {
        let _ = inotify::remove_watch(&self.queue, id);
    }

    /// Hands over all events there are.
    pub(super) fn hear(&self, mut each: impl FnMut(Heard<'_>)) {
        let mut buf = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.queue, &mut buf);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    each(Heard::Everything);
                }
                Ok(event) => match event.file_name() {
                    Some(name) => each(Heard::Named(OsStr::from_bytes(name.to_bytes()))),
                    None if event.events().contains(ReadFlags::MODIFY) => {
                        each(Heard::Written(event.wd()));
                    }
                    None => {}
                },
                Err(Errno::INTR) => {}
                // There are no more, or none that can be read: there is the look in turn.
                Err(_) => return,
            }
        }
    }
}
