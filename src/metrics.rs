//! What is counted about the counting, and the byte ledger that proves it.
//!
//! Promise: every byte a source delivered is in exactly one column, checked at every epoch, in release
//! builds too. Refuses to know: who displays the numbers.

use crate::error::{Error, Result};

/// What the reading side did since it started. A snapshot goes to the publisher with each epoch mark,
/// so that reader and shards are compared over exactly the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Bytes that sources delivered.
    pub(crate) bytes_read: u64,
    /// Line ends added behind an unterminated last line of a connection.
    pub(crate) bytes_ended: u64,
    /// Delimiter bytes the feed itself consumed: the `\n` of a `\r\n` that two reads tore apart, and
    /// the delimiter behind an oversize token.
    pub(crate) bytes_skipped: u64,
    /// Bytes received that belong to records which are not complete yet.
    pub(crate) bytes_carried: u64,
    /// Tokens longer than the record limit, dropped.
    pub(crate) oversize_tokens: u64,
    /// Bytes of those tokens.
    pub(crate) oversize_bytes: u64,
    /// Partial last lines of connections that were reset, dropped.
    pub(crate) truncated_records: u64,
    /// Bytes of those lines.
    pub(crate) truncated_bytes: u64,
    /// Records whose end the feed consumed together with an oversize token.
    pub(crate) records_ended: u64,
}

/// What the shards counted during one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Bytes of all blocks, each block once however many pipelines looked at it.
    pub(crate) block_bytes: u64,
}

impl Intake {
    /// The difference to an earlier snapshot, `bytes_carried` aside, which stays what it is now.
    pub(crate) fn since(&self, before: &Intake) -> Intake {
        Intake {
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_ended: self.bytes_ended - before.bytes_ended,
            bytes_skipped: self.bytes_skipped - before.bytes_skipped,
            bytes_carried: self.bytes_carried,
            oversize_tokens: self.oversize_tokens - before.oversize_tokens,
            oversize_bytes: self.oversize_bytes - before.oversize_bytes,
            truncated_records: self.truncated_records - before.truncated_records,
            truncated_bytes: self.truncated_bytes - before.truncated_bytes,
            records_ended: self.records_ended - before.records_ended,
        }
    }

    /// Sums two readers.
    pub(crate) fn plus(&self, other: &Intake) -> Intake {
        Intake {
            bytes_read: self.bytes_read + other.bytes_read,
            bytes_ended: self.bytes_ended + other.bytes_ended,
            bytes_skipped: self.bytes_skipped + other.bytes_skipped,
            bytes_carried: self.bytes_carried + other.bytes_carried,
            oversize_tokens: self.oversize_tokens + other.oversize_tokens,
            oversize_bytes: self.oversize_bytes + other.oversize_bytes,
            truncated_records: self.truncated_records + other.truncated_records,
            truncated_bytes: self.truncated_bytes + other.truncated_bytes,
            records_ended: self.records_ended + other.records_ended,
        }
    }
}

/// Checks that the bytes which came in between two marks are the bytes which were counted.
///
/// # Errors
///
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) with both sides of the ledger: a bug of this
/// crate, after which no further result may be put out.
pub(crate) fn close_ledger(before: &Intake, now: &Intake, counted: &Counted) -> Result<()> {
    let delta = now.since(before);
    let came_in = before.bytes_carried + delta.bytes_read + delta.bytes_ended;
    let accounted = counted.block_bytes
        + delta.bytes_skipped
        + delta.oversize_bytes
        + delta.truncated_bytes
        + now.bytes_carried;
    if came_in == accounted {
        return Ok(());
    }
    Err(Error::internal(format!(
        "byte ledger does not close: {came_in} bytes came in (carried {}, read {}, line ends added {}), \
         {accounted} are accounted for (counted {}, skipped {}, oversize {}, truncated {}, carried {})",
        before.bytes_carried,
        delta.bytes_read,
        delta.bytes_ended,
        counted.block_bytes,
        delta.bytes_skipped,
        delta.oversize_bytes,
        delta.truncated_bytes,
        now.bytes_carried
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_byte_is_an_error() {
        let before = Intake {
            bytes_read: 100,
            bytes_carried: 7,
            ..Intake::default()
        };
        let now = Intake {
            bytes_read: 150,
            bytes_ended: 1,
            bytes_carried: 3,
            ..before
        };
        let counted = Counted {
            block_bytes: 7 + 50 + 1 - 3,
        };
        assert!(close_ledger(&before, &now, &counted).is_ok());
        let planted = Counted {
            block_bytes: counted.block_bytes - 1,
        };
        let error = close_ledger(&before, &now, &planted).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
        assert!(error.to_string().contains("58 bytes came in"), "{error}");
    }
}
