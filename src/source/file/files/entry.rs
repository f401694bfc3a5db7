//! A file that was named: what it is, and how it is read.
//!
//! Promise: a pipe is opened once; what a file is was found in its bytes, when its turn came. Must not know: the
//! files beside it, who reads it, records.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, describe};
use crate::memory::DecoderCounts;
use crate::notice::NoticeKind;
use crate::source::codec::decode::{Decode, First, Kind};
use crate::source::codec::encoding::{Decoded, utf8_mark_bytes};
use crate::source::codec::unpack;
use crate::source::file::files::Progress;
use crate::source::file::glob::has_wildcard;
use crate::source::file::stdin::Input;

/// How many times as long as a compressed file what is in it may well be: text is seldom compressed less.
const PACKED_GROWTH: u64 = 4;

/// A file that was named.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Its size when it was named, if it is a regular file.
    pub(crate) bytes: u64,
    /// Which file it was then: its device and inode.
    id: Option<(u64, u64)>,
    /// A pipe or a device, which can be opened once.
    pub(super) stream: Option<File>,
    /// It could be opened when it was named.
    pub(super) is_readable: bool,
    /// Its first bytes when it was named, if it is a regular file.
    first: First,
    /// What is inside is asked for, if it is compressed.
    pub(super) is_unpacked: bool,
}

/// A file that was opened.
pub(crate) enum Opened {
    Regular(Regular),
    /// A regular file that is compressed or in UTF-16.
    Packed(Packed),
    /// Anything else: bytes come when they come. Boxed, for it is the largest one and rare.
    Stream(Box<Input>),
}

/// A regular file whose bytes are text.
pub(crate) struct Regular {
    pub(crate) file: File,
    /// How many bytes of it there are: `None` where the system does not say.
    pub(crate) bytes: Option<u64>,
    /// Bytes of the mark in front of the text.
    pub(crate) mark_bytes: usize,
}

/// A regular file whose bytes have to be decoded from its beginning to its end, and how.
pub(crate) struct Packed {
    file: File,
    /// Bytes of it, and those that were not read, where the system says how many there are.
    bytes: u64,
    left: Option<u64>,
    decode: Decode,
}

impl Entry {
    /// What `path` names.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a directory.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        let unreadable = |cause: &io::Error| Error::input(&format!("{path:?}"), cause);
        let opened = open_named(&path).and_then(|file| Ok((metadata(&file)?, file)));
        let (metadata, file) = opened.map_err(|cause| unreadable(&cause))?;
        let is_file = metadata.is_file();
        Ok(Entry {
            first: if is_file {
                // What cannot be read now is told of when it is its turn.
                First::of(&file).unwrap_or_default()
            } else {
                First::default()
            },
            path,
            bytes: if is_file { metadata.len() } else { 0 },
            id: Some((metadata.dev(), metadata.ino())),
            // A pipe must not be closed again: whoever writes would be told that nobody reads.
            stream: (!is_file).then_some(file),
            is_readable: true,
            is_unpacked: false,
        })
    }

    /// What cannot be opened: it is tried again when its turn comes.
    pub(super) fn unreadable_now(path: PathBuf) -> Self {
        Entry {
            path,
            bytes: 0,
            id: None,
            first: First::default(),
            stream: None,
            is_readable: false,
            is_unpacked: false,
        }
    }

    /// About how many bytes are in it, as far as that is known when it was named.
    pub(crate) fn content_bytes(&self) -> Option<u64> {
        match (&self.stream, self.kind()) {
            (Some(_), _) => None,
            (None, Kind::Packed(_)) => Some(self.bytes.saturating_mul(PACKED_GROWTH)),
            (None, Kind::Plain | Kind::Utf16) => Some(self.bytes),
        }
    }

    fn kind(&self) -> Kind {
        self.first.kind(self.is_unpacked)
    }

    /// What it takes to read it, as far as that is known when it was named.
    pub(super) fn decoders(&self) -> DecoderCounts {
        match &self.stream {
            Some(_) if self.is_unpacked => unpack::Kind::Open.decoders(),
            Some(_) => DecoderCounts::default(),
            None => self.kind().decoders(),
        }
    }

    /// Opens it, which can be done once. The window of a decoder is at most 2 to the power of
    /// `window_log_max`.
    pub(crate) fn open(&mut self, window_log_max: u32) -> io::Result<Opened> {
        let file = match self.stream.take() {
            Some(stream) => stream,
            None => open_named(&self.path)?,
        };
        let metadata = metadata(&file)?;
        Ok(if metadata.is_file() {
            // Files that are made up when they are read say that they are empty.
            // Of one that has become shorter meanwhile more is expected than there is: that will be noticed.
            // Another file of that name, as after a rotation, is as long as it is.
            let is_same = self.id == Some((metadata.dev(), metadata.ino()));
            let named_bytes = if is_same { self.bytes } else { 0 };
            let bytes = Some(metadata.len().max(named_bytes)).filter(|&bytes| bytes > 0);
            let first = First::of(&file)?;
            match first.kind(self.is_unpacked) {
                Kind::Plain => Opened::Regular(Regular {
                    file,
                    bytes,
                    mark_bytes: utf8_mark_bytes(first.bytes()),
                }),
                Kind::Utf16 => Opened::Packed(Packed {
                    file,
                    bytes: bytes.unwrap_or(0),
                    left: bytes,
                    decode: Decode::new(None),
                }),
                #[cfg(feature = "compress")]
                Kind::Packed(_) => {
                    let mut decode = Decode::new(Some(unpack::of_stream()));
                    decode.limit_window(window_log_max);
                    Opened::Packed(Packed {
                        file,
                        bytes: bytes.unwrap_or(0),
                        left: bytes,
                        decode,
                    })
                }
                #[cfg(not(feature = "compress"))]
                Kind::Packed(_) => {
                    unreachable!("nothing is compressed where nothing is decompressed")
                }
            }
        } else {
            let mut input = Input::of(format!("{:?}", self.path), file);
            #[cfg(feature = "compress")]
            if self.is_unpacked {
                input = input.decompress();
            }
            input.limit_window(window_log_max);
            Opened::Stream(Box::new(input))
        })
    }

    /// What to tell when it cannot be read.
    pub(crate) fn unreadable(&self, cause: &io::Error) -> NoticeKind {
        NoticeKind::Unreadable {
            path: self.path.clone(),
            reason: describe(cause),
        }
    }

    /// What to tell when its end came sooner than it should have.
    pub(crate) fn shorter(&self, file: &File) -> NoticeKind {
        NoticeKind::Shorter {
            path: self.path.clone(),
            bytes: file.metadata().map_or(0, |metadata| metadata.len()),
        }
    }
}

