//! `files`: files by their names, read one after another to their ends.
//!
//! Promise: every file that was named is read once, from its beginning to the end it had when it was
//! opened; lines of two files never mix; one that cannot be read costs the others nothing, and is an error
//! when they are done. Refuses to know: what the bytes mean, patterns, the clock.
//!
//! Files are read with `read`, never mapped: one that shrinks meanwhile ends sooner, and that is told.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, describe};
use crate::limits::PIECE_BYTES;
use crate::source::input::Input;
use crate::source::unpack::{self, Kind, Step, Unpack};
use crate::source::{Fill, Notice, Port, Source};
use crate::table::budget::Decoders;

/// How many times as long as a compressed file what is in it may well be: text is seldom compressed less.
const PACKED_GROWTH: u64 = 4;

/// Files, read one after another: each is a connection of its own, whose end ends its last line.
///
/// A regular file is read up to the size it has when its turn comes, one that has none (as in `/proc`)
/// to its end. One that becomes shorter meanwhile ends sooner, with a notice ([`Notice::Shorter`]). Named pipes
/// and devices are read as they come.
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

/// A file that was named.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Its size when it was named, if it is a regular file.
    pub(crate) bytes: u64,
    /// A pipe or a device, which can be opened once.
    stream: Option<File>,
    /// What its first bytes said when it was named, if it is a regular file.
    kind: Kind,
    /// What is inside is asked for, if it is compressed.
    is_unpacked: bool,
}

/// A file that was opened.
pub(crate) enum Opened {
    /// A regular file, and how many bytes of it there are: `None` where the system does not say.
    Regular(File, Option<u64>),
    /// A regular file that is compressed.
    Packed(Packed),
    /// Anything else: bytes come when they come.
    Stream(Input),
}

/// A regular file that is compressed, and how it is read.
pub(crate) struct Packed {
    file: File,
    /// Compressed bytes that were not read, where the system says how many there are.
    left: Option<u64>,
    unpack: Box<Unpack>,
}

enum Open {
    Regular {
        file: File,
        left: Option<u64>,
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

/// Files that could not be read: the first one's error, and how many.
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
        Some(if count == 1 {
            first
        } else {
            let message =
                format!("{count} of {of} files could not be read, the first one: {first}");
            Error::new(ErrorKind::Source, message)
        })
    }
}

impl Entry {
    fn new(path: PathBuf) -> Result<Self> {
        let unreadable = |cause: &io::Error| Error::input(&format!("{path:?}"), cause);
        let opened = open(&path).and_then(|file| Ok((metadata(&file)?, file)));
        let (metadata, file) = opened.map_err(|cause| unreadable(&cause))?;
        let is_file = metadata.is_file();
        Ok(Entry {
            kind: if is_file {
                // What cannot be read now is told of when it is its turn.
                unpack::kind_of_file(&file).unwrap_or(Kind::Plain)
            } else {
                Kind::Plain
            },
            path,
            bytes: if is_file { metadata.len() } else { 0 },
            // A pipe must not be closed again: whoever writes would be told that nobody reads.
            stream: (!is_file).then_some(file),
            is_unpacked: false,
        })
    }

    /// About how many bytes are in it, as far as that is known when it was named.
    pub(crate) fn content_bytes(&self) -> Option<u64> {
        match (&self.stream, self.is_unpacked && self.kind.is_packed()) {
            (Some(_), _) => None,
            (None, true) => Some(self.bytes.saturating_mul(PACKED_GROWTH)),
            (None, false) => Some(self.bytes),
        }
    }

    /// What it takes to read it, as far as that is known when it was named.
    fn decoders(&self) -> Decoders {
        match &self.stream {
            _ if !self.is_unpacked => Decoders::default(),
            Some(_) => Kind::Open.decoders(),
            None => self.kind.decoders(),
        }
    }

