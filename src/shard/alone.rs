//! One pipeline without an engine, for benches and tests: blocks in, a table out.
//!
//! Promise: what a shard does with a block and at a barrier, no more. Must not know: threads,
//! `source`.

use std::sync::Arc;

use crate::ring::arena::Block;
use crate::shard::count::CountStage;
use crate::shard::keyed::KeyedStage;
use crate::shard::keyed::computed::ComputedStage;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Rule, Tallied};
use crate::table::KeyTable;
use crate::table::keys::Seed;

/// One pipeline without an engine.
pub struct SoloPipeline<V> {
    stage: Box<dyn Stage>,
    table: KeyTable<V>,
}

debug_fields!([V] SoloPipeline<V>, "SoloPipeline");

impl SoloPipeline<u64> {
    /// Counts what `count_by_value` counts of lines and words.
    pub fn counting(rule: Rule, kernel: Kernel, seed: Seed) -> Self {
        SoloPipeline {
            stage: Box::new(CountStage::new(rule, kernel, seed)),
            table: KeyTable::new(seed),
        }
    }
}

impl<V: Copy + Send + 'static> SoloPipeline<V> {
    /// Reduces `records` as `map` and `reduce_by_key` do.
    pub fn keyed<R, M, F>(records: R, map: M, reduce: F, kernel: Kernel, seed: Seed) -> Self
    where
        R: Records,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let (map, reduce) = (Arc::new(map), Arc::new(reduce));
        SoloPipeline {
            stage: Box::new(KeyedStage::new(
                records,
                map,
                reduce,
                kernel,
                KeyTable::new(seed),
            )),
            table: KeyTable::new(seed),
        }
    }

    /// Reduces `records` as `map_key` and `reduce_by_key` do.
    pub fn computed<R, M, F>(records: R, map: M, reduce: F, kernel: Kernel, seed: Seed) -> Self
    where
        R: Records,
        M: Fn(&[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let map = move |_: &mut (), record: &[u8], key: &mut Vec<u8>| map(record, key);
        let (init, map, reduce) = (Arc::new(|| ()), Arc::new(map), Arc::new(reduce));
        SoloPipeline {
            stage: Box::new(ComputedStage::new(
                records,
                init,
                map,
                reduce,
                kernel,
                KeyTable::new(seed),
            )),
            table: KeyTable::new(seed),
        }
    }

    /// Adds one block, which ends with a record end.
    pub fn block(&mut self, block: &Block) -> Tallied {
        self.stage.block(block, &mut self.table)
    }

    /// Ends the epoch. Its table stays until `clear`.
    pub fn cut(&mut self) -> &KeyTable<V> {
        self.stage.flush(&mut self.table);
        &self.table
    }

    /// Clears the epoch that was cut.
    pub fn clear(&mut self) {
        self.table.clear();
    }
}
