//! A file by its name: what it is, and how it is read.
//!
//! Promise: a pipe is opened once; how a file is decoded depends on its first bytes when it is
//! opened. Must not know: `follow`, `directory`, records.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, describe};
use crate::memory::DecoderCounts;
use crate::notice::NoticeKind;
use crate::source::codec::decoder::{Decoder, Decoding, FirstBytes};
use crate::source::codec::decompress::Compression;
use crate::source::codec::encoding::{Decoded, utf8_mark_bytes};
use crate::source::file::files::Progress;
use crate::source::file::glob::has_wildcard;
use crate::source::file::stdin::Stdin;
use crate::source::file::{FileId, file_id};

/// How many times as long as a compressed file its content may well be: text seldom compresses
/// less.
const COMPRESSION_FACTOR: u64 = 4;

/// A file by its name.
pub(crate) struct NamedFile {
    pub(crate) path: PathBuf,
    /// Its size when it was named, if it is a regular file.
    pub(crate) bytes: u64,
    /// Its identity when it was named.
    id: Option<FileId>,
    /// A pipe or a device, which can be opened once.
    pub(super) stream: Option<File>,
    /// It could be opened when it was named.
    pub(super) is_readable: bool,
    /// Its first bytes when it was named, if it is a regular file.
    first: FirstBytes,
    /// Decompression was requested.
    pub(super) is_decompressed: bool,
}

/// A file that was opened.
pub(crate) enum Opened {
    Regular(Regular),
    /// A regular file that is compressed or in UTF-16.
    Decoded(DecodedFile),
    /// Anything else: bytes come when they come. Boxed: it is the largest one by far, and rare.
    Stream(Box<Stdin>),
}

/// A regular file whose bytes are text.
pub(crate) struct Regular {
    pub(crate) file: File,
    /// Its size: `None` where the system does not report it.
    pub(crate) bytes: Option<u64>,
    /// Bytes of the mark in front of the text.
    pub(crate) mark_bytes: usize,
}

/// A regular file that is read and decoded from its beginning to its end.
pub(crate) struct DecodedFile {
    pub(super) file: File,
    /// Its size, and the bytes that were not read, where the system reports the size.
    bytes: u64,
    left: Option<u64>,
    decoder: Decoder,
    /// Its bytes are text as they are.
    pub(super) is_plain: bool,
}

impl NamedFile {
    /// Looks at the file that `path` names.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a directory.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        let unreadable = |cause: &io::Error| Error::input(&format!("{path:?}"), cause);
        let opened = open_named(&path).and_then(|file| Ok((metadata(&file)?, file)));
        let (metadata, file) = opened.map_err(|cause| unreadable(&cause))?;
        let is_file = metadata.is_file();
        let mut named = NamedFile::unreadable(path);
        named.id = Some(file_id(&metadata));
        named.is_readable = true;
        if is_file {
            named.bytes = metadata.len();
            // A read error is reported when its turn comes.
            named.first = FirstBytes::of(&file).unwrap_or_default();
        } else {
            // A pipe must not be closed again: its writer would see that nobody reads.
            named.stream = Some(file);
        }
        Ok(named)
    }

    /// A file that cannot be opened now; it is tried again when its turn comes.
    pub(super) fn unreadable(path: PathBuf) -> Self {
        NamedFile {
            path,
            bytes: 0,
            id: None,
            first: FirstBytes::default(),
            stream: None,
            is_readable: false,
            is_decompressed: false,
        }
    }

    /// Returns the approximate length of its content, as far as that was known when it was named.
    pub(crate) fn content_bytes(&self) -> Option<u64> {
        match (&self.stream, self.decoding()) {
            (Some(_), _) => None,
            (None, Decoding::Compressed(_)) => Some(self.bytes.saturating_mul(COMPRESSION_FACTOR)),
            (None, Decoding::None | Decoding::Utf16) => Some(self.bytes),
        }
    }

    fn decoding(&self) -> Decoding {
        self.first.decoding(self.is_decompressed)
    }

    /// Returns the decoders that reading it takes, as far as that was known when it was named.
    pub(super) fn decoders(&self) -> DecoderCounts {
        match &self.stream {
            Some(_) if self.is_decompressed => Compression::Undecided.decoders(),
            Some(_) => DecoderCounts::default(),
            None => self.decoding().decoders(),
        }
    }

    /// Opens it, which can be done once. The window of a decoder is at most 2 to the power of
    /// `window_log_max`.
    ///
    /// # Errors
    ///
    /// It cannot be opened or read, or is a directory.
    pub(crate) fn open(&mut self, window_log_max: u32) -> io::Result<Opened> {
        let file = match self.stream.take() {
            Some(stream) => stream,
            None => open_named(&self.path)?,
        };
        let metadata = metadata(&file)?;
        Ok(if metadata.is_file() {
            // Files that the kernel makes up when they are read have size 0.
            // If it has become shorter, its earlier size is expected, so that this is noticed.
            // Another file of that name, as after a rotation, has its own size.
            let is_same = self.id == Some(file_id(&metadata));
            let named_bytes = if is_same { self.bytes } else { 0 };
            let bytes = Some(metadata.len().max(named_bytes)).filter(|&bytes| bytes > 0);
            let first = FirstBytes::of(&file)?;
            let mark_bytes = utf8_mark_bytes(first.bytes());
            let regular = Regular {
                file,
                bytes,
                mark_bytes,
            };
            match first.decoding(self.is_decompressed) {
                Decoding::None => Opened::Regular(regular),
                decoding => {
                    let mut decoder = Decoder::new(matches!(decoding, Decoding::Compressed(_)));
                    decoder.limit_window(window_log_max);
                    Opened::Decoded(DecodedFile {
                        decoder,
                        is_plain: false,
                        ..DecodedFile::plain(regular)
                    })
                }
            }
        } else {
            let name = format!("{:?}", self.path);
            let mut input = Stdin::of(name, Ok(file), self.is_decompressed);
            input.limit_window(window_log_max);
            Opened::Stream(Box::new(input))
        })
    }

    /// The notice that it cannot be read.
    pub(crate) fn unreadable_notice(&self, cause: &io::Error) -> NoticeKind {
        NoticeKind::Unreadable {
            path: self.path.clone(),
            reason: describe(cause),
            cause: cause.kind(),
        }
    }

    /// The notice that it ended too early.
    pub(crate) fn shorter_notice(&self, file: &File) -> NoticeKind {
        NoticeKind::Shorter {
            path: self.path.clone(),
            bytes: file.metadata().map_or(0, |metadata| metadata.len()),
        }
    }
}