    /// Opens it, which can be done once. The window of a decoder is at most 2 to the power of
    /// `window_log_max`.
    pub(crate) fn open(&mut self, window_log_max: u32) -> io::Result<Opened> {
        let file = match self.stream.take() {
            Some(stream) => stream,
            None => open(&self.path)?,
        };
        let metadata = metadata(&file)?;
        Ok(if metadata.is_file() {
            // Files that are made up when they are read say that they are empty.
            let size = Some(metadata.len()).filter(|&bytes| bytes > 0);
            let unpack = if self.is_unpacked {
                unpack::of_file(&file)?
            } else {
                None
            };
            match unpack {
                Some(mut unpack) => {
                    unpack.limit_window(window_log_max);
                    Opened::Packed(Packed {
                        file,
                        left: size,
                        unpack,
                    })
                }
                None => Opened::Regular(file, size),
            }
        } else {
            let mut input = Input::of(format!("{:?}", self.path), file);
            #[cfg(feature = "compress")]
            if self.is_unpacked {
                input = input.decompress();
            }
            input.limit_window(window_log_max);
            Opened::Stream(input)
        })
    }

    /// What to tell when it cannot be read.
    pub(crate) fn unreadable(&self, source: &str, cause: &io::Error) -> Notice {
        Notice::Unreadable {
            source: source.to_owned(),
            path: self.path.clone(),
            reason: describe(cause),
        }
    }

    /// What to tell when its end came sooner than it should have.
    pub(crate) fn shorter(&self, source: &str, file: &File) -> Notice {
        Notice::Shorter {
            source: source.to_owned(),
            path: self.path.clone(),
            bytes: file.metadata().map_or(0, |metadata| metadata.len()),
        }
    }
}

impl Packed {
    /// Compressed bytes there are when nothing was read, where the system says so.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.left
    }

    /// Puts what is inside at the front of `out`; compressed bytes are what `progress` counts.
    ///
    /// # Errors
    ///
    /// What the system says of a read; what the decoder says of the bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8], progress: &Progress) -> io::Result<Step> {
        let Packed { file, left, unpack } = self;
        let outcome = unpack.fill(out, |space| {
            let count = read(file, left, space)?;
            progress.add_read(count);
            if left.is_none() {
                progress.correct(0, count as u64);
            }
            Ok(count)
        });
        if matches!(outcome, Ok(Step::End) | Err(_)) {
            // It is shorter than it was, or what is left of it means nothing.
            progress.correct(left.unwrap_or(0), 0);
            *left = Some(0);
        }
        outcome
    }
}

/// What an open file is: anything but a directory.
fn metadata(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(metadata)
}

/// Opens a file without waiting: a named pipe without a writer would make one wait for it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

impl Files {
    /// The files of these names, in this order. See [`expand`](crate::sources::expand) for patterns.
    ///
    /// # Errors
    ///
    /// No name at all, [`ErrorKind::Config`]; the first file that is not there, is a directory or may not
    /// be read, [`ErrorKind::Source`].
    pub fn open<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let entries = paths.into_iter().map(|path| Entry::new(path.into()));
        let entries = entries.collect::<Result<Vec<_>>>()?;
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

    /// Gives what is inside of those files that are compressed, gzip or zstd; the others as they are. It is
    /// the first bytes that say so, never the name: `1f 8b` for gzip, `28 b5 2f fd` or a skippable frame
    /// (`50 2a 4d 18` to `5f 2a 4d 18`) for zstd. No text in UTF-8 begins with the first two.
    ///
    /// Several members or frames in a row are one file, as for `zcat` and `zstdcat`; zeros may follow the
    /// last member of gzip. Checksums are checked. A file that is corrupt, breaks off or goes on with
    /// something else is an error that names the byte, [`ErrorKind::Source`]; what was decoded before it is
    /// counted, but for the line it stopped in.
    ///
    /// A compressed file is decoded from its beginning to its end by one thread. With
    /// [`start_files`](crate::StreamingContext::start_files) the other workers go on with other files, or count
    /// what it decodes when there are none; as a source it is decoded on the reading thread, up to 256 KiB at a
    /// time. Each file that is being decoded takes 768 KiB at most and, for zstd, the window its frames ask for;
    /// one above 128 MiB is refused, as the reference decoder does by default. With
    /// [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) the windows of all decoders together are an
    /// eighth of it at most, each a power of two from 8 to 128 MiB; a frame that asks for more is an error that
    /// says so. Frames that need a dictionary are refused as well.
    ///
    /// [`Follow`](crate::sources::Follow) and `text_file_stream` give bytes as they are.
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
    pub(crate) fn all_decoders(&self) -> Decoders {
        self.entries.iter().map(Entry::decoders).sum()
    }

