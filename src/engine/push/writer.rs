//! `Writer`: takes pushed bytes for an engine, on any thread.
//!
//! Promise: lines of two writers never mix; dropping a writer ends its last line. A `try_` call
//! waits for nobody. Must not know: sources, what is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PushShared;
use crate::error::{Error, ErrorKind, Result};
use crate::intake::framer::Ending;
use crate::intake::router::{Full, Router};
use crate::limits::KIB;

/// Bytes a writer takes before it checks again whether the process was forked: that is a system
/// call.
const FORK_CHECK_BYTES: usize = 64 * KIB;

/// Takes pushed bytes: implements [`io::Write`]. Send it to any thread. Lines of two writers never
/// mix; dropping a writer ends its last line.
///
/// [`Engine::writer`](super::Engine::writer) and [`try_clone`](Self::try_clone) return further
/// writers.
///
/// Where a call fails because the engine has failed, the [`io::Error`] holds the engine's
/// [`Error`].
pub struct Writer {
    shared: Arc<PushShared>,
    /// The number of its framer.
    index: usize,
    /// Bytes taken since the last check that the process was not forked.
    unchecked_bytes: usize,
    /// The last byte taken. At first, as if a record had just ended.
    last: u8,
}

debug_fields!([] Writer, "Writer", index);

impl Writer {
    /// A writer with a framer that no other writer has.
    pub(super) fn new(shared: &Arc<PushShared>, call: &str) -> Result<Self> {
        if shared.control.is_forked() {
            return Err(shared.control.forked(call));
        }
        let mut gate = shared.lock();
        if gate.is_closed || shared.is_aborted() {
            return Err(shared.stopped(&gate));
        }
        // Without room it is tried again at the next cut.
        let _ = gate.end_dropped();
        let index = gate.unused.pop().ok_or_else(|| {
            let writers = shared.writers_max;
            Error::new(
                ErrorKind::InvalidCall,
                format!(
                    "{call}: the engine has {writers} writers at most, and all exist; drop one, or set \
                     EngineBuilder::writers"
                ),
            )
        })?;
        Ok(Writer {
            shared: Arc::clone(shared),
            index,
            unchecked_bytes: 0,
            last: shared.line_ends.terminator(),
        })
    }

    /// Returns another writer to the same engine. It begins a line of its own.
    ///
    /// There is no `Clone`, because a clone needs memory of its own for its unfinished line. The
    /// engine reserves that at its start, for as many writers at a time as
    /// [`EngineBuilder::writers`](super::EngineBuilder::writers) says.
    ///
    /// ```
    /// use std::io::Write;
    /// use microtally::{Engine, Rule};
    ///
    /// let engine = Engine::builder(Rule::Split(b' ')).writers(2).start(|_| ())?;
    /// let mut one = engine.writer()?;
    /// let mut two = one.try_clone()?;
    /// one.write_all(b"the c")?;
    /// two.write_all(b"the dog\n")?;
    /// one.write_all(b"at\n")?;
    /// assert!(two.try_clone().is_err());
    /// drop((one, two));
    /// let finished = engine.finish()?;
    /// assert_eq!(finished.batch().get(b"cat"), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`]: that many writers exist, the engine has finished, or the process
    /// was forked. Otherwise the engine has failed; the error says why.
    pub fn try_clone(&self) -> Result<Self> {
        Writer::new(&self.shared, "try_clone")
    }

