//! One open file that grows.
//!
//! Promise: what is taken out of it ends with a record end, or goes on until one; no byte is taken twice
//! unless the file's content was replaced, and none that may not be the one which stood there at first.
//! Must not know: names, other files, the clock.
//!
//! Nothing is carried: a record that is not complete stays in the file, and is read again when there is
//! more. What was taken is known by its first bytes and its last ones. They are compared again behind
//! every read, so that a file which was emptied and filled anew, however fast, is not taken for the old
//! one unless both are the same in both.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::limits::FIRST_BYTES;
use crate::source::codec::encoding::utf8_mark_bytes;
use crate::split::LineEnds;

/// Bytes from the front of a file that it is known by.
const HEAD_BYTES: usize = 1024;
/// Bytes in front of what is taken next.
const BEFORE_BYTES: usize = 256;
/// Bytes looked at at once where the end of a long record is looked for.
const SCAN_BYTES: usize = 64 * 1024;

/// What tells a file from all others, as long as it is open.
pub(super) type Id = (u64, u64);

/// The [`Id`] of what was looked at.
pub(super) fn id_of(metadata: &Metadata) -> Id {
    (metadata.dev(), metadata.ino())
}

/// See the module.
pub(super) struct Reading {
    pub(super) file: File,
    pub(super) id: Id,
    /// Where the next byte to take is.
    pub(super) offset: u64,
    /// Its size and the time of its last change, when it was looked at last.
    seen: Option<(u64, i64, i64)>,
    /// It was changed since, even if size and time are the same.
    must_compare: bool,
    /// No record ends before that place, if it is behind the offset and the bytes in front of it are still these.
    scanned: u64,
    before_scanned: Vec<u8>,
    /// The first bytes of what was taken, and the last ones.
    head: Vec<u8>,
    before: Vec<u8>,
    /// A record was taken in part, and its end is known to be there.
    pub(super) is_mid: bool,
    /// Nothing is taken behind that place, which is where a graceful stop ends.
    limit: u64,
    line_ends: LineEnds,
    /// A record was taken in part and given up: what is left of it is not taken.
    is_broken_off: bool,
}

/// What was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(usize),
    /// There is no complete record.
    Nothing,
    /// The content is not what was taken from.
    Replaced,
}

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    AsBefore,
    /// It was written to.
    Changed,
    /// The content is not what was taken from.
    Replaced,
}

impl Reading {
    /// A file, from its beginning.
    pub(super) fn new(file: File, id: Id, line_ends: LineEnds) -> Self {
        Reading {
            file,
            id,
            offset: 0,
            seen: None,
            must_compare: false,
            scanned: 0,
            before_scanned: Vec::new(),
            head: Vec::new(),
            before: Vec::new(),
            is_mid: false,
            limit: u64::MAX,
            line_ends,
            is_broken_off: false,
        }
    }

    /// Leaves out all records that are complete in that many bytes.
    pub(super) fn skip_to_end(&mut self, bytes: u64) -> io::Result<()> {
        let mut end = self.file.metadata()?.len().min(bytes);
        if end > 0 && self.ends_in_return(self.byte_at(end - 1)?) {
            // What comes next may belong to it: that record is not complete.
            end -= 1;
        }
        let mut buf = vec![0; SCAN_BYTES];
        while end > 0 {
            let begin = end.saturating_sub(SCAN_BYTES as u64);
            let part = &mut buf[..usize::try_from(end - begin).unwrap_or(SCAN_BYTES)];
            let count = read_at(&self.file, part, begin)?;
            if let Some(found) = self.line_ends.rfind(&part[..count]) {
                end = begin + found as u64 + 1;
                break;
            }
            end = begin;
        }
        self.jump(end)
    }

    /// Leaves out everything in front of that place.
    fn jump(&mut self, to: u64) -> io::Result<()> {
        self.head = self.bytes_at(0, to.min(HEAD_BYTES as u64))?;
        let before = to.min(BEFORE_BYTES as u64);
        self.before = self.bytes_at(to - before, before)?;
        self.offset = to;
        Ok(())
    }