    /// Whether there is one that can only be read from its beginning to its end.
    pub(crate) fn has_whole(&self) -> bool {
        let is_whole = |entry: &Entry| entry.stream.is_some() || entry.decoders().count > 0;
        self.entries.iter().any(is_whole)
    }

    /// What was named, for another reader, and its name.
    pub(crate) fn into_parts(self) -> (Vec<Entry>, String, usize) {
        (self.entries, self.name, self.piece_bytes)
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
            match entry.open(self.port.window_log_max()) {
                Ok(Opened::Regular(file, left)) => {
                    self.progress.begin(entry.bytes, left.unwrap_or(0));
                    self.open = Some(Open::Regular { file, left });
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
                    self.open = Some(Open::Stream(Box::new(input)));
                    return true;
                }
                Err(cause) => {
                    self.progress.begin(entry.bytes, 0);
                    self.trouble.add(&entry.path, &cause);
                    self.port.tell(entry.unreadable(&self.name, &cause));
                }
            }
        }
        false
    }

    /// The file at hand broke off.
    fn failed(&mut self, cause: &io::Error) -> Fill {
        let entry = &self.entries[self.next - 1];
        self.trouble.add(&entry.path, cause);
        self.port.tell(entry.unreadable(&self.name, cause));
        self.open = None;
        // What came before it was read; the line it stopped in is not one.
        Fill::Break { clean: false }
    }

    fn ended(&mut self) -> Fill {
        self.open = None;
        Fill::Break { clean: true }
    }
}

/// Reads up to `left` bytes, and counts them off.
fn read(mut file: &File, left: &mut Option<u64>, buf: &mut [u8]) -> io::Result<usize> {
    let room = left.map_or(buf.len(), |left| {
        buf.len().min(usize::try_from(left).unwrap_or(usize::MAX))
    });
    loop {
        match file.read(&mut buf[..room]) {
            Ok(count) => {
                *left = left.map(|left| left - count as u64);
                return Ok(count);
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}

/// The cause of an [`Input`]'s error, which names the file once more.
pub(crate) fn input_cause(error: &Error) -> io::Error {
    let message = error.to_string();
    let cause = message
        .rsplit_once(": ")
        .map_or(&*message, |(_, cause)| cause);
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
            Open::Regular { file, left } => match read(file, left, buf) {
                Ok(0) => {
                    let missing = left.take().unwrap_or(0);
                    if missing > 0 {
                        let entry = &self.entries[self.next - 1];
                        self.port.tell(entry.shorter(&self.name, file));
                    }
                    self.progress.correct(missing, 0);
                    self.ended()
                }
                Ok(count) => {
                    self.progress.add_read(count);
                    if left.is_none() {
                        self.progress.correct(0, count as u64);
                    }
                    Fill::Bytes(count)
                }
                Err(cause) => self.failed(&cause),
            },
            Open::Packed(packed) => match packed.fill(buf, &self.progress) {
                Ok(Step::Bytes(count)) => Fill::Bytes(count),
                Ok(Step::Again) => Fill::Pending(Some(now)),
                Ok(Step::End) => self.ended(),
                Err(cause) => self.failed(&cause),
            },
            Open::Stream(input) => {
                let filled = input.fill(buf, now);
                self.progress.add_stream(input.take_taken_bytes());
                match filled {
                    Fill::End => self.ended(),
                    Fill::Failed(error) => self.failed(&input_cause(&error)),
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

    fn name(&self) -> &str {
        &self.name
    }

    fn decoders(&self) -> Decoders {
        self.all_decoders().at_most(1)
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
