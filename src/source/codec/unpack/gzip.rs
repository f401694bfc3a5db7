//! Gzip (RFC 1952): members one after another, and zeros behind the last one.
//!
//! Promise: the checksum and the length of every member are checked, and that of its header if there is
//! one. Must not know: where bytes come from, what is in them.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{Codec, Progress, corrupt};

/// Bytes of a header that are always there.
const FIXED_BYTES: u8 = 10;

/// Bytes behind the compressed ones: checksum and length.
const TRAILER_BYTES: usize = 8;

/// Bits of a header's flags.
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// A decoder of gzip.
pub(super) struct Gzip {
    part: Part,
    inflate: Decompress,
    /// Of the member's content so far.
    content: Crc,
    /// Of the header so far.
    header: Crc,
    flags: u8,
    /// The last call filled all the room it had, so that there may be more.
    is_pending: bool,
    /// A member was complete: zeros may follow, and the end.
    is_complete: bool,
}

/// Where in a member the next byte is.
#[derive(Clone, Copy)]
enum Part {
    /// So many bytes into what every header has.
    Fixed(u8),
    /// The length of the extra field: its first byte comes next, or its second one.
    ExtraLow,
    ExtraHigh(u8),
    Extra(u16),
    /// Up to a zero.
    Name,
    Comment,
    /// The checksum of the header.
    ChecksumLow,
    ChecksumHigh(u8),
    Body,
    Trailer {
        bytes: [u8; TRAILER_BYTES],
        count: usize,
    },
    /// Zeros behind the last member, to the end.
    Padding,
}

impl Default for Gzip {
    fn default() -> Self {
        Gzip {
            part: Part::Fixed(0),
            inflate: Decompress::new(false),
            content: Crc::new(),
            header: Crc::new(),
            flags: 0,
            is_pending: false,
            is_complete: false,
        }
    }
}

impl Codec for Gzip {
    fn name(&self) -> &'static str {
        "gzip"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        if let Part::Body = self.part {
            return self.body(input, out, at);
        }
        let mut progress = Progress::default();
        for &byte in input {
            match self.byte(byte) {
                Ok(is_end) => {
                    progress.consumed += 1;
                    progress.is_end = is_end;
                }
                Err(what) => {
                    progress.error = Some(corrupt(what, at + progress.consumed as u64));
                    break;
                }
            }
            if progress.is_end || matches!(self.part, Part::Body) {
                break;
            }
        }
        progress
    }

    fn may_end(&self) -> bool {
        self.is_complete && matches!(self.part, Part::Fixed(0) | Part::Padding)
    }
}

impl Gzip {
    fn body(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress::default();
        if input.is_empty() && !self.is_pending {
            return progress;
        }
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let outcome = self.inflate.decompress(input, out, FlushDecompress::None);
        // What came before an error is counted as well.
        let taken = self.inflate.total_in() - before.0;
        let given = self.inflate.total_out() - before.1;
        progress.consumed = usize::try_from(taken).unwrap_or(usize::MAX);
        progress.produced = usize::try_from(given).unwrap_or(usize::MAX);
        self.content.update(&out[..progress.produced]);
        self.is_pending = progress.produced == out.len();
        match outcome {
            Ok(Status::StreamEnd) => {
                self.part = Part::Trailer {
                    bytes: [0; TRAILER_BYTES],
                    count: 0,
                };
            }
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => {
                progress.error = Some(corrupt("corrupt gzip data", at + taken));
            }
        }
        progress
    }

    /// Takes a byte that is not of the body. Gives whether it was the last one of a member.
    fn byte(&mut self, byte: u8) -> Result<bool, &'static str> {
        if !matches!(
            self.part,
            Part::Trailer { .. } | Part::Padding | Part::ChecksumLow | Part::ChecksumHigh(_)
        ) {
            self.header.update(&[byte]);
        }
        self.part = match self.part {
            Part::Fixed(0) if byte == 0 && self.is_complete => Part::Padding,
            Part::Padding if byte == 0 => Part::Padding,
            Part::Fixed(at) => self.fixed(at, byte)?,
            Part::Padding => return Err("bytes that are not gzip behind the gzip data"),
            Part::ExtraLow => Part::ExtraHigh(byte),
            Part::ExtraHigh(low) => match u16::from_le_bytes([low, byte]) {
                0 => self.behind(HAS_EXTRA),
                length => Part::Extra(length),
            },
            Part::Extra(1) => self.behind(HAS_EXTRA),
            Part::Extra(left) => Part::Extra(left - 1),
            Part::Name if byte == 0 => self.behind(HAS_NAME),
            Part::Comment if byte == 0 => self.behind(HAS_COMMENT),
            Part::Name | Part::Comment => self.part,
            Part::ChecksumLow => Part::ChecksumHigh(byte),
            Part::ChecksumHigh(low) => {
                let is = self.header.sum() & 0xffff;
                if is != u32::from(u16::from_le_bytes([low, byte])) {
                    return Err("wrong checksum of a gzip header");
                }
                Part::Body
            }
            Part::Trailer { mut bytes, count } => {
                bytes[count] = byte;
                if count + 1 == TRAILER_BYTES {
                    self.check(bytes)?;
                    self.next_member();
                    return Ok(true);
                }
                Part::Trailer {
                    bytes,
                    count: count + 1,
                }
            }
            Part::Body => Part::Body,
        };
        Ok(false)
    }

    /// A byte of what every header has.
    fn fixed(&mut self, at: u8, byte: u8) -> Result<Part, &'static str> {
        let is_magic = match at {
            0 => byte == 0x1f,
            1 => byte == 0x8b,
            _ => true,
        };
        if !is_magic {
            return Err("bytes that are not gzip behind the gzip data");
        }
        match at {
            2 if byte != 8 => return Err("unknown gzip method"),
            3 if byte & RESERVED != 0 => return Err("unknown gzip flags"),
            3 => self.flags = byte,
            _ => {}
        }
        Ok(if at + 1 == FIXED_BYTES {
            self.behind(0)
        } else {
            Part::Fixed(at + 1)
        })
    }

    /// What comes behind the part of a header that has the flag `done`: in the order of the flags, but
    /// for the checksum, which is last.
    fn behind(&self, done: u8) -> Part {
        let left = |flag| done < flag && self.flags & flag != 0;
        if left(HAS_EXTRA) {
            Part::ExtraLow
        } else if left(HAS_NAME) {
            Part::Name
        } else if left(HAS_COMMENT) {
            Part::Comment
        } else if self.flags & HAS_CHECKSUM != 0 {
            Part::ChecksumLow
        } else {
            Part::Body
        }
    }

    fn check(&self, trailer: [u8; TRAILER_BYTES]) -> Result<(), &'static str> {
        let [a, b, c, d, e, f, g, h] = trailer;
        if u32::from_le_bytes([a, b, c, d]) != self.content.sum() {
            return Err("wrong checksum of gzip data");
        }
        // Both are modulo 2^32.
        if u32::from_le_bytes([e, f, g, h]) != self.content.amount() {
            return Err("wrong length of gzip data");
        }
        Ok(())
    }

    fn next_member(&mut self) {
        self.inflate.reset(false);
        self.content.reset();
        self.header.reset();
        self.is_pending = false;
        self.is_complete = true;
        self.part = Part::Fixed(0);
    }
}
