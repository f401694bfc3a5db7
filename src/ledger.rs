//! What is counted about the counting, and the byte ledger that proves it.
//!
//! Promise: every byte a source received is in exactly one column, from the socket on, checked at every
//! epoch, in release builds too, where a number that overflows is an error like any other. Must not know:
//! who displays the numbers.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result, lock};

/// What the reading side did since it started. A snapshot goes to the publisher with each epoch mark,
/// so that reader and shards are compared over exactly the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Bytes that sources received.
    pub(crate) bytes_read: u64,
    /// Line ends added behind an unterminated last line of a connection.
    pub(crate) bytes_ended: u64,
    /// Line ends that sources added to what they filled in.
    pub(crate) bytes_added: u64,
    /// Bytes that are in no block and no record: the `\n` of a `\r\n` that two reads tore apart, the
    /// delimiter behind an oversize token, the mark at the beginning of a text.
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
    /// Records whose end was consumed together with an oversize token.
    pub(crate) records_ended: u64,
    /// Records that a source lost before the engine saw them.
    pub(crate) lost_records: u64,
    /// Bytes of those records, as far as the source received them.
    pub(crate) lost_bytes: u64,
    /// Connections that were closed unread, because no more were allowed.
    pub(crate) refused_connections: u64,
}

/// What the shards counted during one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Bytes of all blocks, each block once however many pipelines looked at it.
    pub(crate) block_bytes: u64,
}

impl Intake {
    /// The difference to an earlier snapshot, `bytes_carried` aside, which stays what it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal): a total went backwards.
    pub(crate) fn since(&self, before: &Intake) -> Result<Intake> {
        self.zip(before, u64::checked_sub).ok_or_else(|| {
            Error::internal(format!(
                "byte ledger runs backwards: {self:?} comes after {before:?}"
            ))
        })
    }

    /// Sums two readers.
    pub(crate) fn plus(&self, other: &Intake) -> Intake {
        let sum = self.zip(other, u64::checked_add).and_then(|sum| {
            Some(Intake {
                bytes_carried: self.bytes_carried.checked_add(other.bytes_carried)?,
                ..sum
            })
        });
        // No machine reads 2^64 bytes; a sum beyond it is memory gone wrong.
        sum.expect("totals of bytes fit into 64 bits")
    }

