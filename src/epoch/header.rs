//! What the reading side says of each epoch to whoever publishes it, before any table of it comes.
//!
//! Promise: readers and shards are compared over exactly the same bytes; no more epochs are under
//! way than was agreed. Must not know: what is counted, who reads, who publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::epoch::barrier::{Barrier, ShardSet};
use crate::ledger::IntakeTotals;
use crate::position::EpochPositions;
use crate::time::BatchTime;

/// What the publisher has to know about an epoch before any table of it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochHeader {
    pub(crate) barrier: Barrier,
    /// The shards that hand tables over for it, beside the reading side.
    pub(crate) shards: ShardSet,
    /// Positions come with it.
    has_positions: bool,
}

/// The reading side's end.
pub(crate) struct HeaderSender {
    /// For each epoch what each stream had read at its barrier.
    intakes: rtrb::Producer<IntakeTotals>,
    positions: rtrb::Producer<Arc<EpochPositions>>,
    /// Pushed behind the others, which it makes visible.
    headers: rtrb::Producer<EpochHeader>,
    /// Epochs published so far.
    published: Arc<AtomicU64>,
    /// Epochs delivered so far.
    delivered: Arc<AtomicU64>,
    /// Epochs sent so far.
    sent: u64,
    epochs_max: usize,
}

/// The publisher's end.
pub(crate) struct HeaderReceiver {
    intakes: rtrb::Consumer<IntakeTotals>,
    positions: rtrb::Consumer<Arc<EpochPositions>>,
    headers: rtrb::Consumer<EpochHeader>,
    published: Arc<AtomicU64>,
    delivered: Arc<AtomicU64>,
}

/// Makes the two ends, for at most `epochs_max` epochs under way of `stream_count` streams.
pub(crate) fn header_channel(
    stream_count: usize,
    epochs_max: usize,
) -> (HeaderSender, HeaderReceiver) {
    let (intakes_in, intakes_out) = rtrb::RingBuffer::new(epochs_max * stream_count);
    let (positions_in, positions_out) = rtrb::RingBuffer::new(epochs_max);
    let (headers_in, headers_out) = rtrb::RingBuffer::new(epochs_max);
    let published = Arc::new(AtomicU64::new(0));
    let delivered = Arc::new(AtomicU64::new(0));
    (
        HeaderSender {
            intakes: intakes_in,
            positions: positions_in,
            headers: headers_in,
            published: Arc::clone(&published),
            delivered: Arc::clone(&delivered),
            sent: 0,
            epochs_max,
        },
        HeaderReceiver {
            intakes: intakes_out,
            positions: positions_out,
            headers: headers_out,
            published,
            delivered,
        },
    )
}

impl HeaderSender {
    /// Epochs sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The last epoch up to which every output has delivered everything, and nothing has failed. It
    /// only grows.
    pub(crate) fn delivered(&self) -> u64 {
        // Acquire: pairs with the Release in `HeaderReceiver::delivered`.
        self.delivered.load(Ordering::Acquire)
    }

    /// Returns `true` if one more epoch may be under way.
    pub(crate) fn has_room(&self) -> bool {
        // Acquire: pairs with the Release in `published`; what was freed for the epoch is visible.
        self.sent - self.published.load(Ordering::Acquire) < self.epochs_max as u64
    }

    /// Sends the header of the next epoch, for which there is room, and returns its barrier.
    /// `intakes` is what each stream has read, `positions` where sources are that know it.
    pub(crate) fn send(
        &mut self,
        time: BatchTime,
        last: bool,
        shards: ShardSet,
        intakes: impl Iterator<Item = IntakeTotals>,
        positions: Option<Arc<EpochPositions>>,
    ) -> Barrier {
        self.sent += 1;
        let barrier = Barrier {
            epoch: self.sent,
            time,
            last,
        };
        for intake in intakes {
            let pushed = self.intakes.push(intake);
            assert!(pushed.is_ok(), "epochs under way keep to their limit");
        }
        let has_positions = positions.is_some();
        let pushed = positions.is_none_or(|positions| self.positions.push(positions).is_ok());
        let header = EpochHeader {
            barrier,
            shards,
            has_positions,
        };
        let pushed = pushed && self.headers.push(header).is_ok();
        assert!(pushed, "epochs under way keep to their limit");
        barrier
    }
}

impl HeaderReceiver {
    /// The oldest epoch that was not taken.
    pub(crate) fn peek(&self) -> Option<EpochHeader> {
        self.headers.peek().ok().copied()
    }

    /// Takes the epoch that [`peek`](Self::peek) returned, and what each stream had read, into
    /// `intakes`. Returns where sources were that know it.
    pub(crate) fn take(&mut self, intakes: &mut [IntakeTotals]) -> Option<Arc<EpochPositions>> {
        let header = self.headers.pop().expect("it was looked at");
        for intake in intakes {
            let popped = self.intakes.pop();
            *intake = popped.expect("intakes are pushed before their header");
        }
        header.has_positions.then(|| {
            let popped = self.positions.pop();
            popped.expect("positions are pushed before their header")
        })
    }

    /// Reports that every output has delivered everything up to `epoch`, and nothing has failed.
    pub(crate) fn delivered(&self, epoch: u64) {
        // Release: pairs with the Acquire in `HeaderSender::delivered`.
        self.delivered.store(epoch, Ordering::Release);
    }

    /// Reports that `epoch` was published and its tables are back.
    pub(crate) fn published(&self, epoch: u64) {
        // Release: pairs with the Acquire in `has_room`.
        self.published.store(epoch, Ordering::Release);
    }
}
