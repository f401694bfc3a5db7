//! Reads one open file that grows.
//!
//! Promise: bytes taken end with a record end, or continue until one; no byte is taken twice unless
//! the content was replaced, and no byte of replaced content is taken as the old one. Must not
//! know: names, other files, the clock.
//!
//! An incomplete record stays in the file and is read again when there is more: if it were taken
//! and its writer overwrote it (in a preallocated file) or cut it off, the file would count twice.
//! A record longer than the buffer is taken in parts once its end is in the file.
//!
//! The bytes taken are identified by the first and the last of them, which are compared again after
//! every read. So a file that was emptied and filled again, however fast, is recognized unless both
//! are equal.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::intake::cuts::{NextRecord, whole_records};
use crate::limits::FIRST_BYTES;
use crate::source::codec::encoding::utf8_mark_bytes;
use crate::source::file::{FileId, file_id};
use crate::split::LineEnds;

/// Bytes at the beginning of a file that identify it.
const HEAD_BYTES: usize = 1024;
/// Bytes before the offset that identify it.
const BEFORE_BYTES: usize = 256;
/// Bytes read at once while searching the end of a long record.
const SCAN_BYTES: usize = 64 * 1024;

/// A reader of one growing file.
pub(super) struct TailReader {
    pub(super) file: File,
    pub(super) id: FileId,
    /// The position of the next byte to take.
    pub(super) offset: u64,
    /// Its size and the time of its last change at the last check.
    seen: Option<(u64, i64, i64)>,
    /// It has changed since, even if size and time are the same.
    must_compare: bool,
    /// No record ends before this position, if it is behind the offset and the bytes before it are
    /// unchanged.
    scanned: u64,
    finder: NextRecord,
    before_scanned: Vec<u8>,
    /// The first and the last bytes taken.
    head: Vec<u8>,
    before: Vec<u8>,
    /// Where the record behind the last one taken begins, also if that was taken in part.
    next_record: u64,
    /// Nothing is taken behind this position, where a graceful stop ends.
    limit: u64,
    line_ends: LineEnds,
}

/// The outcome of [`TailReader::take`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(usize),
    /// There is no complete record.
    Nothing,
    /// The content was replaced.
    Replaced,
}

/// The outcome of [`TailReader::look`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Unchanged,
    Changed,
    /// The content was replaced.
    Replaced,
}

impl TailReader {
    /// Creates a reader at the beginning of a file.
    pub(super) fn new(file: File, id: FileId, line_ends: LineEnds) -> Self {
        TailReader {
            file,
            id,
            offset: 0,
            seen: None,
            must_compare: false,
            scanned: 0,
            finder: NextRecord::default(),
            before_scanned: Vec::new(),
            head: Vec::new(),
            before: Vec::new(),
            next_record: 0,
            limit: u64::MAX,
            line_ends,
        }
    }

    /// Skips all records that are complete in the first `bytes`.
    pub(super) fn skip_to_end(&mut self, bytes: u64) -> io::Result<()> {
        let mut end = self.file.metadata()?.len().min(bytes);
        let mut buf = vec![0; SCAN_BYTES];
        while end > 0 {
            let begin = end.saturating_sub(SCAN_BYTES as u64);
            let part = &mut buf[..usize::try_from(end - begin).unwrap_or(SCAN_BYTES)];
            let count = read_at(&self.file, part, begin)?;
            let whole = whole_records(self.line_ends, &part[..count]);
            if whole > 0 {
                end = begin + whole as u64;
                break;
            }
            // The first byte again: it is behind the bytes before it, and decides about a `\r`.
            end = begin + u64::from(begin > 0);
        }
        self.head = self.bytes_at(0, end.min(HEAD_BYTES as u64))?;
        let before = end.min(BEFORE_BYTES as u64);
        self.before = self.bytes_at(end - before, before)?;
        self.offset = end;
        Ok(())
    }

