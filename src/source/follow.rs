//! `follow`: files that grow and are rotated, as `tail -F` reads them.
//!
//! Promise: every line that is written is given once, through renaming, deletion, truncation and new files
//! of the same name; lines of two files never mix. Refuses to know: what the bytes mean, who rotates.
//!
//! Files are looked at again and again, since no event tells of everything that is done to them on every
//! file system. A file that was opened stays open, so its inode cannot become another file's:
//!
//! ```text
//!              the name is another file's, or nobody's
//!   current ───────────────────────────────────────────▶ retired ── quiet, and the new one has data ─▶ closed
//!    │   ▲                                                   │
//!    └───┘ shorter, or other bytes: from the beginning       ├── its name comes back: current again
//!                                                            └── shorter, or other bytes: closed
//! ```

mod reading;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::reading::{Id, Looked, Reading, Taken, id_of};
use crate::config::interval_ms;
use crate::error::{Error, Result, describe};
use crate::limits::{FOLLOW_POLL_MS_DEFAULT, FOLLOW_QUIET_MS, FOLLOW_RETIRED_MAX};
use crate::source::files::open;
use crate::source::notice::Others;
use crate::source::pattern::here;
use crate::source::{Fill, Notice, Port, Source};

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
    /// record of the time when its end is written.
    pub fn from_end(mut self, from_end: bool) -> Self {
        self.from_end = from_end;
        self
    }

    /// How often files are looked at, in whole milliseconds from 1.
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
/// - A file that is **not there** is waited for, and read from its beginning.
/// - A file that gets another followed file's name goes on where it was; nothing is read twice.
///
/// A line without an end waits in its file; it is a record when the file is closed, and at a graceful stop.
///
/// What was not read of a file when it was truncated is read from the copy that a rotator makes before
/// (`copytruncate`), if one is found: beside the file, its name with something behind it, and with the
/// bytes that were read in their places.
///
/// What nobody can know: lines that come in a file which comes and goes before the next look, lines that are
/// truncated away without a copy, and what is written between the copying and the truncating, which the
/// rotator itself loses. Rotate by renaming where that matters.
pub struct Follow {
    names: Vec<Name>,
    files: Vec<Followed>,
    /// The file to be asked first, one that gave part of a record if there is one.
    turn: usize,
    /// Number of the file that gave bytes last, if they ended in `\r`.
    after_return: Option<u64>,
    opened: u64,
    options: FollowOptions,
    next_look: Option<Duration>,
    is_draining: bool,
    port: Port,
    name: String,
}

struct Name {
    path: PathBuf,
    /// What people were told last about its absence.
    told: Option<String>,
    /// There is no descriptor for it.
    is_crowded: bool,
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
    /// It cannot be read.
    is_broken: bool,
    /// A look has found that its content is another one.
    is_replaced: bool,
    changed_at: Duration,
}

impl Follow {
    /// The files of these names, whether or not they are there.
    ///
    /// # Errors
    ///
    /// No name, or a time between two looks that is out of range.
    pub fn new<P: Into<PathBuf>>(
        paths: impl IntoIterator<Item = P>,
        options: FollowOptions,
    ) -> Result<Self> {
        interval_ms(options.poll).map_err(|_| {
            let poll = options.poll;
            Error::refused(format!(
                "looking at files every {poll:?} is outside 1 ms to 366 days, or no whole number of milliseconds"
            ))
        })?;
        let names: Vec<Name> = paths
            .into_iter()
            .map(|path| Name {
                path: path.into(),
                told: None,
                is_crowded: false,
            })
            .collect();
        let name = match &names[..] {
            [] => return Err(Error::refused("there is no file to follow")),
            [one] => format!("{:?}", one.path),
            [first, ..] => format!("{:?} and {} more files", first.path, names.len() - 1),
        };
        Ok(Follow {
            names,
            files: Vec::new(),
            turn: 0,
            after_return: None,
            opened: 0,
            options,
            next_look: None,
            is_draining: false,
            port: Port::detached(),
            name,
        })
    }