    /// Combines each total with `other`'s; `bytes_carried`, which is no total, stays.
    fn zip(&self, other: &Intake, f: fn(u64, u64) -> Option<u64>) -> Option<Intake> {
        Some(Intake {
            bytes_read: f(self.bytes_read, other.bytes_read)?,
            bytes_ended: f(self.bytes_ended, other.bytes_ended)?,
            bytes_added: f(self.bytes_added, other.bytes_added)?,
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

/// What a source did with what it received, besides filling it in: totals since its start.
///
/// A source that counts what it receives (`received`) is checked at each epoch:
///
/// ```text
///   received + added == filled in + skipped + oversize + truncated + held
/// ```
///
/// For any other source `received` follows from the rest. What is lost comes on top on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Bytes received, counted where they were received, except those of lost records.
    pub(crate) received_bytes: Option<u64>,
    /// Line ends the source added to what it fills in.
    pub(crate) added_bytes: u64,
    /// Line ends and delimiters that were consumed and not filled in.
    pub(crate) skipped_bytes: u64,
    /// Bytes received that are neither filled in nor dropped yet.
    pub(crate) held_bytes: u64,
    /// Records those bytes are of.
    pub(crate) held_records: u64,
    /// Lines, or tokens, longer than the source's limit of a record, dropped.
    pub(crate) oversize_tokens: u64,
    /// Bytes of those.
    pub(crate) oversize_bytes: u64,
    /// Records whose end was consumed together with one of those.
    pub(crate) records_ended: u64,
    /// Partial last lines of connections that were reset, dropped.
    pub(crate) truncated_records: u64,
    /// Bytes of those lines.
    pub(crate) truncated_bytes: u64,
    /// Records that were lost before they were filled in.
    pub(crate) lost_records: u64,
    /// Bytes of those records, as far as they were received.
    pub(crate) lost_bytes: u64,
    /// Connections that were closed unread, because no more were allowed.
    pub(crate) refused_connections: u64,
}

impl Passage {
    /// What must be held, by what else is written here, where `filled_bytes` were filled in.
    pub(crate) fn held_of(&self, filled_bytes: u64) -> u64 {
        let gone = [
            filled_bytes,
            self.skipped_bytes,
            self.oversize_bytes,
            self.truncated_bytes,
        ];
        let came_in = self.received_bytes.unwrap_or(0) + self.added_bytes;
        came_in.saturating_sub(gone.iter().sum())
    }

    /// The whole way of a source's bytes: what the source did, then what its framer did.
    fn then(&self, framer: Intake) -> Intake {
        let total = |parts: &[u64]| {
            let sum = (parts.iter()).try_fold(0u64, |sum, &part| sum.checked_add(part));
            // As in `Intake::plus`.
            sum.expect("totals of bytes fit into 64 bits")
        };
        let filled_in = [
            framer.bytes_read,
            self.skipped_bytes,
            self.held_bytes,
            self.oversize_bytes,
            self.truncated_bytes,
        ];
        let received = self
            .received_bytes
            .unwrap_or_else(|| total(&filled_in).saturating_sub(self.added_bytes));
        Intake {
            bytes_read: total(&[received, self.lost_bytes]),
            bytes_ended: framer.bytes_ended,
            bytes_added: total(&[framer.bytes_added, self.added_bytes]),
            bytes_skipped: total(&[framer.bytes_skipped, self.skipped_bytes]),
            bytes_carried: total(&[framer.bytes_carried, self.held_bytes]),
            oversize_tokens: total(&[framer.oversize_tokens, self.oversize_tokens]),
            oversize_bytes: total(&[framer.oversize_bytes, self.oversize_bytes]),
            truncated_records: total(&[framer.truncated_records, self.truncated_records]),
            truncated_bytes: total(&[framer.truncated_bytes, self.truncated_bytes]),
            records_ended: total(&[framer.records_ended, self.records_ended]),
            lost_records: total(&[framer.lost_records, self.lost_records]),
            lost_bytes: total(&[framer.lost_bytes, self.lost_bytes]),
            refused_connections: total(&[framer.refused_connections, self.refused_connections]),
        }
    }
}

/// A source's [`Passage`], which the source writes, from whatever thread, and the engine reads when it cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<Mutex<Passage>>);

impl Account {
    /// Changes what is written in it.
    pub(crate) fn update(&self, f: impl FnOnce(&mut Passage)) {
        // Whoever panicked has changed some totals and not others; the check finds that.
        f(&mut lock(&self.0));
    }

    /// The whole way of the bytes of a source whose framer has this intake.
    pub(crate) fn then(&self, framer: Intake) -> Intake {
        let mut intake = framer;
        self.update(|passage| intake = passage.then(framer));
        intake
    }

    /// The source is not called any more: what it holds was dropped with it.
    pub(crate) fn close(&self) {
        self.update(|passage| {
            passage.truncated_records += std::mem::take(&mut passage.held_records);
            passage.truncated_bytes += std::mem::take(&mut passage.held_bytes);
        });
    }

    /// The source is not to be trusted: what it received is derived from the rest.
    pub(crate) fn distrust(&self) {
        self.update(|passage| passage.received_bytes = None);
    }
}

/// Checks that the bytes which came in between two marks are the bytes which were counted.
///
/// # Errors
///
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) with both sides of the ledger: a bug of this
/// crate, after which no further result may be published.
pub(crate) fn close_ledger(before: &Intake, now: &Intake, counted: &Counted) -> Result<()> {
    let delta = now.since(before)?;
    // Checked, because a release build wraps: two sides that wrapped could be equal by chance.
    let sum = |parts: &[u64]| (parts.iter()).try_fold(0u64, |sum, &part| sum.checked_add(part));
    let came_in = sum(&[
        before.bytes_carried,
        delta.bytes_read,
        delta.bytes_ended,
        delta.bytes_added,
    ]);
    let accounted = sum(&[
        counted.block_bytes,
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
        "byte ledger does not close: {} bytes came in (carried {}, read {}, line ends added {} and {}), \
         {} are accounted for (counted {}, skipped {}, oversize {}, truncated {}, lost {}, carried {})",
        shown(came_in),
        before.bytes_carried,
        delta.bytes_read,
        delta.bytes_ended,
        delta.bytes_added,
        shown(accounted),
        counted.block_bytes,
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

    #[test]
    fn a_ledger_that_overflows_does_not_close() {
        let before = Intake::default();
        let now = Intake {
            bytes_read: 4,
            bytes_skipped: u64::MAX - 9,
            bytes_carried: 7,
            ..before
        };
        // 2^64 - 10 + 7 + 7 is 4, where additions wrap.
        let counted = Counted { block_bytes: 7 };
        let error = close_ledger(&before, &now, &counted).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
        assert!(error.to_string().contains("more than 2^64"), "{error}");
        let came_in = Intake {
            bytes_read: u64::MAX,
            bytes_ended: 8,
            ..before
        };
        assert!(close_ledger(&before, &came_in, &counted).is_err());
    }

    #[test]
    fn a_total_that_goes_backwards_is_an_error() {
        let before = Intake {
            bytes_read: 3,
            ..Intake::default()
        };
        let error = Intake::default().since(&before).unwrap_err();
        assert!(error.to_string().contains("runs backwards"), "{error}");
        let closed = close_ledger(&before, &Intake::default(), &Counted::default());
        assert!(closed.is_err());
    }

    #[test]
    fn what_a_source_lost_is_in_the_ledger_also_where_it_counts_nothing_else() {
        let account = Account::default();
        account.update(|passage| {
            passage.lost_records += 2;
            passage.lost_bytes += 11;
            passage.truncated_records += 1;
            passage.truncated_bytes += 5;
        });
        let framer = Intake {
            bytes_read: 100,
            bytes_carried: 10,
            ..Intake::default()
        };
        let intake = account.then(framer);
        assert_eq!(intake.bytes_read, 116);
        assert_eq!((intake.lost_records, intake.lost_bytes), (2, 11));
        let counted = Counted { block_bytes: 90 };
        assert!(close_ledger(&Intake::default(), &intake, &counted).is_ok());
    }

    #[test]
    fn a_source_that_receives_a_byte_and_says_nothing_of_it_is_found_out() {
        let account = Account::default();
        let framer = Intake {
            bytes_read: 100,
            ..Intake::default()
        };
        let counted = Counted { block_bytes: 100 };
        let received = |bytes| {
            account.update(|passage| {
                passage.received_bytes = Some(bytes);
                passage.held_bytes = 20;
                passage.held_records = 2;
                passage.added_bytes = 1;
            });
            close_ledger(&Intake::default(), &account.then(framer), &counted)
        };
        assert!(received(119).is_ok());
        assert!(received(120).is_err());
        // What is held when the source is over is dropped, and said to be.
        assert!(received(119).is_ok());
        account.close();
        let intake = account.then(framer);
        assert_eq!((intake.truncated_records, intake.truncated_bytes), (2, 20));
        assert_eq!(intake.bytes_carried, 0);
        assert!(close_ledger(&Intake::default(), &intake, &counted).is_ok());
    }
}