impl DecodedFile {
    /// A file whose bytes are text as they are; a mark in front of them is skipped.
    pub(super) fn plain(regular: Regular) -> Self {
        DecodedFile {
            file: regular.file,
            bytes: regular.bytes.unwrap_or(0),
            left: regular.bytes,
            // The kernel returns some settings below `/proc/sys` to the first read only, so that
            // must not be a short one.
            decoder: match regular.mark_bytes {
                0 => Decoder::unmarked(),
                _ => Decoder::new(false),
            },
            is_plain: true,
        }
    }

    /// Returns its size, where the system reports it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Decodes text into `out`. `progress` counts the bytes of the file.
    ///
    /// # Errors
    ///
    /// Those of a read and of the decoder.
    pub(crate) fn fill(&mut self, out: &mut [u8], progress: &Progress) -> io::Result<Decoded> {
        let DecodedFile {
            file,
            bytes,
            left,
            decoder,
            ..
        } = self;
        let outcome = decoder.fill(out, |space| {
            let count = read(file, left, space)?;
            progress.add_read(count);
            if left.is_none() {
                progress.correct(0, count as u64);
            }
            Ok(count)
        });
        if matches!(outcome, Ok(Decoded::End) | Err(_)) {
            // It is shorter than it was, or the rest of it cannot be decoded.
            let missing = left.replace(0).unwrap_or(0);
            progress.correct(missing, 0);
            if missing > 0 && outcome.is_ok() && has_shrunk(file, *bytes) {
                return Err(became_shorter());
            }
        }
        outcome
    }
}

/// Returns `true` if a file that was read to its end has fewer than `bytes` bytes. A file that the
/// kernel makes up when it is read, as in `/sys`, has fewer bytes than its size and has lost none.
#[cold]
pub(crate) fn has_shrunk(file: &File, bytes: u64) -> bool {
    file.metadata()
        .map_or(true, |metadata| metadata.len() < bytes)
}

/// The error of a file that ended too early.
#[cold]
pub(crate) fn became_shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it became shorter while it was read; the line that was cut is not counted",
    )
}

/// Returns the metadata of an open file, which is not a directory.
fn metadata(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(metadata)
}

/// Opens a file. A missing file whose name has wildcards was meant as a pattern.
fn open_named(path: &Path) -> io::Result<File> {
    open(path).map_err(|cause| {
        if cause.kind() == io::ErrorKind::NotFound && has_wildcard(path) {
            return io::Error::new(cause.kind(), "no file matches");
        }
        cause
    })
}

/// Opens a file without blocking: a named pipe without a writer would block.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Reads up to `left` bytes, and subtracts them.
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
