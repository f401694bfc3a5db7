//! `input`: an open file descriptor, read to its end: standard input, whatever it is connected to.
//!
//! Promise: the descriptor's flags, which other processes share, stay as they are; a read is made only
//! when it will not wait. Refuses to know: what the bytes mean, the clock.
//!
//! An inherited pipe or terminal is in blocking mode and has to stay so, and the event queue reports
//! only edges. So before each read a queue of the source's own is asked whether there is anything: arming
//! it anew gives the present state. The reactor's queue is registered with as well and does the waking.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Error, describe};
use crate::source::{Fill, Port, Source};

/// Bytes a pipe may hold, at most, unless root made it larger (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES_MAX: usize = 1 << 20;

/// An open file descriptor, read to its end.
pub struct Input {
    name: String,
    file: io::Result<File>,
    readiness: Readiness,
    is_over: bool,
}

enum Readiness {
    Unknown,
    /// A regular file, or a device that cannot be waited for: a read never waits.
    Always,
    Ask {
        poll: Poll,
        events: Events,
    },
}

impl Input {
    /// Standard input. That it is closed is found out at the first read.
    pub fn stdin() -> Self {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        Input::new("standard input".to_owned(), file)
    }

    /// What was opened as `name`.
    pub(crate) fn of(name: String, file: File) -> Self {
        Input::new(name, Ok(file))
    }

    fn new(name: String, file: io::Result<File>) -> Self {
        Input {
            name,
            file,
            readiness: Readiness::Unknown,
            is_over: false,
        }
    }

    /// Has the source behind `port` woken when there is something to read.
    pub(crate) fn watch(&mut self, port: &Port) {
        let Ok(file) = &self.file else { return };
        match watch(file, port) {
            Ok(Some(poll)) => {
                self.readiness = Readiness::Ask {
                    poll,
                    events: Events::with_capacity(1),
                };
            }
            Ok(None) => self.readiness = Readiness::Always,
            Err(cause) => self.file = Err(cause),
        }
    }

    fn failed(&mut self, cause: &io::Error) -> Fill {
        self.is_over = true;
        Fill::Failed(Error::input(&self.name, cause))
    }
}

/// Whether a read would give something, an end or an error at once.
fn is_readable(file: &File, poll: &mut Poll, events: &mut Events) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    poll.registry()
        .reregister(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    match poll.poll(events, Some(Duration::ZERO)) {
        Ok(()) => Ok(!events.is_empty()),
        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// A queue that can be asked about `file`, or `None` when it cannot be waited for.
fn watch(file: &File, port: &Port) -> io::Result<Option<Poll>> {
    let fd = file.as_raw_fd();
    let poll = Poll::new()?;
    match poll
        .registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
    {
        Ok(()) => {}
        // What epoll says of regular files, directories and /dev/null.
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(cause) => return Err(cause),
    }
    port.register_fd(file)?;
    Ok(Some(poll))
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source for Input {
    fn start(&mut self, port: Port, _now: Duration) {
        self.watch(&port);
    }

    fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
        if self.is_over {
            return Fill::End;
        }
        let file = match &mut self.file {
            Ok(file) => file,
            Err(cause) => {
                let cause = io::Error::new(cause.kind(), describe(cause));
                return self.failed(&cause);
            }
        };
        if let Readiness::Ask { poll, events } = &mut self.readiness {
            match is_readable(file, poll, events) {
                Ok(true) => {}
                Ok(false) => return Fill::Pending(None),
                Err(cause) => return self.failed(&cause),
            }
        }
        loop {
            match file.read(buf) {
                Ok(0) => {
                    self.is_over = true;
                    return Fill::End;
                }
                Ok(count) => return Fill::Bytes(count),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    return Fill::Pending(None);
                }
                Err(cause) => return self.failed(&cause),
            }
        }
    }

    fn drain(&mut self) -> usize {
        // A pipe's content has been received; the rest of a file has not.
        match self.readiness {
            Readiness::Ask { .. } if !self.is_over => PIPE_BYTES_MAX,
            _ => 0,
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}
