//! `follow`: files that grow and are rotated, as `tail -F` reads them.
//!
//! Promise: every line that is written is given once, through renaming, deletion, truncation and new files
//! of the same name; lines of two files never mix. Must not know: what the bytes mean, who rotates.
//!
//! A file is looked at when the kernel reports that it was written to (`watch`), and all names and files again
//! and again (`look`), since no event tells of everything that is done to them on every file system. A file that
//! was opened stays open, so its inode cannot become another file's:
//!
//! ```text
//!              the name is another file's, or nobody's
//!   current ───────────────────────────────────────────▶ retired ── quiet, and the new one has data ─▶ closed
//!    │   ▲                                                   │
//!    └───┘ shorter, or other bytes: from the beginning       ├── its name comes back: current again
//!                                                            └── shorter, or other bytes: closed
//! ```

mod look;
mod names;
mod reading;
#[cfg(test)]
mod tests;
mod truncation;
#[cfg_attr(not(target_os = "linux"), path = "watch/absent.rs")]
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::names::{Name, Names};
use self::reading::{Reading, Taken};
use self::truncation::Truncations;
use self::watch::{Watch, WatchId};
use crate::config::interval_ms;
use crate::error::{Error, Result, describe};
use crate::limits::{DRAIN_BYTES_MAX, FOLLOW_POLL_MS_DEFAULT};
use crate::notice::NoticeKind;
use crate::source::file::glob::is_literal;
use crate::source::{Fill, Port, Source, sniff};

/// How files are followed. They are never decompressed.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    from_end: bool,
    poll: Duration,
}

impl Default for FollowOptions {
    /// From the beginning; looked at ten times a second.
    fn default() -> Self {
        FollowOptions {
            from_end: false,
            poll: Duration::from_millis(FOLLOW_POLL_MS_DEFAULT),
        }
    }
}

impl FollowOptions {
    /// Whether what files hold at the start is left out. A line that has no end yet is not: it is a
    /// record of the time when its end is written. Files that come later are read from their beginning.
    pub fn from_end(mut self, from_end: bool) -> Self {
        self.from_end = from_end;
        self
    }

    /// How often all files and names are looked at, in whole milliseconds from 1. A file that the kernel
    /// reports to be written to is looked at in between.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }
}

/// Files that grow, read on and on: `tail -F`. It never ends by itself.
///
/// - A file that is **renamed** or **deleted** is read on, for whoever writes may still have it open, until
///   there is a new file of its name with something in it and the old one has been quiet for 5 s. The new
///   one is read from its beginning as soon as it is there.
/// - A file that is **truncated** is read from its beginning again. So is one that was emptied and is longer
///   than before by the time of the next look: files are known by their first and last bytes that
///   were read.
/// - A file that is **missing** is waited for, and read from its beginning.
/// - A file that **cannot be read** is tried again, and goes on where it was; this is reported once.
/// - A file that gets another followed file's name goes on where it was; nothing is read twice.
/// - Files that begin to fit a **pattern** ([`matching`](Self::matching)) are read from their beginning. One that
///   is gone, and whose name nobody has any more, is closed when it has been quiet: for 5 s if it was deleted,
///   for a minute if it was renamed.
///
/// A line without an end waits in its file; it is a record when the file is closed, and at a graceful stop. Such a
/// stop reads what files held when it was asked for, [`DRAIN_BYTES_MAX`] of all of them at most; what it leaves
/// unread is reported with [`NoticeKind::Unread`] for each file, and counts as at least one lost record.
///
/// Nothing is decoded. A file that does not begin like text is reported with [`NoticeKind::NotText`], once.
///
/// What was not read of a file when it was truncated is read from the copy that a rotator makes before
/// (`copytruncate`), if one is found: beside the file, its name with something behind it, and with the
/// bytes that were read in their places.
///
/// What nobody can know: lines that come in a file which comes and goes before the next look, lines that are
/// truncated away without a copy, and what is written between the copying and the truncating, which the
/// rotator itself loses. On Linux a look follows every write (inotify), so that only the lines of the last moment
/// before a truncation can be lost; on network file systems, and where the kernel has no more room for watches,
/// it is the time between two looks. A truncation is reported with the time in which lines may have been lost.
/// Rotate by renaming where that matters.
pub struct Follow {
    names: Names,
    files: Vec<Followed>,
    /// The file to be asked first, one that gave part of a record if there is one.
    turn: usize,
    /// Number of the file that gave bytes last, if they ended in `\r`.
    after_return: Option<u64>,
    opened: u64,
    options: FollowOptions,
    next_look: Option<Duration>,
    looked_at: Duration,
    /// Absent where the kernel has none, or no more.
    watch: Option<Watch>,
    /// That changes cannot be watched was told.
    is_unwatched: bool,
    /// Early looks since the last one in turn, and when the last of them was.
    heard: u32,
    heard_at: Duration,
    /// Numbers of what was written to; kept for its memory.
    written: Vec<WatchId>,
    truncations: Truncations,
    is_draining: bool,
    port: Port,
    name: String,
}