impl Packed {
    /// Bytes of the file when nothing was read, where the system says so.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.left
    }

    /// Puts what is inside at the front of `out`; the file's bytes are what `progress` counts.
    ///
    /// # Errors
    ///
    /// What the system says of a read; what the decoder says of the bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8], progress: &Progress) -> io::Result<Decoded> {
        let Packed {
            file,
            bytes,
            left,
            decode,
        } = self;
        let outcome = decode.fill(out, |space| {
            let count = read(file, left, space)?;
            progress.add_read(count);
            if left.is_none() {
                progress.correct(0, count as u64);
            }
            Ok(count)
        });
        if matches!(outcome, Ok(Decoded::End) | Err(_)) {
            // It is shorter than it was, or what is left of it means nothing.
            let missing = left.replace(0).unwrap_or(0);
            progress.correct(missing, 0);
            if missing > 0 && outcome.is_ok() && has_shrunk(file, *bytes) {
                return Err(became_shorter());
            }
        }
        outcome
    }
}

/// Whether a file whose end has come has fewer than `bytes` bytes. One that is made when it is read, as in `/sys`, says
/// that it has more than come out of it, and has lost none.
#[cold]
pub(crate) fn has_shrunk(file: &File, bytes: u64) -> bool {
    file.metadata()
        .map_or(true, |metadata| metadata.len() < bytes)
}

/// The error of a file whose end came sooner than it should have.
#[cold]
pub(crate) fn became_shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it became shorter while it was read; the line that was cut is not counted",
    )
}

/// What an open file is: anything but a directory.
fn metadata(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(metadata)
}

/// Opens a file, or what was to be a pattern and fits none.
fn open_named(path: &Path) -> io::Result<File> {
    open(path).map_err(|cause| {
        if cause.kind() == io::ErrorKind::NotFound && has_wildcard(path) {
            return io::Error::new(cause.kind(), "no file has such a name");
        }
        cause
    })
}

/// Opens a file without waiting: a named pipe without a writer would make one wait for it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Reads up to `left` bytes, and counts them off.
pub(super) fn read(mut file: &File, left: &mut Option<u64>, buf: &mut [u8]) -> io::Result<usize> {
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
