//! `follow`: files that grow and are rotated, as `tail -F` reads them.
//!
//! Promise: every line that is written is read once, through renaming, deletion, truncation and new
//! files of the same name; lines of two files never mix. Must not know: records, who rotates.
//!
//! A file is checked when the kernel reports a write (`watch`). All names and files are checked
//! again and again (`look`), because no file system reports everything. An open file stays open, so
//! its inode cannot become another file's:
//!
//! ```text
//!              the name has another file, or none
//!   current ─────────────────────────────────▶ retired ── quiet; the new one has data ─▶ closed
//!    │   ▲                                         │
//!    └───┘ shorter, or other bytes: read again     ├── its name comes back: current again
//!                                                  └── shorter, or other bytes: closed
//! ```

mod look;
mod names;
mod tail_reader;
#[cfg(test)]
mod tests;
mod truncation;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::names::{FollowedNames, Name};
use self::tail_reader::{TailReader, Taken};
use self::truncation::Truncations;
use self::watch::{WatchId, Watcher};
use crate::config::interval_ms;
use crate::error::{Error, Result, describe};
use crate::id::ChannelId;
use crate::intake::Intake;
use crate::limits::{DRAIN_BYTES_MAX, FOLLOW_POLL_MS_DEFAULT};
use crate::notice::NoticeKind;
use crate::source::file::glob::is_literal;
use crate::source::{Fill, Port, Source, sniff};

/// Options for following files, which are never decompressed.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    from_end: bool,
    poll: Duration,
}

impl Default for FollowOptions {
    /// From the beginning; checked ten times a second.
    fn default() -> Self {
        FollowOptions {
            from_end: false,
            poll: Duration::from_millis(FOLLOW_POLL_MS_DEFAULT),
        }
    }
}

impl FollowOptions {
    /// Sets whether lines that are complete at the start are skipped. An incomplete last line is
    /// not skipped: it becomes a record when its end is written. Later files are read from their
    /// beginning.
    pub fn from_end(mut self, from_end: bool) -> Self {
        self.from_end = from_end;
        self
    }

    /// Sets the interval between checks of all files and names, at least 1 ms, in whole
    /// milliseconds. A file is also checked when the kernel reports a write to it.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }
}

/// A source that follows growing files, like `tail -F`. It never ends by itself.
///
/// - A file that is **renamed** or **deleted** is still read, because its writer may have it open.
///   It is closed when a new file of its name has content and the old one has been quiet for 5 s.
///   The new file is read from its beginning as soon as it exists.
/// - A file that is **truncated** is read from its beginning again, even if it is longer than
///   before by the next check: files are recognized by the first and the last bytes that were read.
/// - A **missing** file is read from its beginning when it appears.
/// - A file that **cannot be read** is retried and continues where it was; this is reported once.
/// - A file that is renamed to another followed name continues where it was; nothing is read twice.
/// - Files that begin to match a **pattern** ([`matching`](Self::matching)) are read from their
///   beginning. If the name of such a file is gone, the file is closed when it has been quiet: for
///   5 s if it was deleted, for a minute if it was renamed.
///
/// An incomplete last line stays in its file. It becomes a record when the file is closed, and at a
/// graceful stop. Such a stop reads what the files contained when it was requested, at most
/// [`DRAIN_BYTES_MAX`] of all of them. [`NoticeKind::Unread`] reports the rest for each file; it
/// counts as at least one lost record.
///
/// Nothing is decoded. A file that does not begin like text is reported once with
/// [`NoticeKind::NotText`].
///
/// A log rotator with `copytruncate` copies a file before it truncates it. The unread rest of a
/// truncated file is read from such a copy: a file beside it whose name begins with the same name
/// and that has the bytes already read.
///
/// Some lines can be lost: those in a file that appears and disappears between two checks, those
/// truncated without a copy, and those written between the copying and the truncating, which the
/// rotator itself loses. On Linux every write causes a check (inotify), so only lines written just
/// before a truncation can be lost. On network file systems, and where the kernel has no more
/// watches, it is the time between two checks. A truncation is reported with the time in which
/// lines may have been lost. Rotate by renaming if that matters.
pub struct Follow {
    names: FollowedNames,
    files: Vec<Followed>,
    /// The file to read next; one that is in the middle of a record, or is about to be closed, goes
    /// first, so that unfinished records of many files are never held.
    turn: usize,
    options: FollowOptions,
    next_look: Option<Duration>,
    looked_at: Duration,
    /// Absent where the kernel has no watches, or no more.
    watch: Option<Watcher>,
    /// A failure to watch was reported.
    is_unwatched: bool,
    /// Checks caused by events since the last regular one, and the time of the last of them.
    early_looks: u32,
    early_look_at: Duration,
    /// Buffer of watches with writes; kept for its memory.
    written: Vec<WatchId>,
    truncations: Truncations,
    /// Tokens that are too long were reported.
    is_long_reported: bool,
    is_draining: bool,
    port: Port,
    name: String,
}