    fn bytes_at(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let count = read_at(&self.file, &mut bytes, at)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Begins again: the content is another one.
    pub(super) fn restart(&mut self) {
        self.offset = 0;
        self.seen = None;
        self.scanned = 0;
        self.before_scanned.clear();
        self.head.clear();
        self.before.clear();
        self.is_mid = false;
        self.is_broken_off = false;
    }

    /// Gives up the record that was taken in part.
    pub(super) fn break_off(&mut self) {
        self.is_mid = false;
        self.is_broken_off = true;
    }

    /// Leaves out the rest of the record that was given up. `None`: its end is not there yet.
    fn skip_rest(&mut self, is_last: bool) -> io::Result<Option<()>> {
        let end = if self.ends_behind(self.offset)? {
            let end = self.scanned + 1;
            let is_pair =
                self.ends_in_return(self.byte_at(end - 1)?) && self.byte_at(end)? == Some(b'\n');
            end + u64::from(is_pair)
        } else if is_last {
            self.file.metadata()?.len().max(self.offset)
        } else {
            return Ok(None);
        };
        self.jump(end)?;
        self.is_broken_off = false;
        Ok(Some(()))
    }

    /// The same record by record in a copy: what was taken is in it, and what was not can be taken from it.
    /// `None`: it is not a copy, as far as can be seen.
    pub(super) fn in_copy(&self, file: File) -> io::Result<Option<Reading>> {
        let metadata = file.metadata()?;
        if self.offset == 0 || !metadata.is_file() || metadata.len() < self.offset {
            return Ok(None);
        }
        let copy = Reading {
            id: id_of(&metadata),
            file,
            offset: self.offset,
            seen: None,
            must_compare: false,
            scanned: self.scanned,
            before_scanned: self.before_scanned.clone(),
            head: self.head.clone(),
            before: self.before.clone(),
            is_mid: self.is_mid,
            limit: self.limit,
            line_ends: self.line_ends,
            is_broken_off: self.is_broken_off,
        };
        Ok(copy.is_same()?.then_some(copy))
    }

    /// Whether it holds bytes that were not taken, or were.
    pub(super) fn has_data(&self) -> bool {
        self.offset > 0 || self.seen.is_some_and(|(bytes, ..)| bytes > 0)
    }

    /// Bytes that were not taken, when it was looked at last.
    pub(super) fn bytes_left(&self) -> u64 {
        let bytes = self.seen.map_or(0, |(bytes, ..)| bytes);
        bytes.saturating_sub(self.offset)
    }

    /// Bytes that were not taken, now; when it was looked at last if it cannot be looked at.
    pub(super) fn bytes_unread(&self) -> u64 {
        let bytes = self.file.metadata().map(|metadata| metadata.len());
        bytes.map_or_else(
            |_| self.bytes_left(),
            |bytes| bytes.saturating_sub(self.offset),
        )
    }

    /// Takes that many bytes more at most, of what was there at the last look; returns how many those are. A record
    /// that goes on behind them is not taken.
    pub(super) fn end_after(&mut self, bytes_max: u64) -> u64 {
        let bytes = self.bytes_left().min(bytes_max);
        self.limit = self.offset + bytes;
        bytes
    }

    /// The first bytes there are, by which a format is known.
    pub(super) fn first_bytes(&self) -> io::Result<Vec<u8>> {
        self.bytes_at(0, FIRST_BYTES as u64)
    }

    /// The next look compares the content, whatever size and time say.
    pub(super) fn forget_look(&mut self) {
        self.must_compare = true;
    }

    /// Looks whether there may be something to take.
    pub(super) fn look(&mut self) -> io::Result<Looked> {
        let metadata = self.file.metadata()?;
        let seen = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if self.seen == Some(seen) && !self.must_compare {
            return Ok(Looked::AsBefore);
        }
        if metadata.len() < self.offset || !self.is_same()? {
            return Ok(Looked::Replaced);
        }
        self.seen = Some(seen);
        self.must_compare = false;
        Ok(Looked::Changed)
    }

    /// Whether what was taken is still what the file holds there.
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

    /// Whether another file begins with what was taken from the beginning of this one.
    pub(super) fn begins_like(&self, other: &File) -> bool {
        let mut now = [0; HEAD_BYTES];
        let now = &mut now[..self.head.len()];
        !self.head.is_empty()
            && read_at(other, now, 0).is_ok_and(|count| count == self.head.len())
            && now == &self.head[..]
    }

    /// Takes as many complete records as fit. `is_last`: nothing will be written any more, so that a
    /// record without an end is complete as well.
    pub(super) fn take(&mut self, buf: &mut [u8], is_last: bool) -> io::Result<Taken> {
        if self.is_broken_off {
            if !self.is_same()? {
                return Ok(Taken::Replaced);
            }
            if self.skip_rest(is_last)?.is_none() {
                return Ok(Taken::Nothing);
            }
        }
        if self.offset == 0 {
            let first = self.bytes_at(0, 3)?;
            self.advance(&first[..utf8_mark_bytes(&first)]);
        }
        let room = self.limit.saturating_sub(self.offset);
        let room = usize::try_from(room).map_or(buf.len(), |room| room.min(buf.len()));
        let buf = &mut buf[..room];
        let mut count = read_at(&self.file, buf, self.offset)?;
        let mut is_torn = false;
        if count > 0 && self.ends_in_return(Some(buf[count - 1])) {
            match self.byte_at(self.offset + count as u64)? {
                Some(b'\n') => is_torn = true,
                Some(_) => {}
                None if is_last => {}
                // What comes next may belong to it.
                None => count -= 1,
            }
        }
        if count == 0 {
            // Where a record was taken in part, its end is gone.
            let is_gone = self.is_mid && !is_last;
            return Ok(if is_gone {
                Taken::Replaced
            } else {
                Taken::Nothing
            });
        }
        let end = self.line_ends.rfind(&buf[..count]).map(|at| at + 1);
        let (give, is_mid) = match end {
            _ if is_torn => (count, true),
            Some(end) => (end, false),
            // It goes on behind the limit: what would be taken of it is not what was written.
            None if self.offset + count as u64 == self.limit
                && self.byte_at(self.limit)?.is_some() =>
            {
                return Ok(Taken::Nothing);
            }
            None if is_last || self.is_mid => (count, true),
            None if count < buf.len() => return Ok(Taken::Nothing),
            None if self.ends_behind(self.offset + count as u64)? => (count, true),
            None => return Ok(Taken::Nothing),
        };
        if !self.is_same()? {
            return Ok(Taken::Replaced);
        }
        self.advance(&buf[..give]);
        self.is_mid = is_mid;
        Ok(Taken::Bytes(give))
    }

    /// Whether a record ends behind `from`.
    fn ends_behind(&mut self, from: u64) -> io::Result<bool> {
        if !self.is_scanned()? {
            self.scanned = 0;
        }
        let mut at = self.scanned.max(from);
        let mut buf = vec![0; SCAN_BYTES];
        loop {
            let count = read_at(&self.file, &mut buf, at)?;
            let found = self.line_ends.find(&buf[..count]);
            if let Some(found) = found {
                let behind = at + found as u64 + 1;
                let is_end =
                    !self.ends_in_return(Some(buf[found])) || self.byte_at(behind)?.is_some();
                self.has_scanned(behind - 1)?;
                return Ok(is_end);
            }
            at += count as u64;
            if count == 0 {
                self.has_scanned(at)?;
                return Ok(false);
            }
        }
    }

    fn has_scanned(&mut self, to: u64) -> io::Result<()> {
        let before = to.saturating_sub(self.offset).min(BEFORE_BYTES as u64);
        self.before_scanned = self.bytes_at(to - before, before)?;
        self.scanned = to;
        Ok(())
    }

    /// Whether what was looked through is still there. The bytes of a record that is not complete were not taken,
    /// and nothing else would notice that they are others now.
    fn is_scanned(&self) -> io::Result<bool> {
        let len = self.before_scanned.len() as u64;
        let now = self.bytes_at(self.scanned.saturating_sub(len), len)?;
        Ok(now == self.before_scanned)
    }

    /// Whether `byte` ends a record and a `\n` that comes next would belong to that end.
    fn ends_in_return(&self, byte: Option<u8>) -> bool {
        byte.is_some_and(|byte| self.line_ends.may_pair(byte))
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

/// Reads at a place as much as there is; an interrupted read is made again.
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