    /// Looks at every name and at every file.
    fn look(&mut self, now: Duration) {
        // Those that no descriptor is left for, and those for which there is one again: of names that are
        // all in the same case one notice is enough.
        let (mut crowded, mut relieved) = (Vec::new(), Vec::new());
        for name in 0..self.names.len() {
            let cause = self.look_at_name(name, now).err();
            let is_crowded =
                (cause.as_ref()).is_some_and(|cause| cause.raw_os_error() == Some(libc::EMFILE));
            let trouble = cause.map(|cause| describe(&cause));
            let known = &mut self.names[name];
            let was_crowded = std::mem::replace(&mut known.is_crowded, is_crowded);
            if known.told == trouble {
                continue;
            }
            known.told.clone_from(&trouble);
            match trouble {
                Some(_) if is_crowded => crowded.push(name),
                None if was_crowded => relieved.push(name),
                Some(reason) => self.tell(name, format!("waiting for it: {reason}")),
                None => self.tell(name, "it is there".to_owned()),
            }
        }
        self.tell_of_all(
            &crowded,
            "no more files can be open (raise ulimit -n): waiting for",
        );
        self.tell_of_all(&relieved, "followed now:");
        for index in 0..self.files.len() {
            let file = &mut self.files[index];
            if file.is_broken {
                continue;
            }
            match file.reading.look() {
                Ok(Looked::AsBefore) => {}
                Ok(Looked::Changed) => {
                    file.changed_at = now;
                    file.has_news = true;
                }
                // Taking from it finds that out as well, and knows what to do.
                Ok(Looked::Replaced) => {
                    file.changed_at = now;
                    file.has_news = true;
                    file.is_replaced = true;
                }
                Err(cause) => self.broken(index, &cause),
            }
        }
        self.retire(now);
    }

