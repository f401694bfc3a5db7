//! `files`: files by their names, read one after another to their ends.
//!
//! Promise: every named file is read once, from its beginning to the end it had when it was opened;
//! lines of two files never mix; one that cannot be read does not affect the others, and is an
//! error at the end. Must not know: records, `follow`, `directory`, the clock.
//!
//! Files are read with `read`, never mapped: one that shrinks meanwhile ends early. That is
//! reported, and an error at the end; the line that was cut is not counted.

mod named_file;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) use self::named_file::{
    DecodedFile, NamedFile, Opened, Regular, became_shorter, has_shrunk, open,
};
use crate::error::{Error, ErrorKind, Result};
use crate::intake::Intake;
use crate::limits::PIECE_BYTES;
use crate::memory::DecoderCounts;
use crate::source::codec::encoding::Decoded;
use crate::source::file::stdin::{Stdin, report_unread};
use crate::source::{Fill, Port, ReadOutcome, Source, read_once};

/// A source of files, read one after another. The end of a file ends its last line.
///
/// A regular file is read up to the size it has when its turn comes; one without a size, as in
/// `/proc`, to its end. A file that has become shorter since it was named ends early: its
/// unterminated last line is dropped, [`NoticeKind::Shorter`](crate::notice::NoticeKind::Shorter)
/// reports it, and the run ends with an error. Named pipes and devices are read as their bytes
/// arrive.
///
/// A UTF-8 mark at the beginning of a file (`ef bb bf`, which Windows programs write) is not part
/// of its first line; the batch's bytes include it. A file that begins with a mark of UTF-16 (`ff
/// fe` or `fe ff`) is converted to UTF-8 by one thread; half of a surrogate pair becomes U+FFFD.
/// UTF-32 is refused.
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
    files: Vec<NamedFile>,
    /// The next one to open.
    next: usize,
    current: Option<CurrentFile>,
    port: Port,
    progress: Progress,
    trouble: Trouble,
    name: String,
    piece_bytes: usize,
}

enum CurrentFile {
    Regular(DecodedFile),
    /// Boxed: it is the larger one by far, and rare.
    Stream(Box<Stdin>),
}

/// The progress of a reader of files. Cheap to clone and to read, from any thread.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    total: AtomicU64,
    begun: AtomicUsize,
    count: usize,
}

/// Files that could not be read, each reported by a notice: the first error, and how many.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    first: Option<Error>,
    count: usize,
}

impl Progress {
    fn new(files: &[NamedFile]) -> Self {
        Progress(Arc::new(Counters {
            total: AtomicU64::new(files.iter().map(|file| file.bytes).sum()),
            count: files.len(),
            ..Counters::default()
        }))
    }

    /// Returns the bytes read so far. Compressed files count with their compressed bytes.
    pub fn read_bytes(&self) -> u64 {
        // Relaxed here and below: these numbers are for display and guard nothing.
        self.0.read.load(Ordering::Relaxed)
    }

    /// Returns the bytes of all regular files: the expected value of
    /// [`read_bytes`](Self::read_bytes) at the end. Bytes of pipes and devices are added as they
    /// are read.
    pub fn total_bytes(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Returns the number of files that were begun.
    pub fn files_begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.0.count
    }

    pub(crate) fn add_read(&self, bytes: usize) {
        self.0.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds bytes of a file without a size.
    pub(crate) fn add_stream(&self, bytes: usize) {
        self.add_read(bytes);
        self.correct(0, bytes as u64);
    }

    /// Begins a file that was counted with `expected` bytes and has `actual` ones.
    pub(crate) fn begin(&self, expected: u64, actual: u64) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.correct(expected, actual);
    }

    /// Corrects the total where `expected` bytes are `actual` ones.
    pub(crate) fn correct(&self, expected: u64, actual: u64) {
        // Wrapping, as atomics do: the sum comes out right.
        let change = actual.wrapping_sub(expected);
        self.0.total.fetch_add(change, Ordering::Relaxed);
    }
}

impl Trouble {
    /// Adds a file that could not be read, or not to its end.
    pub(crate) fn add(&mut self, path: &Path, cause: &io::Error) {
        self.count += 1;
        self.first
            .get_or_insert_with(|| Error::input(&format!("{path:?}"), cause));
    }

