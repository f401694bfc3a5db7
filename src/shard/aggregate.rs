//! Pipelines that aggregate the values of a key.
//!
//! Promise: for each record, one `add` to the state of its key, or one record more in the overflow.
//! Nothing is allocated for a known key. Must not know: where blocks come from, when an epoch ends,
//! what the functions do.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::aggregate::table::AggregateTable;
use crate::epoch::hand_over::PartialAggregate;
use crate::epoch::merge::partial_of_mut;
use crate::limits::GUARD_BYTES;
use crate::ring::arena::Block;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Splitter, Tallied};

/// Memory for a key that is kept; what a longer key needed is freed.
const KEPT_BYTES: usize = 1 << 20;

/// Aggregates the values of keys that `map` writes.
pub(crate) struct AggregateStage<R, S, I, M, A, T> {
    records: R,
    init: Arc<I>,
    map: Arc<M>,
    splitter: Splitter,
    /// What the user-supplied `init` made, one a shard.
    state: S,
    /// The key of a record.
    key: Vec<u8>,
    /// What the table is of.
    aggregate: std::marker::PhantomData<fn() -> (A, T)>,
}

impl<R: Records, S, I: Fn() -> S, M, A, T> AggregateStage<R, S, I, M, A, T> {
    /// `init` makes the state that `map` may change from record to record. `map` appends a record's
    /// key to the empty buffer it gets, and returns the value, or `None` if the record has none.
    pub(crate) fn new(records: R, init: Arc<I>, map: Arc<M>, kernel: Kernel) -> Self {
        AggregateStage {
            splitter: Splitter::new(records.rule(), kernel),
            records,
            state: init(),
            init,
            map,
            key: Vec::new(),
            aggregate: std::marker::PhantomData,
        }
    }
}

impl<R, S, I, M, A, T> Stage for AggregateStage<R, S, I, M, A, T>
where
    R: Records,
    S: Send,
    T: Copy + 'static,
    A: Aggregate<T>,
    I: Fn() -> S + Send + Sync,
    M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<T> + Send + Sync,
{
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let table = partial_of_mut::<AggregateTable<A, T>>(into);
        let (map, state, key) = (&*self.map, &mut self.state, &mut self.key);
        let mut tokens = 0;
        let tallied = self
            .records
            .for_each(&mut self.splitter, block.content(), |record| {
                key.clear();
                let Some(value) = map(state, record, key) else {
                    return;
                };
                tokens += 1;
                let len = key.len();
                // So the key can be packed by one load.
                key.extend_from_slice(&[0; GUARD_BYTES]);
                table.add(key, &key[..len], value);
            });
        if key.capacity() > KEPT_BYTES {
            *key = Vec::new();
        }
        Tallied { tokens, ..tallied }
    }

    /// Everything goes to the table at once.
    fn flush(&mut self, _into: &mut dyn PartialAggregate) {}

    fn abandon(&mut self, _into: &mut dyn PartialAggregate) {
        // A function that panicked may have left it inconsistent.
        self.state = (self.init)();
    }
}
