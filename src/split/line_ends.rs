//! Where records end.
//!
//! Promise: the ends of a stream do not depend on how it is cut into blocks. Must not know:
//! sources, rings, tokens.

/// Where a record of a byte stream ends. The end belongs to no record.
///
/// | bytes | `Universal` | `Lf` | `Nul` |
/// |---|---|---|---|
/// | `a\nb\n` | `a`, `b` | `a`, `b` | `a\nb\n` |
/// | `a\r\nb\r\n` | `a`, `b` | `a`, `b` | `a\r\nb\r\n` |
/// | `10%\r20%\n` | `10%`, `20%` | `10%\r20%` | `10%\r20%\n` |
/// | `a\r\r\n` | `a`, the empty record | `a\r` | `a\r\r\n` |
/// | `a\0b\0` | `a\0b\0` | `a\0b\0` | `a`, `b` |
///
/// Bytes behind the last end are a record too if the stream ends cleanly, and stay what they are.
///
/// ```
/// use microtally::{Config, Rule, Tally};
/// use microtally::config::LineEnds;
/// use microtally::time::BatchTime;
///
/// let mut tally = Tally::with_config(Rule::Lines, &Config::default().line_ends(LineEnds::Lf))?;
/// tally.push(b"10%\r20%\r\ndone\n");
/// let batch = tally.cut(BatchTime::from_millis(1))?;
/// assert_eq!(batch.get(b"10%\r20%"), Some(1));
/// # Ok::<(), microtally::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineEnds {
    /// `\n`, `\r` and `\r\n` each end a record: Python's universal newlines, and what Spark's
    /// sockets and files do.
    #[default]
    Universal,
    /// `\n` and `\r\n` end a record, as in `sort`, `grep`, `awk` and log shippers; a `\r` elsewhere
    /// is an ordinary byte. With [`Rule::Split`](crate::Rule::Split)`(b'\r')` every `\r` separates,
    /// even one before a `\n`.
    Lf,
    /// NUL ends a record, as in `find -print0` and `sort -z`; `\n` and `\r` are ordinary bytes.
    Nul,
}

impl LineEnds {
    /// Returns `true` if a record that holds `byte` may end there.
    #[inline]
    pub(crate) fn is_end(self, byte: u8) -> bool {
        match self {
            LineEnds::Universal => matches!(byte, b'\n' | b'\r'),
            LineEnds::Lf => byte == b'\n',
            LineEnds::Nul => byte == 0,
        }
    }

    /// The position of the first byte that ends a record.
    #[inline]
    pub(crate) fn first_end(self, bytes: &[u8]) -> Option<usize> {
        match self {
            LineEnds::Universal => memchr::memchr2(b'\n', b'\r', bytes),
            LineEnds::Lf => memchr::memchr(b'\n', bytes),
            LineEnds::Nul => memchr::memchr(0, bytes),
        }
    }

    /// The position of the last byte that ends a record.
    #[inline]
    pub(crate) fn last_end(self, bytes: &[u8]) -> Option<usize> {
        match self {
            LineEnds::Universal => memchr::memrchr2(b'\n', b'\r', bytes),
            LineEnds::Lf => memchr::memrchr(b'\n', bytes),
            LineEnds::Nul => memchr::memrchr(0, bytes),
        }
    }

    /// The position of the first byte that keeps `bytes` from being one record when its end is
    /// appended.
    pub(crate) fn find_within(self, bytes: &[u8]) -> Option<usize> {
        let pairs = self == LineEnds::Lf && bytes.last() == Some(&b'\r');
        self.first_end(bytes).or(pairs.then(|| bytes.len() - 1))
    }

    /// The byte to append to a record that has no end.
    pub(crate) fn terminator(self) -> u8 {
        match self {
            LineEnds::Universal | LineEnds::Lf => b'\n',
            LineEnds::Nul => 0,
        }
    }

    /// Returns `true` if `byte` ends a record together with a `\n` behind it, if there is one.
    #[inline]
    pub(crate) fn may_pair(self, byte: u8) -> bool {
        self == LineEnds::Universal && byte == b'\r'
    }

    /// The two bytes that an index pass takes for line ends.
    pub(super) fn bytes(self) -> [u8; 2] {
        match self {
            LineEnds::Universal | LineEnds::Lf => [b'\n', b'\r'],
            LineEnds::Nul => [0, 0],
        }
    }

    /// How many records end in `block`, for callers that cannot split it.
    #[cold]
    pub(crate) fn count_in(self, block: &[u8]) -> u64 {
        let count = match self {
            LineEnds::Universal => {
                let is_end = |&at: &usize| block[at] == b'\r' || at == 0 || block[at - 1] != b'\r';
                let ends = memchr::memchr2_iter(b'\n', b'\r', block).filter(is_end);
                ends.count()
            }
            LineEnds::Lf | LineEnds::Nul => memchr::memchr_iter(self.terminator(), block).count(),
        };
        count as u64
    }
}
