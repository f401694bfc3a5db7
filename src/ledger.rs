//! What is counted about the counting, and the byte ledger that proves it.
//!
//! Promise: every byte a source received is in exactly one column, from the socket on, checked at
//! every epoch, in release builds too; a number that overflows is an error like any other.
//! Must not know: source, engine, sink.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result, lock};

/// What the reading side did since it started. A snapshot goes to the publisher with each barrier,
/// so reader and shards are compared over exactly the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IntakeTotals {
    /// Bytes that sources received.
    pub(crate) bytes_read: u64,
    /// Line ends added behind an unterminated last line of a connection.
    pub(crate) bytes_ended: u64,
    /// Bytes in no block and no record: the `\n` of a `\r\n` split between two reads, the delimiter
    /// behind an oversize token, a byte order mark.
    pub(crate) bytes_skipped: u64,
    /// Bytes received that belong to records that are not complete yet.
    pub(crate) bytes_carried: u64,
    /// Tokens longer than the record limit, dropped.
    pub(crate) oversize_tokens: u64,
    /// Bytes of those tokens.
    pub(crate) oversize_bytes: u64,
    /// Partial last lines of connections that were reset, dropped.
    pub(crate) truncated_records: u64,
    /// Bytes of those lines.
    pub(crate) truncated_bytes: u64,
    /// Records whose end was consumed together with an oversize token.
    pub(crate) records_ended: u64,
    /// Records that a source lost before the engine saw them.
    pub(crate) lost_records: u64,
    /// Bytes of those records that the source received.
    pub(crate) lost_bytes: u64,
    /// Connections closed unread, because no more were allowed.
    pub(crate) refused_connections: u64,
}

impl IntakeTotals {
    /// Returns the difference to an earlier snapshot, except `bytes_carried`, which stays as it is
    /// now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal): a total went backwards.
    pub(crate) fn since(&self, before: &IntakeTotals) -> Result<IntakeTotals> {
        self.zip(before, u64::checked_sub).ok_or_else(|| {
            Error::internal(format!(
                "byte ledger runs backwards: {self:?} comes after {before:?}"
            ))
        })
    }

    /// Returns the sum of two readers.
    pub(crate) fn plus(&self, other: &IntakeTotals) -> IntakeTotals {
        let sum = self.zip(other, u64::checked_add).and_then(|sum| {
            Some(IntakeTotals {
                bytes_carried: self.bytes_carried.checked_add(other.bytes_carried)?,
                ..sum
            })
        });
        // No machine reads 2^64 bytes; a sum beyond it is memory gone wrong.
        sum.expect("totals of bytes fit into 64 bits")
    }

    /// Combines each total with that of `other`, except `bytes_carried`, which is no total.
    fn zip(&self, other: &IntakeTotals, f: fn(u64, u64) -> Option<u64>) -> Option<IntakeTotals> {
        Some(IntakeTotals {
            bytes_read: f(self.bytes_read, other.bytes_read)?,
            bytes_ended: f(self.bytes_ended, other.bytes_ended)?,
            bytes_skipped: f(self.bytes_skipped, other.bytes_skipped)?,
            bytes_carried: self.bytes_carried,
            oversize_tokens: f(self.oversize_tokens, other.oversize_tokens)?,
            oversize_bytes: f(self.oversize_bytes, other.oversize_bytes)?,
            truncated_records: f(self.truncated_records, other.truncated_records)?,
            truncated_bytes: f(self.truncated_bytes, other.truncated_bytes)?,
            records_ended: f(self.records_ended, other.records_ended)?,
            lost_records: f(self.lost_records, other.lost_records)?,
            lost_bytes: f(self.lost_bytes, other.lost_bytes)?,
            refused_connections: f(self.refused_connections, other.refused_connections)?,
        })
    }
}

/// What a source lost before it could fill it in, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Records.
    pub(crate) records: u64,
    /// Bytes of those records that the source received.
    pub(crate) bytes: u64,
    /// Connections closed unread, because no more were allowed.
    pub(crate) refused_connections: u64,
}

/// Release builds wrap, and two sums that wrapped could be equal by chance.
fn checked_sum(parts: &[u64]) -> Option<u64> {
    (parts.iter()).try_fold(0u64, |sum, &part| sum.checked_add(part))
}

/// A source's [`Losses`]: the source writes them, from any thread, and the engine reads them when
/// it cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<Mutex<Losses>>);

