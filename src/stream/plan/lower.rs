//! Lowers operators of the record plane to what the engine runs.
//!
//! Promise: one place knows both vocabularies. A chain of record-plane operators becomes one
//! monomorphised stage, whatever its length; its merged result is the first node of the batch
//! plane.
//! Must not know: `ops`, `source`, `sink`.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::engine::plan::Pipeline;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{table_of, table_of_mut};
use crate::error::{Result, guarded};
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::ring::arena::Block;
use crate::shard::combine::CombineStage;
use crate::shard::keyed::computed::ComputedStage;
use crate::shard::keyed::{KeyedStage, is_primitive};
use crate::shard::panic_message;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Rule, Splitter, Tallied};
use crate::stream::plan::batch_cache::{Failure, LentTable, Produced};
use crate::stream::plan::graph::{Attempt, BatchContext, Operator};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::BatchTime;

/// The tables of a fold by key, which depend on what is known of its values.
pub(crate) struct FoldTables<V> {
    /// An empty table of values.
    table: fn(Seed, MemoryCap) -> KeyTable<V>,
    /// An empty table that counts the records of one value.
    counts: fn(Seed, MemoryCap) -> KeyTable<u64>,
    is_counting: bool,
    /// The stage may count records of one value before it folds them.
    may_tally: bool,
}

impl<V: Copy + 'static> FoldTables<V> {
    /// Values of any kind, folded by a user-supplied function.
    pub(crate) fn any() -> Self {
        FoldTables {
            table: KeyTable::bounded,
            counts: KeyTable::tallying,
            is_counting: false,
            may_tally: is_primitive::<V>(),
        }
    }

    fn needs(&self) -> PipelineNeeds {
        PipelineNeeds {
            own_tables: usize::from(self.may_tally),
            table_bytes_min: KeyTable::<V>::bytes_min().max(KeyTable::<u64>::bytes_min()),
            is_counting: self.is_counting,
        }
    }
}

impl FoldTables<u64> {
    /// Every value is 1; values are added.
    pub(crate) fn ones() -> Self {
        FoldTables {
            table: KeyTable::counting,
            counts: KeyTable::counting,
            is_counting: true,
            may_tally: true,
        }
    }
}

/// A chain that ends in a fold by key.
struct FoldNode<V, S, F> {
    stream: StreamId,
    rule: Rule,
    tables: FoldTables<V>,
    /// Makes the stage that runs in a shard.
    stage: S,
    /// Folds the values of a key from two shards.
    merge: F,
}

impl<V, S, F> Pipeline for FoldNode<V, S, F>
where
    V: Copy + Send + Sync + 'static,
    S: Fn(Kernel, Seed, MemoryCap) -> Box<dyn Stage> + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    fn stream(&self) -> StreamId {
        self.stream
    }

    fn rule(&self) -> Rule {
        self.rule
    }

    fn stage(&self, kernel: Kernel, seed: Seed, bound: MemoryCap) -> Box<dyn Stage> {
        (self.stage)(kernel, seed, bound)
    }

    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate> {
        Box::new((self.tables.table)(seed, bound))
    }

    fn needs(&self) -> PipelineNeeds {
        self.tables.needs()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        table_of_mut::<V>(into).merge_from(table_of(from), &self.merge);
    }

    /// What a user-supplied function returns cannot be checked; the bytes are, in the reader's
    /// ledger.
    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

/// Folds the records of the numbered stream by keys that are slices of them.
pub(crate) fn keyed<R, M, F, V>(
    stream: StreamId,
    records: R,
    map: M,
    reduce: F,
    tables: FoldTables<V>,
) -> Arc<dyn Pipeline>
where
    R: Records,
    V: Copy + Send + Sync + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    let (map, reduce, counts) = (Arc::new(map), Arc::new(reduce), tables.counts);
    let merge = Arc::clone(&reduce);
    Arc::new(FoldNode {
        stream,
        rule: records.rule(),
        tables,
        stage: move |kernel, seed, bound| -> Box<dyn Stage> {
            let (map, reduce) = (Arc::clone(&map), Arc::clone(&reduce));
            let (records, counts) = (records.clone(), counts(seed, bound));
            Box::new(KeyedStage::new(records, map, reduce, kernel, counts))
        },
        merge: move |a, b| merge(a, b),
    })
}