    /// Returns the error of the run, which read `of` files.
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
    /// Opens the files of these names, to be read in this order. See
    /// [`expand`](crate::sources::expand) for patterns.
    ///
    /// # Errors
    ///
    /// No name at all, [`ErrorKind::Config`]; the first file that is missing, is a directory or may
    /// not be read, [`ErrorKind::Source`].
    pub fn open<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let files = paths.into_iter().map(|path| NamedFile::new(path.into()));
        Files::of(files.collect::<Result<Vec<_>>>()?)
    }

    /// As [`open`](Self::open), but a file that cannot be opened does not affect the others. It is
    /// tried again when its turn comes. If it still fails,
    /// [`NoticeKind::Unreadable`](crate::notice::NoticeKind::Unreadable) reports it, and the run
    /// ends with an error after the other files. [`readable`](Self::readable) returns how many
    /// could be opened.
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
        let files = paths.into_iter().map(|path| {
            let path = path.into();
            NamedFile::new(path.clone()).unwrap_or_else(|_| NamedFile::unreadable(path))
        });
        Files::of(files.collect())
    }

    /// Returns how many of the files could be opened when they were named.
    pub fn readable(&self) -> usize {
        self.files.iter().filter(|file| file.is_readable).count()
    }

    fn of(files: Vec<NamedFile>) -> Result<Self> {
        let name = match &files[..] {
            [] => return Err(Error::refused("there is no file to read")),
            [one] => format!("{:?}", one.path),
            [first, ..] => format!("{:?} and {} more files", first.path, files.len() - 1),
        };
        Ok(Files {
            progress: Progress::new(&files),
            files,
            next: 0,
            current: None,
            port: Port::detached(),
            trouble: Trouble::default(),
            name,
            piece_bytes: PIECE_BYTES,
        })
    }

    /// Decompresses files in gzip, zstd, bzip2, xz or lz4; reads the others as they are. The first
    /// bytes decide, never the name: `1f 8b` for gzip; `28 b5 2f fd` or a skippable frame (`50 2a
    /// 4d 18` to `5f 2a 4d 18`) for zstd; `BZh1` to `BZh9` and the beginning of a block for bzip2;
    /// `fd 37 7a 58 5a 00` for xz; `04 22 4d 18` for lz4. No text in UTF-8 begins like gzip, zstd
    /// or xz.
    ///
    /// Several members, frames or streams in a row are one file, as for `zcat`. Zeros may follow
    /// the last member of gzip, and streams of xz in groups of four. Checksums are checked. A file
    /// that is corrupt, breaks off or continues with something else is an error that names the
    /// byte, [`ErrorKind::Source`]. Content decoded before it is counted, except the line it
    /// stopped in.
    ///
    /// Zip, 7z and rar archives, and data of snappy, lzip, lzop, compress or lz4's legacy format,
    /// are not decoded: they are errors that name the format.
    ///
    /// One thread decodes a compressed file from beginning to end. With
    /// [`start_files`](crate::StreamingContext::start_files) the other workers read other files, or
    /// count the decoded content when there are none. As a source it is decoded on the reading
    /// thread, up to 256 KiB at a time. A block of bzip2 is decoded as a whole, which takes some 50
    /// ms; one of lz4 takes some milliseconds.
    ///
    /// Each file being decoded takes at most 768 KiB; bzip2 and lz4 take 8 MiB more; zstd and xz
    /// take the window or dictionary they ask for. One above 128 MiB is refused, as the reference
    /// decoder of zstd does by default. With
    /// [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) the windows of all decoders
    /// together take at most an eighth of it, each a power of two from 8 to 128 MiB; data that asks
    /// for more is an error. Frames that need a dictionary of their own are refused as well.
    ///
    /// [`Follow`](crate::sources::Follow) and `text_file_stream` do not decode.
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
        for file in &mut self.files {
            file.is_decompressed = true;
        }
        self
    }

    /// Returns the decoders that reading all of them at once takes.
    pub(crate) fn all_decoders(&self) -> DecoderCounts {
        self.files.iter().map(NamedFile::decoders).sum()
    }

    /// Returns `true` if there is a file that can only be read from beginning to end.
    pub(crate) fn has_whole(&self) -> bool {
        let is_whole = |file: &NamedFile| file.stream.is_some() || file.decoders().count > 0;
        self.files.iter().any(is_whole)
    }

    /// Returns the files for another reader, the name of the source, and the size of a chunk.
    pub(crate) fn into_parts(mut self) -> (Vec<NamedFile>, String, usize) {
        let files = std::mem::take(&mut self.files);
        (files, std::mem::take(&mut self.name), self.piece_bytes)
    }

    /// Sets the bytes that one of several workers takes at once, at least 1. With small chunks,
    /// tests reach every boundary.
    #[doc(hidden)]
    pub fn piece_bytes(mut self, bytes: usize) -> Self {
        self.piece_bytes = bytes.max(1);
        self
    }

    /// Returns the progress of the reading, for another thread.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Opens the next readable file, if there is one.
    fn open_next(&mut self) -> Option<CurrentFile> {
        while let Some(file) = self.files.get_mut(self.next) {
            self.next += 1;
            let opened = file.open(self.port.window_log_max);
            let current = opened.map(|opened| match opened {
                Opened::Regular(regular) => CurrentFile::Regular(DecodedFile::plain(regular)),
                Opened::Decoded(decoded) => CurrentFile::Regular(decoded),
                Opened::Stream(mut input) => {
                    input.watch(&self.port);
                    CurrentFile::Stream(input)
                }
            });
            let actual_bytes = match &current {
                Ok(CurrentFile::Regular(file)) => file.bytes(),
                _ => 0,
            };
            self.progress.begin(file.bytes, actual_bytes);
            match current {
                Ok(current) => return Some(current),
                Err(cause) => {
                    self.trouble.add(&file.path, &cause);
                    self.port.report(file.unreadable_notice(&cause));
                }
            }
        }
        None
    }

    /// Ends the current file, which failed. A plain file fails at its end only if it has become
    /// shorter.
    fn failed(&mut self, cause: &io::Error) -> ReadOutcome {
        let named = &self.files[self.next - 1];
        self.trouble.add(&named.path, cause);
        self.port.report(match self.current.take() {
            Some(CurrentFile::Regular(DecodedFile {
                file,
                is_plain: true,
                ..
            })) if cause.kind() == io::ErrorKind::UnexpectedEof => named.shorter_notice(&file),
            _ => named.unreadable_notice(cause),
        });
        // The line it stopped in is not a record; the lines before it are.
        ReadOutcome::Break { clean: false }
    }

    fn end_file(&mut self) -> ReadOutcome {
        self.current = None;
        ReadOutcome::Break { clean: true }
    }
}