    /// Finds out whose name it is now.
    fn look_at_name(&mut self, name: usize, now: Duration) -> io::Result<()> {
        let metadata = fs::metadata(&self.names[name].path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let is_it = |file: &Followed| file.name == name && file.is_current;
        let current = self.files.iter().position(is_it);
        if current.is_some_and(|index| self.files[index].reading.id == id_of(&metadata)) {
            return Ok(());
        }
        let file = open(&self.names[name].path)?;
        // What was opened counts, if the name has gone from hand to hand meanwhile.
        let id = id_of(&file.metadata()?);
        if let Some(index) = current {
            if self.files[index].reading.id == id {
                return Ok(());
            }
            self.files[index].is_current = false;
            self.files[index].changed_at = now;
            self.tell(name, "it is another file now, which is followed".to_owned());
        }
        match self.files.iter_mut().find(|file| file.reading.id == id) {
            // It was renamed, and goes on under this name. One that has its old name too stays with that.
            Some(known) => {
                if !known.is_current {
                    known.name = name;
                    known.is_current = true;
                    known.is_last = false;
                }
            }
            None => {
                let mut reading = Reading::new(file, id, self.port.line_ends());
                if self.options.from_end && self.next_look.is_none() {
                    reading.skip_to_end()?;
                }
                self.add(reading, name, now);
            }
        }
        Ok(())
    }

    /// One more file, the current one of that name.
    fn add(&mut self, reading: Reading, name: usize, now: Duration) {
        self.opened += 1;
        self.files.push(Followed {
            reading,
            number: self.opened,
            name,
            is_current: true,
            has_news: true,
            is_last: false,
            is_broken: false,
            is_replaced: false,
            changed_at: now,
        });
    }

    /// Finds the files that are done with.
    fn retire(&mut self, now: Duration) {
        let quiet = Duration::from_millis(FOLLOW_QUIET_MS);
        for name in 0..self.names.len() {
            let of_name = |file: &&mut Followed| file.name == name;
            let has_successor = self
                .files
                .iter()
                .any(|file| file.name == name && file.is_current && file.reading.has_data());
            let retired = |file: &&Followed| file.name == name && !file.is_current;
            let retired_count = self.files.iter().filter(retired).count();
            let mut surplus = retired_count.saturating_sub(FOLLOW_RETIRED_MAX);
            // In the order in which they were opened.
            for file in self.files.iter_mut().filter(of_name) {
                if file.is_current {
                    continue;
                }
                let is_quiet = !file.has_news && now.saturating_sub(file.changed_at) >= quiet;
                if (is_quiet && has_successor) || surplus > 0 {
                    surplus = surplus.saturating_sub(1);
                    file.is_last = true;
                    file.has_news = true;
                }
            }
        }
    }

    fn tell(&self, name: usize, message: String) {
        self.port.tell(Notice::Message {
            source: format!("{:?}", self.names[name].path),
            message,
        });
    }

    /// The same of all these, if there are any.
    fn tell_of_all(&self, names: &[usize], what: &str) {
        let Some(&first) = names.first() else {
            return;
        };
        let (path, others) = (&self.names[first].path, Others(names.len() as u64));
        self.port.tell(Notice::Message {
            source: self.name.clone(),
            message: format!("{what} {path:?}{others}"),
        });
    }

    /// A file cannot be read. It is left alone until its name is another file's.
    #[cold]
    fn broken(&mut self, index: usize, cause: &io::Error) {
        let file = &mut self.files[index];
        file.is_broken = true;
        // A record that was taken in part has to be ended.
        file.has_news = true;
        let path = &self.names[file.name].path;
        self.port.tell(Notice::Unreadable {
            source: self.name.clone(),
            path: path.clone(),
            reason: describe(cause),
        });
    }

    /// Takes from the numbered file. `None`: it has nothing, now.
    fn take(&mut self, index: usize, buf: &mut [u8]) -> Option<Fill> {
        let file = &mut self.files[index];
        if file.is_broken {
            file.has_news = false;
            let was_mid = std::mem::take(&mut file.reading.is_mid);
            if file.is_last {
                self.files.remove(index);
            }
            return was_mid.then_some(Fill::Break { clean: false });
        }
        let was_mid = file.reading.is_mid;
        let taken = if std::mem::take(&mut file.is_replaced) {
            Ok(Taken::Replaced)
        } else {
            file.reading.take(buf, file.is_last)
        };
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
                Some(Fill::Bytes(count))
            }
            Ok(Taken::Nothing) => {
                file.has_news = false;
                if file.is_last {
                    self.files.remove(index);
                    self.turn = index;
                }
                was_mid.then_some(Fill::Break { clean: true })
            }
            Ok(Taken::Replaced) => self.replaced(index),
            Err(cause) => {
                self.broken(index, &cause);
                None
            }
        }
    }

    /// The content of the numbered file is not what was taken from it: it begins again, and what was not
    /// taken is looked for in a copy.
    fn replaced(&mut self, index: usize) -> Option<Fill> {
        let was_mid = self.files[index].reading.is_mid;
        if !self.files[index].is_current {
            // Its name was given away, and whoever has written over it since is none of those who are
            // followed: `cp log log.1`, for one.
            self.files.remove(index);
            let must_break = was_mid || self.after_return.take().is_some();
            return must_break.then_some(Fill::Break { clean: !was_mid });
        }
        let copy = self.copy_of(index);
        let file = &mut self.files[index];
        let (name, changed_at, is_last) = (file.name, file.changed_at, file.is_last);
        let is_copied = copy.is_some();
        if let Some(copy) = copy {
            // In its place, for it goes on with the same record; nobody writes to it any more.
            let original = std::mem::replace(&mut file.reading, copy);
            file.is_current = false;
            file.is_last = true;
            self.add(original, name, changed_at);
            let added = self.files.last_mut().expect("it was added");
            added.is_last = is_last;
            added.reading.restart();
        } else {
            file.reading.restart();
        }
        let rest = if is_copied {
            ", when its copy has been"
        } else {
            ""
        };
        self.tell(
            name,
            format!("it was truncated, and is read from its beginning{rest}"),
        );
        // The line that it broke off in, or the `\n` that may follow a `\r`, is not in the new content.
        let must_break = !is_copied && (was_mid || self.after_return.take().is_some());
        must_break.then_some(Fill::Break { clean: !was_mid })
    }

    fn is_current(&self, id: Id) -> bool {
        let mut current = self.files.iter().filter(|file| file.is_current);
        current.any(|file| file.reading.id == id)
    }

    /// The copy of what the numbered file was, made beside it by whoever has truncated it then.
    fn copy_of(&self, index: usize) -> Option<Reading> {
        let Followed { reading, name, .. } = &self.files[index];
        let path = &self.names[*name].path;
        let stem = path.file_name()?.as_encoded_bytes();
        let folder = here(path.parent()?);
        let mut copies = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.as_encoded_bytes().strip_prefix(stem) else {
                continue;
            };
            // What cannot be looked at is no copy that could be read.
            if !rest.is_empty()
                && let Ok(metadata) = entry.metadata()
                && metadata.is_file()
                && !self.is_current(id_of(&metadata))
            {
                copies.push((metadata.modified().ok(), entry.path()));
            }
        }
        // The newest first: older ones are those of earlier rotations.
        copies.sort();
        let copies = copies.iter().rev();
        copies
            .filter_map(|(_, path)| reading.in_copy(open(path).ok()?).ok()?)
            .next()
    }
}

impl Source for Follow {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        if !self.is_draining && self.next_look.is_none_or(|at| at <= now) {
            self.look(now);
            self.next_look = Some(now + self.options.poll);
        }
        while let Some(index) = self.next_with_news() {
            // A `\n` at the front of another file would be taken for the rest of a `\r\n`.
            let number = self.files[index].number;
            if self.after_return.is_some_and(|last| last != number) {
                self.after_return = None;
                return Fill::Break { clean: true };
            }
            if let Some(fill) = self.take(index, buf) {
                return fill;
            }
        }
        Fill::Pending(self.next_look.filter(|_| !self.is_draining))
    }

    fn drain(&mut self) -> usize {
        self.look(self.next_look.unwrap_or_default());
        self.is_draining = true;
        let mut bytes = 0;
        for file in &mut self.files {
            // Lines without an end are records now.
            file.is_last = true;
            file.has_news |= !file.is_broken;
            bytes += file.reading.bytes_left();
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
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

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("name", &self.name)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