    /// Takes as many of `bytes` as there is room for, and returns how many. Waits for nobody.
    ///
    /// It may count a block on this thread, as [`write`](io::Write::write) may.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`]: nothing was taken, because there is no room or another thread
    /// is using the engine. Other errors are those of [`write`](io::Write::write).
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes, false)
    }

    /// Writes one whole record. It may hold any byte; record ends in it are ordinary bytes. Waits
    /// while there is no room.
    ///
    /// ```
    /// use microtally::{Engine, Rule};
    ///
    /// let engine = Engine::builder(Rule::Lines).start(|_| ())?;
    /// let mut writer = engine.writer()?;
    /// writer.record(b"two\nlines")?;
    /// writer.record(b"")?;
    /// drop(writer);
    /// let finished = engine.finish()?;
    /// assert_eq!(finished.stats().records, 2);
    /// assert_eq!(finished.batch().get(b"two\nlines"), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`], and nothing was taken: `record` is longer than
    /// [`Config::record_bytes_max`](crate::Config::record_bytes_max), or follows a line that
    /// [`write`](io::Write::write) began and did not end. Other errors are those of `write`.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        self.take_record(record, true)
    }

    /// As [`record`](Self::record), but waits for nobody. Takes all of the record or nothing.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record), and [`io::ErrorKind::WouldBlock`] as for
    /// [`try_write`](Self::try_write).
    pub fn try_record(&mut self, record: &[u8]) -> io::Result<()> {
        self.take_record(record, false)
    }

    fn take(&mut self, bytes: &[u8], waits: bool) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = self.enter(waits, |router, index| {
            let space = router.space(index)?;
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            router.filled(index, count);
            Ok(count)
        })?;
        self.took(count, bytes[count - 1]);
        Ok(count)
    }

    fn take_record(&mut self, record: &[u8], waits: bool) -> io::Result<()> {
        self.check_record(record)?;
        self.enter(waits, |router, index| router.record(index, record))?;
        self.took(record.len(), self.shared.line_ends.terminator());
        Ok(())
    }

    fn check_record(&self, record: &[u8]) -> io::Result<()> {
        let line_ends = self.shared.line_ends;
        let problem = if record.len() > self.shared.record_bytes_max {
            let (len, max) = (record.len(), self.shared.record_bytes_max);
            format!("the record is {len} bytes long; record_bytes_max is {max}")
        } else if !line_ends.is_end(self.last) {
            "the line that was written before has no end yet".to_owned()
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    /// Lets `take` use the router, again as long as it finds it full and may wait.
    fn enter<T>(
        &self,
        waits: bool,
        mut take: impl FnMut(&mut Router, usize) -> Result<T, Full>,
    ) -> io::Result<T> {
        if self.unchecked_bytes >= FORK_CHECK_BYTES && self.shared.control.is_forked() {
            return Err(io::Error::other(self.shared.control.forked("write")));
        }
        let shared = &*self.shared;
        let gate = if waits {
            Some(shared.lock())
        } else {
            shared.try_lock()
        };
        let mut gate = gate.ok_or(io::ErrorKind::WouldBlock)?;
        loop {
            if gate.is_closed || shared.is_aborted() {
                let error = shared.stopped(&gate);
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, error));
            }
            if shared.control.is_memory_full() {
                let message =
                    "the memory limit was reached; the batch that is cut next is the last one";
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
            }
            // A cut must not wait for room that writers take again and again, unless it waits for
            // the output that is writing.
            let goes_first =
                shared.cutting.load(Ordering::Relaxed) == 0 || shared.publish_turn.is_inside();
            if goes_first && let Ok(taken) = take(&mut gate.router, self.index) {
                return Ok(taken);
            }
            if !waits {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if shared.publish_turn.is_inside() {
                let message = "no room, and the engine's own output cannot wait for it: room comes when the output \
                               returns";
                return Err(io::Error::new(io::ErrorKind::Deadlock, message));
            }
            gate = shared.wait(gate);
        }
    }

    /// Notes that `count` bytes were taken, of which `last` is the last.
    fn took(&mut self, count: usize, last: u8) {
        if self.unchecked_bytes >= FORK_CHECK_BYTES {
            self.unchecked_bytes = 0;
        }
        self.unchecked_bytes += count;
        self.last = last;
        self.shared.count_written(count);
    }
}

impl io::Write for Writer {
    /// Takes as many of `bytes` as there is room for, and returns how many. Waits while there is no
    /// room.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::BrokenPipe`]: the engine has finished or failed.
    /// - [`io::ErrorKind::OutOfMemory`]: the memory limit was reached, and that ends the run.
    /// - [`io::ErrorKind::Deadlock`]: there is no room, and the call was made in the engine's own
    ///   output, which has to return first.
    /// - Another kind: the process was forked off the engine's, whose threads are missing here.
    ///   That is checked once every 64 KiB.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes, true)
    }

    /// Complete lines are in the batch that is cut next, flushed or not. In [low-latency
    /// mode](crate::Config::low_latency) those written so far are counted now, if they are some
    /// kilobytes, so that less is left to do when the batch is cut.
    ///
    /// # Errors
    ///
    /// The process was forked off the engine's, whose threads are missing here.
    fn flush(&mut self) -> io::Result<()> {
        if self.shared.control.is_forked() {
            return Err(io::Error::other(self.shared.control.forked("flush")));
        }
        self.unchecked_bytes = 0;
        if self.shared.low_latency {
            self.shared.lock().router.offer();
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A lock held when the process was forked is never released.
        if self.shared.control.is_forked() {
            return;
        }
        let mut gate = self.shared.lock();
        // After `finish` the line has ended.
        while !gate.is_closed && !self.shared.is_aborted() {
            if gate.router.finish(self.index, Ending::Clean).is_ok() {
                gate.unused.push(self.index);
                return;
            }
            if self.shared.publish_turn.is_inside() {
                gate.unended.push(self.index);
                return;
            }
            gate = self.shared.wait(gate);
        }
    }
}