/// Returns the cause of an error of the [`Stdin`] called `name`.
pub(crate) fn input_cause(error: &Error, name: &str) -> io::Error {
    let message = error.to_string();
    let place = Error::input(name, &io::Error::other("")).to_string();
    let cause = message.strip_prefix(&place).unwrap_or(&message);
    io::Error::new(error.cause().unwrap_or(io::ErrorKind::Other), cause)
}

impl Files {
    /// Reads once, if that does not block.
    pub(crate) fn read(&mut self, buf: &mut [u8], now: Duration) -> ReadOutcome {
        if self.current.is_none() {
            self.current = self.open_next();
        }
        let Some(current) = &mut self.current else {
            let trouble = std::mem::take(&mut self.trouble);
            return match trouble.into_error(self.files.len()) {
                Some(error) => ReadOutcome::Nothing(Fill::Failed(error)),
                None => ReadOutcome::Nothing(Fill::End),
            };
        };
        match current {
            CurrentFile::Regular(file) => match file.fill(buf, &self.progress) {
                Ok(Decoded::Bytes(count)) => ReadOutcome::Bytes(count),
                Ok(Decoded::Skipped(count)) => ReadOutcome::Skipped(count),
                Ok(Decoded::Again) => ReadOutcome::Nothing(Fill::Pending(Some(now))),
                Ok(Decoded::End) => self.end_file(),
                Err(cause) => self.failed(&cause),
            },
            CurrentFile::Stream(input) => {
                let filled = input.read(buf, now);
                self.progress.add_stream(input.take_read_bytes());
                match filled {
                    ReadOutcome::Nothing(Fill::End) => self.end_file(),
                    ReadOutcome::Nothing(Fill::Failed(error)) => {
                        let cause = input_cause(&error, input.name());
                        self.failed(&cause)
                    }
                    other => other,
                }
            }
        }
    }
}

impl Source for Files {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        read_once(out, |space| self.read(space, now))
    }

    fn drain(&mut self) -> usize {
        match &mut self.current {
            Some(CurrentFile::Stream(input)) => input.drain(),
            // The rest of a file has not been received.
            _ => 0,
        }
    }

    fn ended(&mut self) {
        // The stream has no port to report through.
        if let Some(CurrentFile::Stream(input)) = &mut self.current
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
    /// A wrapper of the source need not forward [`ended`](Source::ended).
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