struct Followed {
    reader: TailReader,
    /// Opened when it is read first.
    channel: Option<ChannelId>,
    /// The name it has, or had.
    name: usize,
    is_current: bool,
    /// There may be something to read.
    has_news: bool,
    /// No more writes are expected.
    is_last: bool,
    /// Why it cannot be read. It is retried at every check.
    trouble: Option<String>,
    /// A check has found other content.
    is_replaced: bool,
    /// The kernel has reported a write, and it was not checked since.
    was_written: bool,
    /// Its first bytes were checked to be text.
    was_sniffed: bool,
    changed_at: Duration,
    /// When its content was checked last.
    looked_at: Duration,
    watch: Option<WatchId>,
}

impl Follow {
    /// Follows the files of these names, whether or not they exist.
    ///
    /// # Errors
    ///
    /// No name, or an interval between checks that is out of range.
    pub fn new<P: Into<PathBuf>>(
        paths: impl IntoIterator<Item = P>,
        options: FollowOptions,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = paths.into_iter().map(P::into).collect();
        let mut follow = Follow::of(&paths, options)?;
        for path in paths {
            follow.names.add(Name::given(path));
        }
        Ok(follow)
    }

    /// Follows the files that match these patterns, now and later.
    /// [`expand`](crate::sources::expand) has the syntax. The files are searched once a second, and
    /// at once when the kernel reports new names; less often where more than ten thousand names
    /// have to be read. A path without wildcards, or an existing path, is that file.
    ///
    /// A pattern should not match the copies of a rotator (`copytruncate`): each would be a new
    /// file.
    ///
    /// ```no_run
    /// use microtally::sources::{Follow, FollowOptions};
    /// // Continues with the next day's file after midnight.
    /// let logs = Follow::matching(["/var/log/app-*.log"], FollowOptions::default())?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new); a pattern that is invalid or too wide.
    pub fn matching<P: AsRef<Path>>(
        patterns: impl IntoIterator<Item = P>,
        options: FollowOptions,
    ) -> Result<Self> {
        let given = patterns.into_iter().map(|path| path.as_ref().to_owned());
        let given: Vec<PathBuf> = given.collect();
        let mut follow = Follow::of(&given, options)?;
        for path in given {
            if is_literal(&path) {
                follow.names.add(Name::given(path));
            } else {
                follow.names.add_pattern(path)?;
            }
        }
        Ok(follow)
    }

    /// Creates a source without any name yet; `given` are the paths to be added.
    fn of(given: &[PathBuf], options: FollowOptions) -> Result<Self> {
        interval_ms(options.poll).map_err(|_| {
            let poll = options.poll;
            Error::refused(format!(
                "checking files every {poll:?} is outside 1 ms to 366 days, or not a whole number of milliseconds"
            ))
        })?;
        let name = match given {
            [] => return Err(Error::refused("there is no file to follow")),
            [one] => format!("{one:?}"),
            [first, ..] => format!("{first:?} and {} more files", given.len() - 1),
        };
        Ok(Follow {
            names: FollowedNames::default(),
            files: Vec::new(),
            turn: 0,
            options,
            next_look: None,
            looked_at: Duration::ZERO,
            watch: None,
            is_unwatched: false,
            early_looks: 0,
            early_look_at: Duration::ZERO,
            written: Vec::new(),
            truncations: Truncations::default(),
            is_long_reported: false,
            is_draining: false,
            port: Port::detached(),
            name,
        })
    }