/// Folds the records of the numbered stream by keys that `map` writes.
pub(crate) fn computed<R, S, I, M, F, V>(
    stream: StreamId,
    records: R,
    init: I,
    map: M,
    reduce: F,
    tables: FoldTables<V>,
) -> Arc<dyn Pipeline>
where
    R: Records,
    S: Send + 'static,
    V: Copy + Send + Sync + 'static,
    I: Fn() -> S + Send + Sync + 'static,
    M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    let (init, map, reduce) = (Arc::new(init), Arc::new(map), Arc::new(reduce));
    let (merge, counts) = (Arc::clone(&reduce), tables.counts);
    Arc::new(FoldNode {
        stream,
        rule: records.rule(),
        tables,
        stage: move |kernel, seed, bound| -> Box<dyn Stage> {
            let (init, map) = (Arc::clone(&init), Arc::clone(&map));
            let (records, reduce) = (records.clone(), Arc::clone(&reduce));
            let counts = counts(seed, bound);
            Box::new(ComputedStage::new(
                records, init, map, reduce, kernel, counts,
            ))
        },
        merge: move |a, b| merge(a, b),
    })
}

/// Folds the values of each key of the numbered stream into a combiner of another type.
pub(crate) fn combined<R, M, C, F, V, W>(
    stream: StreamId,
    records: R,
    map: M,
    create: C,
    fold: F,
    merge: impl Fn(W, W) -> W + Send + Sync + 'static,
) -> Arc<dyn Pipeline>
where
    R: Records,
    V: 'static,
    W: Copy + Send + Sync + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    C: Fn(V) -> W + Send + Sync + 'static,
    F: Fn(W, V) -> W + Send + Sync + 'static,
{
    let (map, create, fold) = (Arc::new(map), Arc::new(create), Arc::new(fold));
    Arc::new(FoldNode {
        stream,
        rule: records.rule(),
        tables: FoldTables {
            may_tally: false,
            ..FoldTables::any()
        },
        stage: move |kernel, _, _| -> Box<dyn Stage> {
            let (map, records) = (Arc::clone(&map), records.clone());
            let (create, fold) = (Arc::clone(&create), Arc::clone(&fold));
            Box::new(CombineStage::new(records, map, create, fold, kernel))
        },
        merge,
    })
}

/// Lends the merged table of a node to the batch plane, for as long as the batch is being
/// published.
struct FromTable<V> {
    name: &'static str,
    table: Arc<LentTable<KeyTable<V>>>,
}

impl<V: Copy + Send + Sync + 'static> Operator for FromTable<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let time = now.time;
        let (node, stats) = now.of_shards()?;
        self.table.make(time, |table| {
            std::mem::swap(table, table_of_mut(node.partial.as_mut()));
            table.set_records(stats.tokens);
            Ok(Some(stats))
        })
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.table.fail(time, failure);
    }

    fn leave(&mut self, now: &mut BatchContext<'_, '_>) {
        let node = now.of_shards().ok();
        self.table.forget(|table| {
            if let Some((node, _)) = node {
                std::mem::swap(table, table_of_mut(node.partial.as_mut()));
            }
        });
    }
}