    fn bytes_at(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let count = read_at(&self.file, &mut bytes, at)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Starts again at the beginning: the content was replaced.
    pub(super) fn restart(&mut self) {
        self.offset = 0;
        self.seen = None;
        self.scanned = 0;
        self.before_scanned.clear();
        self.head.clear();
        self.before.clear();
        self.next_record = 0;
    }

    /// Returns a reader that continues in a copy of this file. `None`: the file is not a copy.
    pub(super) fn in_copy(&self, file: File) -> io::Result<Option<TailReader>> {
        let metadata = file.metadata()?;
        if self.offset == 0 || !metadata.is_file() || metadata.len() < self.offset {
            return Ok(None);
        }
        let copy = TailReader {
            id: file_id(&metadata),
            file,
            offset: self.offset,
            seen: None,
            must_compare: false,
            scanned: self.scanned,
            finder: self.finder,
            before_scanned: self.before_scanned.clone(),
            head: self.head.clone(),
            before: self.before.clone(),
            next_record: self.next_record,
            limit: self.limit,
            line_ends: self.line_ends,
        };
        Ok(copy.is_same()?.then_some(copy))
    }

    /// Returns `true` if it has or had any bytes.
    pub(super) fn has_data(&self) -> bool {
        self.offset > 0 || self.seen.is_some_and(|(bytes, ..)| bytes > 0)
    }

    /// Returns the bytes that were not taken, as of the last check.
    pub(super) fn bytes_left(&self) -> u64 {
        let bytes = self.seen.map_or(0, |(bytes, ..)| bytes);
        bytes.saturating_sub(self.offset)
    }

    /// Returns the bytes that are not taken now, or as of the last check if the system does not
    /// report it.
    pub(super) fn bytes_unread(&self) -> u64 {
        let bytes = self.file.metadata().map(|metadata| metadata.len());
        bytes.map_or_else(
            |_| self.bytes_left(),
            |bytes| bytes.saturating_sub(self.offset),
        )
    }

    /// Limits what is taken from now on to `bytes_max` bytes of the content at the last check, and
    /// returns how many those are. A record that continues behind them is not taken.
    pub(super) fn end_after(&mut self, bytes_max: u64) -> u64 {
        let bytes = self.bytes_left().min(bytes_max);
        self.limit = self.offset + bytes;
        bytes
    }

    /// Returns the first bytes, from which a format is recognized.
    pub(super) fn first_bytes(&self) -> io::Result<Vec<u8>> {
        self.bytes_at(0, FIRST_BYTES as u64)
    }

    /// Has the next check compare the content, even if size and time are unchanged.
    pub(super) fn forget_look(&mut self) {
        self.must_compare = true;
    }

    /// Checks whether there may be something to take.
    pub(super) fn look(&mut self) -> io::Result<Looked> {
        let metadata = self.file.metadata()?;
        let seen = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if self.seen == Some(seen) && !self.must_compare {
            return Ok(Looked::Unchanged);
        }
        if metadata.len() < self.offset || !self.is_same()? {
            return Ok(Looked::Replaced);
        }
        self.seen = Some(seen);
        self.must_compare = false;
        Ok(Looked::Changed)
    }

    /// Returns `true` if the file still has the bytes taken.
    fn is_same(&self) -> io::Result<bool> {
        let mut now = [0; HEAD_BYTES];
        for (bytes, at) in [
            (&self.before, self.offset - self.before.len() as u64),
            (&self.head, 0),
        ] {
            let now = &mut now[..bytes.len()];
            if read_at(&self.file, now, at)? < bytes.len() || now != &bytes[..] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns `true` if another file begins with the first bytes taken from this one.
    pub(super) fn begins_like(&self, other: &File) -> bool {
        let mut now = [0; HEAD_BYTES];
        let now = &mut now[..self.head.len()];
        !self.head.is_empty()
            && read_at(other, now, 0).is_ok_and(|count| count == self.head.len())
            && now == &self.head[..]
    }

    /// Takes as many complete records as fit. `is_last`: no more writes are expected, so an
    /// incomplete last record is complete as well.
    pub(super) fn take(&mut self, buf: &mut [u8], is_last: bool) -> io::Result<Taken> {
        if self.offset == 0 {
            let first = self.bytes_at(0, 3)?;
            self.advance(&first[..utf8_mark_bytes(&first)]);
        }
        let room = self.limit.saturating_sub(self.offset);
        let room = usize::try_from(room).map_or(buf.len(), |room| room.min(buf.len()));
        let buf = &mut buf[..room];
        let count = read_at(&self.file, buf, self.offset)?;
        if count == 0 {
            // If a record was taken in part, its end is gone.
            let is_gone = self.is_mid() && !is_last;
            return Ok(if is_gone {
                Taken::Replaced
            } else {
                Taken::Nothing
            });
        }
        // The last record continues behind the limit: only a part of it would be taken.
        let is_cut =
            self.offset + count as u64 == self.limit && self.byte_at(self.limit)?.is_some();
        let give = match whole_records(self.line_ends, &buf[..count]) {
            _ if is_last && !is_cut => count,
            0 if is_cut => return Ok(Taken::Nothing),
            0 if self.is_mid() || count == buf.len() && self.find_next()? => {
                let left = self.next_record - self.offset;
                usize::try_from(left).map_or(count, |left| left.min(count))
            }
            0 => return Ok(Taken::Nothing),
            whole => {
                self.next_record = self.offset + whole as u64;
                whole
            }
        };
        if !self.is_same()? {
            return Ok(Taken::Replaced);
        }
        self.advance(&buf[..give]);
        Ok(Taken::Bytes(give))
    }

    /// Returns `true` if a record was taken in part, and its end is in the file.
    pub(super) fn is_mid(&self) -> bool {
        self.offset < self.next_record
    }

    /// Finds where the record at the offset ends. Returns `false` if its end is not in the file.
    fn find_next(&mut self) -> io::Result<bool> {
        if self.scanned <= self.offset || !self.is_scanned()? {
            self.scanned = self.offset;
            self.finder = NextRecord::default();
        }
        let (mut at, mut finder) = (self.scanned, self.finder);
        let mut buf = vec![0; SCAN_BYTES];
        loop {
            let count = read_at(&self.file, &mut buf, at)?;
            if let Some(found) = finder.find(self.line_ends, &buf[..count]) {
                self.next_record = at + found as u64;
                return Ok(true);
            }
            at += count as u64;
            if count < buf.len() {
                let len = (at - self.offset).min(BEFORE_BYTES as u64);
                self.before_scanned = self.bytes_at(at - len, len)?;
                (self.scanned, self.finder) = (at, finder);
                return Ok(false);
            }
        }
    }

    /// Returns `true` if the scanned bytes are unchanged. The bytes of an incomplete record were
    /// not taken, so nothing else would notice that they changed.
    fn is_scanned(&self) -> io::Result<bool> {
        let len = self.before_scanned.len() as u64;
        let now = self.bytes_at(self.scanned.saturating_sub(len), len)?;
        Ok(now == self.before_scanned)
    }

    fn byte_at(&self, at: u64) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((read_at(&self.file, &mut byte, at)? == 1).then_some(byte[0]))
    }

    fn advance(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        let wanted = HEAD_BYTES - self.head.len();
        self.head.extend(&bytes[..bytes.len().min(wanted)]);
        let last = &bytes[bytes.len().saturating_sub(BEFORE_BYTES)..];
        let kept = self.before.len().min(BEFORE_BYTES - last.len());
        self.before.drain(..self.before.len() - kept);
        self.before.extend(last);
    }
}

/// Reads at a position until the buffer is full or the file ends. Retries interrupted reads.
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buf.len() {
        match file.read_at(&mut buf[count..], at + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(count)
}