impl Account {
    /// Lets `f` change the losses.
    pub(crate) fn update(&self, f: impl FnOnce(&mut Losses)) {
        f(&mut lock(&self.0));
    }

    /// Returns the columns for all bytes of a source: what it lost, and what was done with the
    /// rest.
    pub(crate) fn then(&self, intake: IntakeTotals) -> IntakeTotals {
        let losses = *lock(&self.0);
        intake.plus(&IntakeTotals {
            bytes_read: losses.bytes,
            lost_records: losses.records,
            lost_bytes: losses.bytes,
            refused_connections: losses.refused_connections,
            ..IntakeTotals::default()
        })
    }
}

/// Checks that the bytes that came in between two barriers are the bytes that were counted.
/// `block_bytes` are those of all blocks that the shards counted.
///
/// # Errors
///
/// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) with both sides of the ledger: a bug
/// in this crate, after which no further result may be published.
pub(crate) fn close_ledger(
    before: &IntakeTotals,
    now: &IntakeTotals,
    block_bytes: u64,
) -> Result<()> {
    let delta = now.since(before)?;
    let came_in = checked_sum(&[before.bytes_carried, delta.bytes_read, delta.bytes_ended]);
    let accounted = checked_sum(&[
        block_bytes,
        delta.bytes_skipped,
        delta.oversize_bytes,
        delta.truncated_bytes,
        delta.lost_bytes,
        now.bytes_carried,
    ]);
    if came_in.is_some() && came_in == accounted {
        return Ok(());
    }
    let shown = |sum: Option<u64>| sum.map_or("more than 2^64".to_owned(), |sum| sum.to_string());
    Err(Error::internal(format!(
        "byte ledger does not close: {} bytes came in (carried {}, read {}, line ends added {}), \
         {} are accounted for (counted {block_bytes}, skipped {}, oversize {}, truncated {}, lost {}, \
         carried {})",
        shown(came_in),
        before.bytes_carried,
        delta.bytes_read,
        delta.bytes_ended,
        shown(accounted),
        delta.bytes_skipped,
        delta.oversize_bytes,
        delta.truncated_bytes,
        delta.lost_bytes,
        now.bytes_carried
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_byte_is_an_error() {
        let before = IntakeTotals {
            bytes_read: 100,
            bytes_carried: 7,
            ..IntakeTotals::default()
        };
        let now = IntakeTotals {
            bytes_read: 150,
            bytes_ended: 1,
            bytes_carried: 3,
            ..before
        };
        let counted = 7 + 50 + 1 - 3;
        assert!(close_ledger(&before, &now, counted).is_ok());
        let error = close_ledger(&before, &now, counted - 1).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Internal);
        assert!(error.to_string().contains("58 bytes came in"), "{error}");
    }

    #[test]
    fn a_ledger_that_overflows_does_not_close() {
        let before = IntakeTotals::default();
        let now = IntakeTotals {
            bytes_read: 4,
            bytes_skipped: u64::MAX - 9,
            bytes_carried: 7,
            ..before
        };
        // 2^64 - 10 + 7 + 7 is 4, where additions wrap.
        let counted = 7;
        let error = close_ledger(&before, &now, counted).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Internal);
        assert!(error.to_string().contains("more than 2^64"), "{error}");
        let came_in = IntakeTotals {
            bytes_read: u64::MAX,
            bytes_ended: 8,
            ..before
        };
        assert!(close_ledger(&before, &came_in, counted).is_err());
    }

    #[test]
    fn a_total_that_goes_backwards_is_an_error() {
        let before = IntakeTotals {
            bytes_read: 3,
            ..IntakeTotals::default()
        };
        let error = IntakeTotals::default().since(&before).unwrap_err();
        assert!(error.to_string().contains("runs backwards"), "{error}");
        let closed = close_ledger(&before, &IntakeTotals::default(), 0);
        assert!(closed.is_err());
    }

    #[test]
    fn what_a_source_lost_is_in_the_ledger() {
        let account = Account::default();
        account.update(|losses| {
            losses.records += 2;
            losses.bytes += 11;
        });
        let framed = IntakeTotals {
            bytes_read: 100,
            bytes_carried: 10,
            ..IntakeTotals::default()
        };
        let intake = account.then(framed);
        assert_eq!(intake.bytes_read, 111);
        assert_eq!((intake.lost_records, intake.lost_bytes), (2, 11));
        let counted = 90;
        assert!(close_ledger(&IntakeTotals::default(), &intake, counted).is_ok());
    }
}