struct Followed {
    reading: Reading,
    /// Of all files that were opened.
    number: u64,
    /// The name it has, or had.
    name: usize,
    is_current: bool,
    /// There may be something to take.
    has_news: bool,
    /// It will not be written to any more.
    is_last: bool,
    /// Why it cannot be read. It is tried at every look.
    trouble: Option<String>,
    /// A look has found that its content is another one.
    is_replaced: bool,
    /// The kernel has reported that it was written to, and it was not looked at since.
    was_written: bool,
    /// Its first bytes were looked at: whether they are those of a text.
    was_guessed: bool,
    changed_at: Duration,
    /// When what was in it then had been seen.
    looked_at: Duration,
    watch: Option<WatchId>,
}

impl Follow {
    /// The files of these names, whether or not they exist.
    ///
    /// # Errors
    ///
    /// No name, or a time between two looks that is out of range.
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

    /// The files that fit these patterns, now and later; patterns are those of
    /// [`expand`](crate::sources::expand). They are looked for once a second, and at once where the kernel
    /// reports new names; less often where more than ten thousand names have to be looked at. A path without
    /// wildcards, or that exists, is that file.
    ///
    /// A pattern should not fit the copies that a rotator makes (`copytruncate`): each is a new file.
    ///
    /// ```no_run
    /// use microtally::sources::{Follow, FollowOptions};
    /// // Goes on with the next day's file after midnight.
    /// let logs = Follow::matching(["/var/log/app-*.log"], FollowOptions::default())?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new); what is no pattern, or one that is too wide.
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

    /// Without any name yet; `given` are what they will be of.
    fn of(given: &[PathBuf], options: FollowOptions) -> Result<Self> {
        interval_ms(options.poll).map_err(|_| {
            let poll = options.poll;
            Error::refused(format!(
                "looking at files every {poll:?} is outside 1 ms to 366 days, or no whole number of milliseconds"
            ))
        })?;
        let name = match given {
            [] => return Err(Error::refused("there is no file to follow")),
            [one] => format!("{one:?}"),
            [first, ..] => format!("{first:?} and {} more files", given.len() - 1),
        };
        Ok(Follow {
            names: Names::default(),
            files: Vec::new(),
            turn: 0,
            after_return: None,
            opened: 0,
            options,
            next_look: None,
            looked_at: Duration::ZERO,
            watch: None,
            is_unwatched: false,
            heard: 0,
            heard_at: Duration::ZERO,
            written: Vec::new(),
            truncations: Truncations::default(),
            is_draining: false,
            port: Port::detached(),
            name,
        })
    }

