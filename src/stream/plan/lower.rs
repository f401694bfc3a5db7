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
use crate::epoch::merge::{partial_of_mut, table_of, table_of_mut};
use crate::error::{Result, guarded};
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::ring::arena::Block;
use crate::shard::combine::CombineStage;
use crate::shard::keyed::computed::ComputedStage;
use crate::shard::keyed::{KeyedStage, is_primitive};
use crate::shard::panic_message;
use crate::shard::stage::{Records, Stage};
use crate::split::{BlockBytes, Kernel, Rule, Splitter, Tallied, WholeRecord};
use crate::stream::plan::batch_cache::{Failure, Produced};
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{BatchContext, KeptBatches, NodeId, Operator};
use crate::stream::plan::lent_table::{LentTable, TableHolder};
use crate::stream::plan::make_rdd::Attempt;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;

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
            result_tables: 0,
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

impl<R: Records> DStream<R> {
    /// Folds the records by keys that are slices of them.
    pub(crate) fn keyed<M, F, V>(
        self,
        kind: &'static str,
        map: M,
        reduce: F,
        tables: FoldTables<V>,
    ) -> Reduced<V>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let (map, reduce, counts) = (Arc::new(map), Arc::new(reduce), tables.counts);
        let (records, merge) = (self.records.clone(), Arc::clone(&reduce));
        let stage = move |kernel, seed, bound| -> Box<dyn Stage> {
            let (map, reduce) = (Arc::clone(&map), Arc::clone(&reduce));
            let (records, counts) = (records.clone(), counts(seed, bound));
            Box::new(KeyedStage::new(records, map, reduce, kernel, counts))
        };
        self.folded(kind, tables, stage, move |a, b| merge(a, b))
    }

    /// Folds the records by keys that `map` writes.
    pub(crate) fn computed<S, I, M, F, V>(
        self,
        kind: &'static str,
        init: I,
        map: M,
        reduce: F,
        tables: FoldTables<V>,
    ) -> Reduced<V>
    where
        S: Send + 'static,
        V: Copy + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let (init, map, reduce) = (Arc::new(init), Arc::new(map), Arc::new(reduce));
        let (records, merge, counts) = (self.records.clone(), Arc::clone(&reduce), tables.counts);
        let stage = move |kernel, seed, bound| -> Box<dyn Stage> {
            let (init, map) = (Arc::clone(&init), Arc::clone(&map));
            let (records, reduce) = (records.clone(), Arc::clone(&reduce));
            let counts = counts(seed, bound);
            Box::new(ComputedStage::new(
                records, init, map, reduce, kernel, counts,
            ))
        };
        self.folded(kind, tables, stage, move |a, b| merge(a, b))
    }

    /// Folds the values of each key into a combiner of another type.
    pub(crate) fn combined<M, C, F, V, W>(
        self,
        kind: &'static str,
        map: M,
        create: C,
        fold: F,
        merge: impl Fn(W, W) -> W + Send + Sync + 'static,
    ) -> Reduced<W>
    where
        V: 'static,
        W: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        C: Fn(V) -> W + Send + Sync + 'static,
        F: Fn(W, V) -> W + Send + Sync + 'static,
    {
        let (map, create, fold) = (Arc::new(map), Arc::new(create), Arc::new(fold));
        let records = self.records.clone();
        let stage = move |kernel, _, _| -> Box<dyn Stage> {
            let (map, records) = (Arc::clone(&map), records.clone());
            let (create, fold) = (Arc::clone(&create), Arc::clone(&fold));
            Box::new(CombineStage::new(records, map, create, fold, kernel))
        };
        let tables = FoldTables {
            may_tally: false,
            ..FoldTables::any()
        };
        self.folded(kind, tables, stage, merge)
    }

    fn folded<V: Copy + Send + Sync + 'static>(
        self,
        kind: &'static str,
        tables: FoldTables<V>,
        stage: impl Fn(Kernel, Seed, MemoryCap) -> Box<dyn Stage> + Send + Sync + 'static,
        merge: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> Reduced<V> {
        let node = FoldNode {
            stream: self.stream,
            rule: self.records.rule(),
            tables,
            stage,
            merge,
        };
        self.plan.reduced(kind, self.node, Arc::new(node))
    }

    /// A stream of what the shards gather from the records.
    ///
    /// `block` adds the records of a block to a shard's sum, and `merge` adds another shard's sum.
    /// `finish` makes a batch of the merged sum and the number of records.
    pub(crate) fn gathered<S: Default + Send + 'static, T: Record>(
        &self,
        kind: &'static str,
        block: impl Fn(&mut S, &R, &mut Splitter, &Block) -> Tallied + Send + Sync + 'static,
        merge: impl Fn(&mut S, &S) + Send + Sync + 'static,
        mut finish: impl FnMut(S, u64) -> Rdd<T> + Send + 'static,
    ) -> RddStream<T> {
        let make = move |now: &mut BatchContext<'_, '_>| -> Produced<_> {
            let (node, stats) = now.of_shards()?;
            let sum = std::mem::take(sum_of_mut::<S>(node.partial.as_mut()));
            Ok(Some(finish(sum, stats.tokens)))
        };
        let (plan, slide_ms) = (&self.plan, self.plan.interval_ms());
        let gathered = plan.taken_stream(kind, vec![self.node], slide_ms, make);
        plan.read(gathered.id, GatherNode::new(self, block, merge));
        gathered
    }

    /// A stream of the records that `make` makes of the records of each block: one partition per
    /// block, in the order of arrival.
    pub(crate) fn made_per_block<T: Record>(
        &self,
        kind: &'static str,
        make: impl Fn(&R, &mut Splitter, BlockBytes<'_>) -> (Vec<T>, Tallied) + Send + Sync + 'static,
    ) -> RddStream<T> {
        let (records, make) = (self.records.clone(), Arc::new(make));
        let retry = Arc::clone(&make);
        let node = GatherNode::new(
            self,
            move |sum: &mut Blocks<T>, records: &R, splitter: &mut Splitter, block: &Block| {
                let block_bytes = block.content();
                let made = guarded(|| make(records, splitter, block_bytes));
                let (records, tallied) = match made {
                    Ok((made, tallied)) => (BlockRecords::Produced(Arc::new(made)), tallied),
                    Err(panic) => failed_block(block_bytes, splitter.kernel(), panic.as_ref()),
                };
                sum.push((block.number(), records));
                tallied
            },
            |into: &mut Blocks<T>, from| into.extend_from_slice(from),
        );
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
                    let (made, _) = retry(&records, &mut splitter, failed.content());
                    Ok(Arc::new(made))
                }
            });
            let partitions = partitions.collect::<std::result::Result<Vec<_>, Failure>>()?;
            Ok(Some(Rdd::shared(partitions)))
        };
        let (plan, slide_ms) = (&self.plan, self.plan.interval_ms());
        let made = plan.rdd_stream_of(kind, vec![self.node], slide_ms, take, make);
        plan.read(made.id, node);
        made
    }
}

