//! Pipelines that combine values of one type into another: a key and a value of each record, the
//! values of a key combined.
//!
//! Promise: for each key, `create(value)` of its first record, then `fold(combined, value)` for
//! each further one, in the order in which the shard got them. One look-up and no allocation a
//! record. Must not know: where blocks come from, when an epoch ends, what the functions do.

use std::sync::Arc;

use crate::epoch::hand_over::PartialAggregate;
use crate::epoch::merge::table_of_mut;
use crate::ring::arena::Block;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Splitter, Tallied};

/// A pipeline that combines the values of a key.
pub(crate) struct CombineStage<R, M, C, F> {
    records: R,
    map: Arc<M>,
    create: Arc<C>,
    fold: Arc<F>,
    splitter: Splitter,
}

impl<R: Records, M, C, F> CombineStage<R, M, C, F> {
    /// `map` returns a record's key and value.
    pub(crate) fn new(
        records: R,
        map: Arc<M>,
        create: Arc<C>,
        fold: Arc<F>,
        kernel: Kernel,
    ) -> Self {
        let splitter = Splitter::new(records.rule(), kernel);
        CombineStage {
            records,
            map,
            create,
            fold,
            splitter,
        }
    }
}

impl<R, M, C, F, V, W> Stage for CombineStage<R, M, C, F>
where
    R: Records,
    W: Copy + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync,
    C: Fn(V) -> W + Send + Sync,
    F: Fn(W, V) -> W + Send + Sync,
{
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let (map, create, fold) = (&*self.map, &*self.create, &*self.fold);
        let table = table_of_mut::<W>(into);
        let (around, bytes) = (block.guarded(), block.content());
        self.records.for_each(&mut self.splitter, bytes, |record| {
            let (key, value) = map(record);
            table.upsert_within(around, key, |combined| match combined {
                Some(combined) => fold(combined, value),
                None => create(value),
            });
        })
    }

    /// Everything goes to the table at once.
    fn flush(&mut self, _into: &mut dyn PartialAggregate) {}
}