    /// One more file, the current one of that name.
    fn add(&mut self, reading: Reading, name: usize, now: Duration) {
        let watch =
            self.watched(|watch, follow| watch.file(&reading.file, &follow.names[name].path));
        self.opened += 1;
        self.files.push(Followed {
            reading,
            number: self.opened,
            name,
            is_current: true,
            has_news: true,
            is_last: false,
            trouble: None,
            is_replaced: false,
            was_written: false,
            was_guessed: false,
            changed_at: now,
            looked_at: now,
            watch,
        });
    }

    /// Closes the numbered file, which is done with.
    fn close(&mut self, index: usize) {
        let file = self.files.remove(index);
        if let (Some(watch), Some(id)) = (&self.watch, file.watch) {
            watch.forget(id);
        }
        self.turn = index;
    }

    /// Has something watched. When that is not possible it is said once, and files are looked at in turn only.
    fn watched<T>(&mut self, what: impl FnOnce(&Watch, &Follow) -> io::Result<T>) -> Option<T> {
        let watch = self.watch.as_ref()?;
        let outcome = what(watch, self);
        outcome.map_err(|cause| self.tell_unwatched(&cause)).ok()
    }

    #[cold]
    fn tell_unwatched(&mut self, cause: &io::Error) {
        // A name that is gone already, or a system that has no watches.
        let is_nothing = matches!(
            cause.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported
        );
        if is_nothing || std::mem::replace(&mut self.is_unwatched, true) {
            return;
        }
        let (reason, poll) = (describe(cause), self.options.poll);
        self.port.report(NoticeKind::Message(format!(
                "not all changes can be watched: {reason}; looking every {poll:?}, and a truncation may lose \
                 the lines of that time (raise fs.inotify.max_user_watches or max_user_instances)"
            )));
    }

    fn tell(&self, name: usize, message: String) {
        self.port.report_of(
            format!("{:?}", self.names[name].path),
            NoticeKind::Message(message),
        );
    }

    /// The numbered file cannot be read now.
    #[cold]
    fn trouble(&mut self, index: usize, cause: &io::Error) {
        let reason = describe(cause);
        let file = &mut self.files[index];
        if file.trouble.as_ref() != Some(&reason) {
            file.trouble = Some(reason.clone());
            let name = file.name;
            self.tell(name, format!("reading failed: {reason}; trying again"));
        }
    }

    /// The numbered file was read after it could not be.
    #[cold]
    fn recovered(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.trouble = None;
        let name = file.name;
        self.tell(name, "it is read again".to_owned());
    }

    /// Takes from the numbered file. `None`: it has nothing, now.
    fn take(&mut self, index: usize, buf: &mut [u8], now: Duration) -> Option<Fill> {
        let file = &mut self.files[index];
        let was_mid = file.reading.is_mid;
        let taken = if std::mem::take(&mut file.is_replaced) {
            Ok(Taken::Replaced)
        } else {
            file.reading.take(buf, file.is_last)
        };
        if taken.is_ok() && file.trouble.is_some() {
            self.recovered(index);
        }
        let file = &mut self.files[index];
        match taken {
            Ok(Taken::Bytes(count)) => {
                let ends_in_return = self.port.line_ends().may_pair(buf[count - 1]);
                self.after_return = ends_in_return.then_some(file.number);
                // One that gave part of a record goes on with it.
                self.turn = if file.reading.is_mid {
                    index
                } else {
                    index + 1
                };
                if !std::mem::replace(&mut file.was_guessed, true) {
                    self.guess(index);
                }
                Some(Fill::Bytes(count))
            }
            Ok(Taken::Nothing) if std::mem::take(&mut file.was_written) => {
                file.has_news = false;
                self.look_behind(index, now);
                None
            }
            Ok(Taken::Nothing) => {
                file.has_news = false;
                let unread = match self.is_draining {
                    true => self.unread(index),
                    false => 0,
                };
                if self.files[index].is_last {
                    self.close(index);
                }
                was_mid.then_some(Fill::Break { clean: unread == 0 })
            }
            Ok(Taken::Replaced) => self.replaced(index, now),
            Err(cause) => {
                file.has_news = false;
                // The rest of the record may be a long time coming, and other files do not wait.
                if was_mid {
                    file.reading.break_off();
                }
                self.trouble(index, &cause);
                if self.files[index].is_last {
                    self.give_up(index);
                }
                was_mid.then_some(Fill::Break { clean: false })
            }
        }
    }