/// Lends the merged result of a pipeline to the batch plane, for as long as the batch is being
/// published.
pub(super) struct LendMerged<H: TableHolder> {
    pub(super) table: Arc<LentTable<H>>,
    /// Sets the number of records that the result is made of.
    pub(super) set_records: fn(&mut H, u64),
}

impl<H: TableHolder + PartialAggregate> Operator for LendMerged<H> {
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let time = now.time;
        let (node, stats) = now.of_shards()?;
        self.table.make(time, |table| {
            std::mem::swap(table, partial_of_mut(node.partial.as_mut()));
            (self.set_records)(table, stats.tokens);
            Ok(Some(stats))
        })
    }

    fn leave(&mut self, now: &mut BatchContext<'_, '_>) {
        let node = now.of_shards().ok();
        self.table.forget(|table| {
            if let Some((node, _)) = node {
                std::mem::swap(table, partial_of_mut(node.partial.as_mut()));
            }
        });
    }
}

impl PlanBuilder {
    /// A stream of one value per key and batch, made in the shards by `pipeline` of the records of
    /// `parent`.
    pub(crate) fn reduced<V: Copy + Send + Sync + 'static>(
        &self,
        kind: &'static str,
        parent: NodeId,
        pipeline: Arc<dyn Pipeline>,
    ) -> Reduced<V> {
        // Takes the place of the merged table while that is lent, and is never written to.
        let table = LentTable::new(KeyTable::<V>::new(Seed::random()));
        let operator = Box::new(LendMerged {
            table: Arc::clone(&table),
            set_records: KeyTable::set_records,
        });
        let made = self.table_stream(kind, table, vec![parent], self.interval_ms(), operator);
        self.read(made.id, pipeline);
        made
    }
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
    whole: Vec<WholeRecord>,
    /// Finds the record ends.
    kernel: Kernel,
    message: Arc<str>,
}

