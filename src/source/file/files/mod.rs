//! `files`: files by their names, read one after another to their ends.
//!
//! Promise: every file that was named is read once, from its beginning to the end it had when it was
//! opened; lines of two files never mix; one that cannot be read costs the others nothing, and is an error
//! when they are done. Must not know: records, patterns, the clock.
//!
//! Files are read with `read`, never mapped: one that shrinks meanwhile ends sooner, which is reported and an error at
//! the end, and the line that was cut is not counted.

mod entry;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use self::entry::read;
pub(crate) use self::entry::{Entry, Opened, Packed, Regular, became_shorter, has_shrunk, open};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::PIECE_BYTES;
use crate::memory::DecoderCounts;
use crate::source::codec::encoding::{Decoded, MARK_BYTES_MAX};
use crate::source::file::stdin::{Input, report_unread};
use crate::source::{Fill, Port, Source};

/// Files, read one after another: each is a connection of its own, whose end ends its last line.
///
/// A regular file is read up to the size it has when its turn comes, one that has none (as in `/proc`)
/// to its end. One that has become shorter since it was named ends sooner: an unterminated last line, which may be a cut
/// one, is dropped, [`NoticeKind::Shorter`](crate::NoticeKind::Shorter) reports it, and the run ends with an error. Named pipes
/// and devices are read as they come.
///
/// The mark at the beginning of a file (`ef bb bf`, which Windows programs write) is no part of its first line; it is
/// in the batch's bytes. A file that begins with a mark of UTF-16 (`ff fe` or `fe ff`) is read as UTF-8: what is no
/// character in it, such as half of a surrogate pair, becomes U+FFFD, and one thread reads it. UTF-32 is refused.
///
/// ```
/// use microtally::prelude::*;
/// use microtally::sources::Files;
///
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// let files = Files::open(["Cargo.toml", "src/lib.rs"])?;
/// let progress = files.progress();
/// ssc.source_stream(files).count_by_value().for_each_batch(|batch, _| {
///     println!("{} different lines", batch.len());
/// });
/// ssc.start()?.await_termination()?;
/// assert_eq!(progress.read_bytes(), progress.total_bytes());
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct Files {
    entries: Vec<Entry>,
    /// The next one to open.
    next: usize,
    open: Option<Open>,
    port: Port,
    progress: Progress,
    trouble: Trouble,
    name: String,
    piece_bytes: usize,
}

enum Open {
    Regular {
        file: File,
        bytes: u64,
        left: Option<u64>,
        /// Bytes of the mark, if it was not read.
        mark_bytes: usize,
    },
    Packed(Packed),
    /// Boxed: it is the larger one by far, and rare.
    Stream(Box<Input>),
}

/// How far a reader of files has come. Cheap to clone and to ask, from any thread.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    total: AtomicU64,
    begun: AtomicUsize,
    count: usize,
}

/// Files that could not be read, each of which a notice has reported: the first one's error, and how many.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    first: Option<Error>,
    count: usize,
}

impl Progress {
    fn new(entries: &[Entry]) -> Self {
        Progress(Arc::new(Counters {
            total: AtomicU64::new(entries.iter().map(|entry| entry.bytes).sum()),
            count: entries.len(),
            ..Counters::default()
        }))
    }

    /// Bytes read so far. Of compressed files those of the file, not of what is in it.
    pub fn read_bytes(&self) -> u64 {
        // Relaxed here and below: figures for people, which guard nothing.
        self.0.read.load(Ordering::Relaxed)
    }

    /// Bytes of all regular files: as many as will have been read at the end, as far as is known. What
    /// comes out of pipes and devices is added as it is read.
    pub fn total_bytes(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Files whose turn has come.
    pub fn files_begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Files there are.
    pub fn files(&self) -> usize {
        self.0.count
    }

    pub(crate) fn add_read(&self, bytes: usize) {
        self.0.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes of something that has no size were read.
    pub(crate) fn add_stream(&self, bytes: usize) {
        self.add_read(bytes);
        self.correct(0, bytes as u64);
    }

    /// A file's turn has come, and it has not the size that it was thought to have.
    pub(crate) fn begin(&self, thought: u64, is: u64) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.correct(thought, is);
    }

    /// What was counted as `thought` bytes in the total is as many as `is`.
    pub(crate) fn correct(&self, thought: u64, is: u64) {
        // Wrapping, as atomics do: the sum comes out right.
        self.0
            .total
            .fetch_add(is.wrapping_sub(thought), Ordering::Relaxed);
    }
}

impl Trouble {
    /// One more file could not be read, or not to its end.
    pub(crate) fn add(&mut self, path: &Path, cause: &io::Error) {
        self.count += 1;
        self.first
            .get_or_insert_with(|| Error::input(&format!("{path:?}"), cause));
    }

