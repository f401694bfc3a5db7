//! Members one after another, each decoded by a library: gzip, bzip2 and xz.
//!
//! Promise: an error names its byte; the input may end only behind a complete member and its
//! padding. Must not know: `file`, records.

use std::io;

use super::{Advance, Codec, corrupt};

/// The longest beginning of a member that is checked here.
pub(super) const HEADER_BYTES_MAX: usize = 4;

/// The library that decodes one member, and what the format allows around it.
pub(super) trait Member: Send + Sized {
    /// The name of the format.
    const NAME: &'static str;

    /// Bytes at the beginning of a member that are checked by [`check`](Self::check).
    const HEADER_BYTES: usize;

    /// Whether zeros may follow a member.
    const HAS_PADDING: bool = false;

    /// What the library reports.
    type Error;

    /// Creates a decoder whose window is at most 2 to the power of `window_log_max`.
    fn new(window_log_max: u32) -> io::Result<Self>;

    /// Checks byte `index` of a header. Returns `Ok(false)` if no member begins like this.
    fn check(index: usize, byte: u8) -> Result<bool, &'static str>;

    /// Returns `true` if another member may follow that many zeros.
    fn may_follow(_padding_bytes: u64) -> bool {
        true
    }

    /// Returns `true` if the input may end after that many zeros.
    fn may_end(_padding_bytes: u64) -> bool {
        true
    }

    /// Bytes consumed and produced so far.
    fn totals(&self) -> (u64, u64);

    /// Decodes some of `input` into `out`. Returns `true` at the end of the member.
    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<bool, Self::Error>;

    /// Describes an error at byte `at`.
    fn describe(&mut self, error: Self::Error, at: u64) -> io::Error;
}

/// A decoder of members.
pub(super) struct Members<M> {
    /// `None` between two members.
    member: Option<M>,
    /// The first bytes of the next member.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// Zeros since the last member.
    padding_bytes: u64,
    /// The last call filled `out`, so there may be more output.
    is_pending: bool,
    /// At least one member was complete.
    is_complete: bool,
    window_log_max: u32,
}

impl<M: Member> Members<M> {
    /// Creates a decoder whose windows are at most 2 to the power of `window_log_max`.
    pub(super) fn new(window_log_max: u32) -> Self {
        Members {
            member: None,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            padding_bytes: 0,
            is_pending: false,
            is_complete: false,
            window_log_max,
        }
    }

    /// Skips padding, and creates a decoder where a member begins.
    fn begin(&mut self, input: &[u8], at: u64, advance: &mut Advance) -> io::Result<()> {
        for &byte in input {
            let is_between = self.header_bytes == 0;
            if M::HAS_PADDING && is_between && self.is_complete && byte == 0 {
                self.padding_bytes += 1;
                advance.consumed += 1;
                continue;
            }
            let at = at + advance.consumed as u64;
            let is_header = M::may_follow(self.padding_bytes)
                && M::check(self.header_bytes, byte).map_err(|what| corrupt(what, at))?;
            if !is_header {
                let name = M::NAME;
                let what = format!("bytes that are not {name} behind the {name} data");
                return Err(corrupt(&what, at));
            }
            self.header[self.header_bytes] = byte;
            self.header_bytes += 1;
            advance.consumed += 1;
            if self.header_bytes == M::HEADER_BYTES {
                let mut member = M::new(self.window_log_max)?;
                // The library needs these bytes too; they produce no output.
                if let Err(error) = member.decode(&self.header[..M::HEADER_BYTES], &mut []) {
                    return Err(member.describe(error, at));
                }
                self.member = Some(member);
                self.header_bytes = 0;
                self.padding_bytes = 0;
                break;
            }
        }
        Ok(())
    }
}

impl<M: Member> Codec for Members<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Advance {
        let mut advance = Advance::default();
        let Some(member) = &mut self.member else {
            advance.error = self.begin(input, at, &mut advance).err();
            return advance;
        };
        if input.is_empty() && !self.is_pending {
            return advance;
        }
        let before = member.totals();
        let outcome = member.decode(input, out);
        // Bytes consumed and produced before an error count as well.
        let after = member.totals();
        advance.consumed = usize::try_from(after.0 - before.0).unwrap_or(usize::MAX);
        advance.produced = usize::try_from(after.1 - before.1).unwrap_or(usize::MAX);
        self.is_pending = advance.produced == out.len();
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                self.member = None;
                self.is_pending = false;
                self.is_complete = true;
                advance.is_end = true;
            }
            Err(error) => {
                let at = at + advance.consumed as u64;
                advance.error = Some(member.describe(error, at));
            }
        }
        advance
    }

    fn may_end(&self) -> bool {
        self.member.is_none()
            && self.header_bytes == 0
            && self.is_complete
            && M::may_end(self.padding_bytes)
    }
}