impl StreamingContext {
    /// A stream of one value per key and batch, made in the shards by `node`.
    pub(crate) fn reduced<V: Copy + Send + Sync + 'static>(
        &self,
        name: &'static str,
        node: Arc<dyn Pipeline>,
    ) -> Reduced<'_, V> {
        // Takes the place of the merged table while that is lent, and is never written to.
        let table = LentTable::new(KeyTable::<V>::new(Seed::random()));
        let operator = FromTable {
            name,
            table: Arc::clone(&table),
        };
        let made = self.table_stream(table, Vec::new(), self.interval_ms(), Box::new(operator));
        self.read(made.id, node);
        made
    }

    /// A stream of what the shards gather from the records of a stream of bytes.
    ///
    /// `finish` makes a batch of the merged sum and the number of records.
    pub(crate) fn gathered<R: Records, G: Gather, T: Record>(
        &self,
        name: &'static str,
        stream: StreamId,
        records: R,
        gather: G,
        mut finish: impl FnMut(G::Sum, u64) -> Option<Rdd<T>> + Send + 'static,
    ) -> RddStream<'_, T> {
        let node = Arc::new(GatherNode {
            stream,
            records,
            gather: Arc::new(gather),
        });
        let make = move |now: &mut BatchContext<'_, '_>| -> Produced<_> {
            let (node, stats) = now.of_shards()?;
            let sum = sum_of_mut::<G::Sum>(node.partial.as_mut());
            Ok(finish(std::mem::take(sum), stats.tokens))
        };
        let gathered = self.taken_stream(name, Vec::new(), self.interval_ms(), make);
        self.read(gathered.id, node);
        gathered
    }
}

impl StreamingContext {
    /// A stream of the records that `per_block` makes of the blocks of a stream of bytes: one
    /// partition per block, in the order of arrival.
    pub(crate) fn made_per_block<R: Records, T: Record, P: PerBlock<T>>(
        &self,
        name: &'static str,
        stream: StreamId,
        records: R,
        per_block: P,
    ) -> RddStream<'_, T> {
        let per_block = Arc::new(per_block);
        let node = Arc::new(GatherNode {
            stream,
            records: records.clone(),
            gather: Arc::new(EachBlock(Arc::clone(&per_block), PhantomData)),
        });
        let take = |now: &mut BatchContext<'_, '_>| {
            let (node, _) = now.of_shards()?;
            let mut blocks = std::mem::take(sum_of_mut::<Blocks<T>>(node.partial.as_mut()));
            blocks.sort_unstable_by_key(|(number, _)| *number);
            Ok(blocks)
        };
        let make = move |blocks: &Blocks<T>, attempt: &mut Attempt<'_>| {
            let is_first = attempt.time == attempt.now;
            let partitions = blocks.iter().map(|(_, block)| match block {
                BlockRecords::Produced(records) => Ok(Arc::clone(records)),
                BlockRecords::Failed(failed) if is_first => {
                    Err(Failure::of_records(Arc::clone(&failed.message)))
                }
                BlockRecords::Failed(failed) => {
                    let mut splitter = Splitter::new(records.rule(), failed.kernel);
                    let (made, _) = per_block.make(&records, &mut splitter, &failed.bytes);
                    Ok(Arc::new(made))
                }
            });
            let partitions = partitions.collect::<std::result::Result<Vec<_>, Failure>>()?;
            Ok(Some(Rdd::shared(partitions)))
        };
        let made = self.rdd_stream_of(name, Vec::new(), self.interval_ms(), take, make);
        self.read(made.id, node);
        made
    }
}

/// Makes records of a block.
pub(crate) trait PerBlock<T>: Send + Sync + 'static {
    /// Makes the records.
    fn make<R: Records>(
        &self,
        records: &R,
        splitter: &mut Splitter,
        block: &[u8],
    ) -> (Vec<T>, Tallied);
}

/// The records of each block, with the block's place in the order of arrival.
type Blocks<T> = Vec<(u64, BlockRecords<T>)>;

enum BlockRecords<T> {
    Produced(Arc<Vec<T>>),
    /// A function failed: it is called again for the whole block when the batch is made again.
    Failed(Arc<FailedBlock>),
}

impl<T> Clone for BlockRecords<T> {
    fn clone(&self) -> Self {
        match self {
            BlockRecords::Produced(records) => BlockRecords::Produced(Arc::clone(records)),
            BlockRecords::Failed(block) => BlockRecords::Failed(Arc::clone(block)),
        }
    }
}

/// A block whose records could not be made.
///
/// Its bytes do not count towards the memory limit, just as records that leave the shards do not.
/// They stand for those records: a batch holds no more of them than it received. They are dropped
/// when the records are made, or when the batch is forgotten, after the windows and states that may
/// still need it.
struct FailedBlock {
    bytes: Vec<u8>,
    /// Finds the record ends.
    kernel: Kernel,
    message: Arc<str>,
}