    /// Reports what a graceful stop leaves unread of the numbered file, and returns how many bytes that is.
    #[cold]
    fn unread(&self, index: usize) -> u64 {
        let Followed { reading, name, .. } = &self.files[index];
        let bytes = reading.bytes_left();
        if bytes > 0 {
            self.lost();
            let kind = NoticeKind::Unread { bytes: Some(bytes) };
            self.port
                .report_of(format!("{:?}", self.names[*name].path), kind);
        }
        bytes
    }

    /// Reports a file that does not begin like text.
    #[cold]
    fn guess(&self, index: usize) {
        let Followed { reading, name, .. } = &self.files[index];
        let first = reading.first_bytes().unwrap_or_default();
        if let Some(looks_like) = sniff::of_file(&first) {
            self.port.report(NoticeKind::NotText {
                path: self.names[*name].path.clone(),
                looks_like,
            });
        }
    }

    /// Closes a file that cannot be read and has no more time to be tried.
    #[cold]
    fn give_up(&mut self, index: usize) {
        let Followed { reading, name, .. } = &self.files[index];
        let (bytes, name) = (reading.bytes_unread(), *name);
        if bytes > 0 {
            self.lost();
            self.tell(
                name,
                format!("closed; its last {bytes} bytes could not be read and are lost"),
            );
        }
        self.close(index);
    }
}

impl Followed {
    /// It has lost its name before anything was taken from it: there is nothing to know its content by.
    fn is_untouched(&self) -> bool {
        !self.is_current && self.reading.offset == 0
    }
}

impl Source for Follow {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
        match Watch::new(&self.port) {
            Ok(watch) => self.watch = Some(watch),
            Err(cause) => self.tell_unwatched(&cause),
        }
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        if !self.is_draining && self.next_look.is_none_or(|at| at <= now) {
            self.look(now);
        }
        loop {
            while let Some(index) = self.next_with_news() {
                // A `\n` at the front of another file would be taken for the rest of a `\r\n`.
                let number = self.files[index].number;
                if self.after_return.is_some_and(|last| last != number) {
                    self.after_return = None;
                    return Fill::Break { clean: true };
                }
                if let Some(fill) = self.take(index, buf, now) {
                    return fill;
                }
            }
            // Events are reported as edges: all of them are heard before there is nothing to do.
            if self.is_draining || !self.hear(now) {
                return Fill::Pending(self.next_call());
            }
        }
    }

    fn drain(&mut self) -> usize {
        let now = self.next_look.unwrap_or_default();
        self.names.look_for_new_ones();
        self.look(now);
        self.is_draining = true;
        self.tell_more_truncations(now);
        let mut left = DRAIN_BYTES_MAX as u64;
        for file in &mut self.files {
            // Lines without an end are records now.
            file.is_last = true;
            file.has_news = true;
            left -= file.reading.end_after(left);
        }
        DRAIN_BYTES_MAX - usize::try_from(left).unwrap_or(0)
    }

    /// What a graceful stop had no time for is reported.
    fn ended(&mut self) {
        if std::mem::take(&mut self.is_draining) {
            for index in 0..self.files.len() {
                self.unread(index);
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Follow {
    /// The file whose turn it is, of those that may have something.
    fn next_with_news(&self) -> Option<usize> {
        let count = self.files.len();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        turns.into_iter().find(|&index| self.files[index].has_news)
    }
}

impl Drop for Follow {
    /// Whoever wraps the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("name", &self.name)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