    /// What to say of it at the end, `of` so many files.
    pub(crate) fn into_error(self, of: usize) -> Option<Error> {
        let first = self.first?;
        let count = self.count;
        let summary = format!("{count} of {of} files could not be read");
        let error = match count {
            1 => first,
            _ => {
                let message = format!("{summary}, the first one: {first}");
                Error::new(ErrorKind::Source, message)
            }
        };
        Some(error.reported_except(if of == 1 { String::new() } else { summary }))
    }
}

impl Files {
    /// The files of these names, in this order. See [`expand`](crate::sources::expand) for patterns.
    ///
    /// # Errors
    ///
    /// No name at all, [`ErrorKind::Config`]; the first file that is missing, is a directory or may not
    /// be read, [`ErrorKind::Source`].
    pub fn open<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let entries = paths.into_iter().map(|path| Entry::new(path.into()));
        Files::of(entries.collect::<Result<Vec<_>>>()?)
    }

    /// As [`open`](Self::open), but a file that cannot be opened costs the others nothing: it is tried again when its
    /// turn comes, reported with [`NoticeKind::Unreadable`](crate::NoticeKind::Unreadable) then, and the run ends with an error
    /// when the others are done. [`readable`](Self::readable) says how many could be opened.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::sources::Files;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let files = Files::open_any(["Cargo.toml", "missing"])?;
    /// assert_eq!(files.readable(), 1);
    /// let lines = ssc.files_stream(files);
    /// lines.count_by_value().for_each_batch(|batch, _| assert!(batch.len() > 10));
    /// let error = ssc.start_files()?.await_termination().unwrap_err();
    /// assert_eq!(error.to_string(), "cannot read \"missing\": No such file or directory");
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No name at all, [`ErrorKind::Config`].
    pub fn open_any<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let entries = paths.into_iter().map(|path| {
            let path = path.into();
            Entry::new(path.clone()).unwrap_or_else(|_| Entry::unreadable_now(path))
        });
        Files::of(entries.collect())
    }

    /// How many of the files could be opened when they were named.
    pub fn readable(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.is_readable)
            .count()
    }

    fn of(entries: Vec<Entry>) -> Result<Self> {
        let name = match &entries[..] {
            [] => return Err(Error::refused("there is no file to read")),
            [one] => format!("{:?}", one.path),
            [first, ..] => format!("{:?} and {} more files", first.path, entries.len() - 1),
        };
        Ok(Files {
            progress: Progress::new(&entries),
            entries,
            next: 0,
            open: None,
            port: Port::detached(),
            trouble: Trouble::default(),
            name,
            piece_bytes: PIECE_BYTES,
        })
    }

    /// Reads what is inside of those files that are compressed, as gzip, zstd, bzip2, xz or lz4; the others as they
    /// are. The first bytes say so, never the name: `1f 8b` for gzip; `28 b5 2f fd` or a skippable frame
    /// (`50 2a 4d 18` to `5f 2a 4d 18`) for zstd; `BZh1` to `BZh9` and the beginning of a block for bzip2;
    /// `fd 37 7a 58 5a 00` for xz; `04 22 4d 18` for lz4. No text in UTF-8 begins like gzip, zstd or xz.
    ///
    /// Several members, frames or streams in a row are one file, as for `zcat` and its like; zeros may follow the
    /// last member of gzip, and streams of xz in groups of four. Checksums are checked. A file that is corrupt, breaks
    /// off or goes on with something else is an error that names the byte, [`ErrorKind::Source`]; what was decoded
    /// before it is counted, except the line it stopped in.
    ///
    /// What begins like a zip, 7z or rar archive, or like data of snappy, lzip, lzop, compress or lz4's legacy format,
    /// is not decoded: it is an error that says what it is.
    ///
    /// A compressed file is decoded from its beginning to its end by one thread. With
    /// [`start_files`](crate::StreamingContext::start_files) the other workers go on with other files, or count
    /// what it decodes when there are none; as a source it is decoded on the reading thread, up to 256 KiB at a
    /// time. A block of bzip2 is decoded as a whole, which takes some 50 ms, and one of lz4 some milliseconds.
    ///
    /// Each file that is being decoded takes 768 KiB at most; with bzip2 and lz4 8 MiB more; with zstd and xz the window
    /// or dictionary it asks for. One above 128 MiB is refused, as the reference decoder of zstd does by default. With
    /// [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) the windows of all decoders together are an
    /// eighth of it at most, each a power of two from 8 to 128 MiB; data that asks for more is an error that
    /// says so. Frames that need a dictionary of their own are refused as well.
    ///
    /// [`Follow`](crate::sources::Follow) and `text_file_stream` decode nothing.
    ///
    /// ```
    /// use std::io::Write;
    /// use flate2::{Compression, write::GzEncoder};
    /// use microtally::prelude::*;
    /// use microtally::sources::Files;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("words");
    /// let mut file = GzEncoder::new(std::fs::File::create(&path)?, Compression::default());
    /// file.write_all(b"one\ntwo\none\n")?;
    /// file.finish()?;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lines = ssc.files_stream(Files::open([path, "Cargo.toml".into()])?.decompress());
    /// lines.count_by_value().for_each_batch(|batch, _| assert_eq!(batch.get(b"one"), Some(2)));
    /// ssc.start_files()?.await_termination()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "compress")]
    pub fn decompress(mut self) -> Self {
        for entry in &mut self.entries {
            entry.is_unpacked = true;
        }
        self
    }

    /// What it takes to read all of them at once.
    pub(crate) fn all_decoders(&self) -> DecoderCounts {
        self.entries.iter().map(Entry::decoders).sum()
    }

    /// Whether there is one that can only be read from its beginning to its end.
    pub(crate) fn has_whole(&self) -> bool {
        let is_whole = |entry: &Entry| entry.stream.is_some() || entry.decoders().count > 0;
        self.entries.iter().any(is_whole)
    }

    /// What was named, for another reader, and its name.
    pub(crate) fn into_parts(mut self) -> (Vec<Entry>, String, usize) {
        let entries = std::mem::take(&mut self.entries);
        (entries, std::mem::take(&mut self.name), self.piece_bytes)
    }

    /// Bytes that one of several workers takes at once, at least 1: small ones have every boundary happen in
    /// tests.
    #[doc(hidden)]
    pub fn piece_bytes(mut self, bytes: usize) -> Self {
        self.piece_bytes = bytes.max(1);
        self
    }

    /// How far the reading has come, for another thread to ask.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Opens the next file that can be, if there is one.
    fn open_next(&mut self) -> bool {
        while let Some(entry) = self.entries.get_mut(self.next) {
            self.next += 1;
            match entry.open(self.port.window_log_max) {
                Ok(Opened::Regular(regular)) => {
                    self.progress.begin(entry.bytes, regular.bytes.unwrap_or(0));
                    self.open = Some(Open::Regular {
                        file: regular.file,
                        bytes: regular.bytes.unwrap_or(0),
                        left: regular.bytes,
                        mark_bytes: regular.mark_bytes,
                    });
                    return true;
                }
                Ok(Opened::Packed(packed)) => {
                    self.progress
                        .begin(entry.bytes, packed.bytes().unwrap_or(0));
                    self.open = Some(Open::Packed(packed));
                    return true;
                }
                Ok(Opened::Stream(mut input)) => {
                    self.progress.begin(entry.bytes, 0);
                    input.watch(&self.port);
                    self.open = Some(Open::Stream(input));
                    return true;
                }
                Err(cause) => {
                    self.progress.begin(entry.bytes, 0);
                    self.trouble.add(&entry.path, &cause);
                    self.port.report(entry.unreadable(&cause));
                }
            }
        }
        false
    }

    /// The file at hand broke off.
    fn failed(&mut self, cause: &io::Error) -> Fill {
        let entry = &self.entries[self.next - 1];
        self.trouble.add(&entry.path, cause);
        self.port.report(entry.unreadable(cause));
        self.open = None;
        // What came before it was read; the line it stopped in is not one.
        Fill::Break { clean: false }
    }

    fn ended(&mut self) -> Fill {
        self.open = None;
        Fill::Break { clean: true }
    }
}