    /// Adds a file, the current one of that name.
    fn add(&mut self, reader: TailReader, name: usize, now: Duration) {
        let watch =
            self.watched(|watch, follow| watch.file(&reader.file, &follow.names[name].path));
        self.files.push(Followed {
            reader,
            channel: None,
            name,
            is_current: true,
            has_news: true,
            is_last: false,
            trouble: None,
            is_replaced: false,
            was_written: false,
            was_sniffed: false,
            changed_at: now,
            looked_at: now,
            watch,
        });
    }

    /// Closes the numbered file. If that `is_clean`, an unterminated last line is a record.
    fn close(&mut self, index: usize, is_clean: bool, out: &mut Intake<'_>) {
        self.end_line(index, is_clean, out);
        let file = self.files.remove(index);
        if let Some(channel) = file.channel {
            out.close(channel, is_clean);
        }
        if let (Some(watch), Some(id)) = (&self.watch, file.watch) {
            watch.forget(id);
        }
        self.turn = index;
    }

    /// Adds a watch. A failure is reported once; files are then only checked in turn.
    fn watched<T>(&mut self, what: impl FnOnce(&Watcher, &Follow) -> io::Result<T>) -> Option<T> {
        let watch = self.watch.as_ref()?;
        let outcome = what(watch, self);
        outcome.map_err(|cause| self.report_unwatched(&cause)).ok()
    }

    #[cold]
    fn report_unwatched(&mut self, cause: &io::Error) {
        // The name is already gone, or the system has no watches.
        let is_expected = matches!(
            cause.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported
        );
        if is_expected || std::mem::replace(&mut self.is_unwatched, true) {
            return;
        }
        let (reason, poll) = (describe(cause), self.options.poll);
        self.port.report(NoticeKind::Message(format!(
            "not all changes can be watched: {reason}; checking every {poll:?}, and a truncation may lose \
             the lines of that time (raise fs.inotify.max_user_watches or max_user_instances)"
        )));
    }

    fn report(&self, name: usize, message: String) {
        self.report_kind(name, NoticeKind::Message(message));
    }

    fn report_kind(&self, name: usize, kind: NoticeKind) {
        let source = format!("{:?}", self.names[name].path);
        self.port.report_of(source, kind);
    }

    /// Reports that the numbered file cannot be read.
    #[cold]
    fn read_failed(&mut self, index: usize, cause: &io::Error) {
        let reason = describe(cause);
        let file = &mut self.files[index];
        if file.trouble.as_ref() != Some(&reason) {
            file.trouble = Some(reason.clone());
            let name = file.name;
            self.report(name, format!("{reason}; retrying"));
        }
    }

    /// Reports that the numbered file can be read again.
    #[cold]
    fn recovered(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.trouble = None;
        let name = file.name;
        self.report(name, "reading resumed".to_owned());
    }

    /// What comes next from the numbered file begins another line. Unless that `is_clean`, the
    /// unterminated last one is dropped and reported.
    fn end_line(&self, index: usize, is_clean: bool, out: &mut Intake<'_>) {
        let Followed { channel, name, .. } = &self.files[index];
        let left = channel.map(|channel| out.end(channel, is_clean));
        if let Some(left) = left.filter(|left| left.is_partial && !is_clean) {
            let bytes = left.dropped_bytes;
            self.report_kind(*name, NoticeKind::Truncated { bytes });
        }
    }

    /// Reads from the numbered file. `None`: it has nothing now.
    fn take(&mut self, index: usize, out: &mut Intake<'_>, now: Duration) -> Option<Fill> {
        let file = &mut self.files[index];
        let taken = if std::mem::take(&mut file.is_replaced) {
            Ok(Taken::Replaced)
        } else {
            let channel = *file.channel.get_or_insert_with(|| out.open());
            let Some(space) = out.space(channel) else {
                return Some(Fill::More);
            };
            file.reader.take(space, file.is_last)
        };
        if taken.is_ok() && file.trouble.is_some() {
            self.recovered(index);
        }
        let file = &mut self.files[index];
        match taken {
            Ok(Taken::Bytes(count)) => {
                out.filled(count);
                self.turn = index + usize::from(!(file.reader.is_mid() || file.is_last));
                if !std::mem::replace(&mut file.was_sniffed, true) {
                    self.sniff(index);
                }
                return Some(Fill::More);
            }
            Ok(Taken::Nothing) if std::mem::take(&mut file.was_written) => {
                file.has_news = false;
                self.look_behind(index, now);
            }
            Ok(Taken::Nothing) => {
                file.has_news = false;
                let unread = match self.is_draining {
                    true => self.report_unread(index),
                    false => 0,
                };
                if self.files[index].is_last {
                    self.close(index, unread == 0, out);
                }
            }
            Ok(Taken::Replaced) => self.replaced(index, out, now),
            Err(cause) => {
                file.has_news = false;
                self.read_failed(index, &cause);
                if self.files[index].is_last {
                    self.give_up(index, out);
                }
            }
        }
        None
    }