impl FailedBlock {
    fn content(&self) -> BlockBytes<'_> {
        BlockBytes {
            bytes: &self.bytes,
            whole: &self.whole,
        }
    }
}

/// A block for which a function panicked, and its tally.
#[cold]
fn failed_block<T>(
    block: BlockBytes<'_>,
    kernel: Kernel,
    panic: &(dyn Any + Send),
) -> (BlockRecords<T>, Tallied) {
    let failed = FailedBlock {
        bytes: block.bytes.to_vec(),
        whole: block.whole.to_vec(),
        kernel,
        message: panic_message(panic).into(),
    };
    let tallied = Tallied {
        records: block.records(kernel.line_ends()),
        ..Tallied::default()
    };
    (BlockRecords::Failed(Arc::new(failed)), tallied)
}

/// A chain that ends in a sum which is not a table.
struct GatherNode<R, S, B, M> {
    stream: StreamId,
    records: R,
    /// Adds the records of a block to a shard's sum.
    block: Arc<B>,
    /// Adds another shard's sum.
    merge: M,
    sum: PhantomData<fn() -> S>,
}

impl<R, S, B, M> GatherNode<R, S, B, M>
where
    R: Records,
    S: Default + Send + 'static,
    B: Fn(&mut S, &R, &mut Splitter, &Block) -> Tallied + Send + Sync + 'static,
    M: Fn(&mut S, &S) + Send + Sync + 'static,
{
    fn new(stream: &DStream<R>, block: B, merge: M) -> Arc<Self> {
        Arc::new(GatherNode {
            stream: stream.stream,
            records: stream.records.clone(),
            block: Arc::new(block),
            merge,
            sum: PhantomData,
        })
    }
}

impl<R, S, B, M> Pipeline for GatherNode<R, S, B, M>
where
    R: Records,
    S: Default + Send + 'static,
    B: Fn(&mut S, &R, &mut Splitter, &Block) -> Tallied + Send + Sync + 'static,
    M: Fn(&mut S, &S) + Send + Sync + 'static,
{
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
            block: Arc::clone(&self.block),
            sum: PhantomData,
        })
    }

    fn partial(&self, _seed: Seed, _bound: MemoryCap) -> Box<dyn PartialAggregate> {
        Box::new(Gathered(S::default()))
    }

    fn needs(&self) -> PipelineNeeds {
        PipelineNeeds::default()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        let from = (from as &dyn Any).downcast_ref::<Gathered<S>>();
        let Gathered(from) = from.expect("a pipeline makes all of its sums itself");
        (self.merge)(sum_of_mut(into), from);
    }

    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

struct GatherStage<R, S, B> {
    records: R,
    block: Arc<B>,
    splitter: Splitter,
    sum: PhantomData<fn() -> S>,
}

impl<R, S, B> Stage for GatherStage<R, S, B>
where
    R: Records,
    S: 'static,
    B: Fn(&mut S, &R, &mut Splitter, &Block) -> Tallied + Send + Sync + 'static,
{
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        (self.block)(sum_of_mut(into), &self.records, &mut self.splitter, block)
    }

    fn flush(&mut self, _into: &mut dyn PartialAggregate) {}
}

/// A shard's sum, as a partial aggregate.
struct Gathered<S>(S);

fn sum_of_mut<S: 'static>(partial: &mut dyn PartialAggregate) -> &mut S {
    let gathered = (partial as &mut dyn Any).downcast_mut::<Gathered<S>>();
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
}