/// Reads the mark of `mark_bytes` bytes off, if there is one, or else text behind it.
fn read_behind_mark(
    file: &File,
    left: &mut Option<u64>,
    mark_bytes: &mut usize,
    buf: &mut [u8],
) -> io::Result<Decoded> {
    if *mark_bytes > 0 {
        let mut mark = [0; MARK_BYTES_MAX];
        let wanted = std::mem::take(mark_bytes);
        let mut count = 0;
        while count < wanted {
            match read(file, left, &mut mark[count..wanted])? {
                0 => break,
                more => count += more,
            }
        }
        if count > 0 {
            return Ok(Decoded::Skipped(count));
        }
    }
    Ok(match read(file, left, buf)? {
        0 => Decoded::End,
        count => Decoded::Bytes(count),
    })
}

/// The cause of the error of an [`Input`] of this `name`, which it names.
pub(crate) fn input_cause(error: &Error, name: &str) -> io::Error {
    let message = error.to_string();
    let place = Error::input(name, &io::Error::other("")).to_string();
    let cause = message.strip_prefix(&place).unwrap_or(&message);
    io::Error::other(cause.to_owned())
}

impl Source for Files {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        if self.open.is_none() && !self.open_next() {
            let trouble = std::mem::take(&mut self.trouble);
            return match trouble.into_error(self.entries.len()) {
                Some(error) => Fill::Failed(error),
                None => Fill::End,
            };
        }
        match self.open.as_mut().expect("it was opened") {
            Open::Regular {
                file,
                bytes,
                left,
                mark_bytes,
            } => match read_behind_mark(file, left, mark_bytes, buf) {
                Ok(Decoded::Skipped(count)) => {
                    self.progress.add_read(count);
                    if left.is_none() {
                        self.progress.correct(0, count as u64);
                    }
                    Fill::Skipped(count)
                }
                Ok(Decoded::End | Decoded::Again) => {
                    let missing = left.take().unwrap_or(0);
                    self.progress.correct(missing, 0);
                    if missing == 0 || !has_shrunk(file, *bytes) {
                        return self.ended();
                    }
                    let entry = &self.entries[self.next - 1];
                    let shorter = entry.shorter(file);
                    self.trouble.add(&entry.path, &became_shorter());
                    self.port.report(shorter);
                    self.open = None;
                    Fill::Break { clean: false }
                }
                Ok(Decoded::Bytes(count)) => {
                    self.progress.add_read(count);
                    if left.is_none() {
                        self.progress.correct(0, count as u64);
                    }
                    Fill::Bytes(count)
                }
                Err(cause) => self.failed(&cause),
            },
            Open::Packed(packed) => match packed.fill(buf, &self.progress) {
                Ok(Decoded::Bytes(count)) => Fill::Bytes(count),
                Ok(Decoded::Skipped(count)) => Fill::Skipped(count),
                Ok(Decoded::Again) => Fill::Pending(Some(now)),
                Ok(Decoded::End) => self.ended(),
                Err(cause) => self.failed(&cause),
            },
            Open::Stream(input) => {
                let filled = input.fill(buf, now);
                self.progress.add_stream(input.take_taken_bytes());
                match filled {
                    Fill::End => self.ended(),
                    Fill::Failed(error) => {
                        let cause = input_cause(&error, input.name());
                        self.failed(&cause)
                    }
                    other => other,
                }
            }
        }
    }

    fn drain(&mut self) -> usize {
        match &mut self.open {
            Some(Open::Stream(input)) => input.drain(),
            // The rest of a file has not been received.
            _ => 0,
        }
    }

    fn ended(&mut self) {
        // An input of its own has no port to report through.
        if let Some(Open::Stream(input)) = &mut self.open
            && let Some(bytes) = input.take_unread()
        {
            report_unread(&self.port, input.name(), bytes);
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn decoders(&self) -> DecoderCounts {
        self.all_decoders().at_most(1)
    }
}

impl Drop for Files {
    /// Whoever wraps the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("name", &self.name)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