    /// Reports the bytes of the numbered file that a graceful stop leaves unread, and returns their
    /// number.
    #[cold]
    fn report_unread(&self, index: usize) -> u64 {
        let Followed { reader, name, .. } = &self.files[index];
        let bytes = reader.bytes_left();
        if bytes > 0 {
            self.lost();
            let kind = NoticeKind::Unread { bytes: Some(bytes) };
            self.report_kind(*name, kind);
        }
        bytes
    }

    /// Reports a file that does not begin like text.
    #[cold]
    fn sniff(&self, index: usize) {
        let Followed { reader, name, .. } = &self.files[index];
        let first = reader.first_bytes().unwrap_or_default();
        if let Some(looks_like) = sniff::of_file(&first) {
            self.port.report(NoticeKind::NotText {
                path: self.names[*name].path.clone(),
                looks_like,
            });
        }
    }

    /// Closes a file that cannot be read and is not retried any more.
    #[cold]
    fn give_up(&mut self, index: usize, out: &mut Intake<'_>) {
        let Followed { reader, name, .. } = &self.files[index];
        let (bytes, name) = (reader.bytes_unread(), *name);
        if bytes > 0 {
            self.lost();
            self.report(
                name,
                format!("closed; its last {bytes} bytes could not be read and are lost"),
            );
        }
        self.close(index, false, out);
    }
}

impl Followed {
    /// Returns `true` if it has lost its name before anything was read: nothing identifies its
    /// content.
    fn is_untouched(&self) -> bool {
        !self.is_current && self.reader.offset == 0
    }
}

impl Follow {
    /// Reads once, if that does not block.
    fn read(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        if !self.is_draining && self.next_look.is_none_or(|at| at <= now) {
            self.look(now);
        }
        loop {
            while let Some(index) = self.next_with_news() {
                if let Some(fill) = self.take(index, out, now) {
                    return fill;
                }
            }
            // Events are reported as edges: all of them are read before the source is pending.
            if self.is_draining || !self.read_events(now) {
                return Fill::Pending(self.next_call());
            }
        }
    }

    /// Reports tokens that were too long, once.
    fn report_long(&mut self, out: &mut Intake<'_>) {
        while out.take_long().is_some() {
            if !std::mem::replace(&mut self.is_long_reported, true) {
                let record_bytes_max = out.record_bytes_max();
                self.port.report(NoticeKind::Oversize { record_bytes_max });
            }
        }
    }
}

impl Source for Follow {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
        match Watcher::new(&self.port) {
            Ok(watch) => self.watch = Some(watch),
            Err(cause) => self.report_unwatched(&cause),
        }
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        let fill = self.read(out, now);
        self.report_long(out);
        fill
    }

    fn drain(&mut self) -> usize {
        let now = self.next_look.unwrap_or_default();
        self.names.search_soon();
        self.look(now);
        self.is_draining = true;
        self.report_more_truncations(now);
        let mut left = DRAIN_BYTES_MAX as u64;
        for file in &mut self.files {
            // Incomplete last lines are records now.
            file.is_last = true;
            file.has_news = true;
            left -= file.reader.end_after(left);
        }
        DRAIN_BYTES_MAX - usize::try_from(left).unwrap_or(0)
    }

    /// Reports what a graceful stop had no time for.
    fn ended(&mut self) {
        if std::mem::take(&mut self.is_draining) {
            for index in 0..self.files.len() {
                self.report_unread(index);
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Follow {
    /// Returns the file whose turn it is, of those that may have something to read.
    fn next_with_news(&self) -> Option<usize> {
        let count = self.files.len();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        turns.into_iter().find(|&index| self.files[index].has_news)
    }
}

impl Drop for Follow {
    /// A wrapper of the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

debug_fields!([] Follow, "Follow", name);