struct EachBlock<P, T>(Arc<P>, PhantomData<fn() -> T>);

impl<T: Record, P: PerBlock<T>> Gather for EachBlock<P, T> {
    type Sum = Blocks<T>;

    fn block<R: Records>(
        &self,
        sum: &mut Blocks<T>,
        records: &R,
        splitter: &mut Splitter,
        block: &Block,
    ) -> Tallied {
        let bytes = block.bytes();
        let made = guarded(|| self.0.make(records, splitter, bytes));
        let (records, tallied) = match made {
            Ok((made, tallied)) => (BlockRecords::Produced(Arc::new(made)), tallied),
            Err(panic) => {
                let failed = FailedBlock {
                    bytes: bytes.to_vec(),
                    kernel: splitter.kernel(),
                    message: panic_message(panic.as_ref()).into(),
                };
                let tallied = Tallied {
                    records: splitter.kernel().line_ends().count_in(bytes),
                    ..Tallied::default()
                };
                (BlockRecords::Failed(Arc::new(failed)), tallied)
            }
        };
        sum.push((block.number(), records));
        tallied
    }

    fn merge(&self, into: &mut Blocks<T>, from: &Blocks<T>) {
        into.extend_from_slice(from);
    }
}

/// What shards gather from records, if it is not a table.
pub(crate) trait Gather: Send + Sync + 'static {
    /// One shard's part of a batch.
    type Sum: Default + Send + 'static;

    /// Adds the records of `block`.
    fn block<R: Records>(
        &self,
        sum: &mut Self::Sum,
        records: &R,
        splitter: &mut Splitter,
        block: &Block,
    ) -> Tallied;

    /// Adds another shard's sum.
    fn merge(&self, into: &mut Self::Sum, from: &Self::Sum);
}

/// A chain that ends in a [`Gather`].
struct GatherNode<R, G> {
    stream: StreamId,
    records: R,
    gather: Arc<G>,
}

impl<R: Records, G: Gather> Pipeline for GatherNode<R, G> {
    fn stream(&self) -> StreamId {
        self.stream
    }

    fn rule(&self) -> Rule {
        self.records.rule()
    }

    fn stage(&self, kernel: Kernel, _seed: Seed, _bound: MemoryCap) -> Box<dyn Stage> {
        Box::new(GatherStage {
            splitter: Splitter::new(self.records.rule(), kernel),
            records: self.records.clone(),
            gather: Arc::clone(&self.gather),
        })
    }

    fn partial(&self, _seed: Seed, _bound: MemoryCap) -> Box<dyn PartialAggregate> {
        Box::new(Gathered(G::Sum::default()))
    }

    fn needs(&self) -> PipelineNeeds {
        PipelineNeeds::default()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        let from = from.as_any().downcast_ref::<Gathered<G::Sum>>();
        let Gathered(from) = from.expect("a pipeline makes all of its sums itself");
        self.gather.merge(sum_of_mut(into), from);
    }

    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

struct GatherStage<R, G> {
    records: R,
    gather: Arc<G>,
    splitter: Splitter,
}

impl<R: Records, G: Gather> Stage for GatherStage<R, G> {
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let sum = sum_of_mut(into);
        self.gather
            .block(sum, &self.records, &mut self.splitter, block)
    }

    fn flush(&mut self, _into: &mut dyn PartialAggregate) {}
}

struct Gathered<S>(S);

fn sum_of_mut<S: 'static>(partial: &mut dyn PartialAggregate) -> &mut S {
    let gathered = partial.as_any_mut().downcast_mut::<Gathered<S>>();
    &mut gathered.expect("a pipeline makes all of its sums itself").0
}

impl<S: Default + Send + 'static> PartialAggregate for Gathered<S> {
    /// All sums count as equally large.
    fn len(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        self.0 = S::default();
    }

    fn follow(&mut self, _leader: &mut dyn PartialAggregate) {
        self.clear();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
