//! Makes of operators what the engine runs.
//!
//! Promise: one place knows both vocabularies. A chain of record-plane operators becomes one
//! monomorphised stage, whatever its length, and its merged result the first node of the batch plane.
//! Must not know: what an operator computes.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::engine::plan::Pipeline;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{table_of, table_of_mut};
use crate::error::{Result, guarded};
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

/// What is known of a reduction's values.
pub(crate) struct Values<V> {
    /// An empty table of them.
    table: fn(Seed, MemoryCap) -> KeyTable<V>,
    /// An empty table of the number of records with one value.
    counts: fn(Seed, MemoryCap) -> KeyTable<u64>,
    is_counting: bool,
    /// Whether the stage may count records of one value before it makes values of them.
    may_tally: bool,
}

impl<V: Copy + 'static> Values<V> {
    /// Nothing: a function of the user's folds them.
    pub(crate) fn any() -> Self {
        Values {
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

impl Values<u64> {
    /// Every value is 1, and they are added up.
    pub(crate) fn ones() -> Self {
        Values {
            table: KeyTable::counting,
            counts: KeyTable::counting,
            is_counting: true,
            may_tally: true,
        }
    }
}

/// A chain that ends in a fold by key.
struct FoldNode<V, S, F> {
    stream: usize,
    rule: Rule,
    /// How its tables are made.
    values: Values<V>,
    /// Makes the half that runs in a shard.
    stage: S,
    /// Folds two values of a key, from two shards.
    merge: F,
}

impl<V, S, F> Pipeline for FoldNode<V, S, F>
where
    V: Copy + Send + Sync + 'static,
    S: Fn(Kernel, Seed, MemoryCap) -> Box<dyn Stage> + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    fn stream(&self) -> usize {
        self.stream
    }

    fn rule(&self) -> Rule {
        self.rule
    }

    fn stage(&self, kernel: Kernel, seed: Seed, bound: MemoryCap) -> Box<dyn Stage> {
        (self.stage)(kernel, seed, bound)
    }

    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate> {
        Box::new((self.values.table)(seed, bound))
    }

    fn needs(&self) -> PipelineNeeds {
        self.values.needs()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        table_of_mut::<V>(into).merge_from(table_of(from), &self.merge);
    }

    /// What a function of the user's returns cannot be checked; the bytes are, in the reader's ledger.
    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

/// Of the records of the numbered stream, reduced by keys that lie in them.
pub(crate) fn keyed<R, M, F, V>(
    stream: usize,
    records: R,
    map: M,
    reduce: F,
    values: Values<V>,
) -> Arc<dyn Pipeline>
where
    R: Records,
    V: Copy + Send + Sync + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    let (map, reduce, counts) = (Arc::new(map), Arc::new(reduce), values.counts);
    let merge = Arc::clone(&reduce);
    Arc::new(FoldNode {
        stream,
        rule: records.rule(),
        values,
        stage: move |kernel, seed, bound| -> Box<dyn Stage> {
            let (map, reduce) = (Arc::clone(&map), Arc::clone(&reduce));
            let (records, counts) = (records.clone(), counts(seed, bound));
            Box::new(KeyedStage::new(records, map, reduce, kernel, counts))
        },
        merge: move |a, b| merge(a, b),
    })
}

/// The same by keys that are made.
pub(crate) fn computed<R, S, I, M, F, V>(
    stream: usize,
    records: R,
    init: I,
    map: M,
    reduce: F,
    values: Values<V>,
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
    let (merge, counts) = (Arc::clone(&reduce), values.counts);
    Arc::new(FoldNode {
        stream,
        rule: records.rule(),
        values,
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

/// The same where something else is made of each key's values.
pub(crate) fn combined<R, M, C, F, V, W>(
    stream: usize,
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
        values: Values {
            may_tally: false,
            ..Values::any()
        },
        stage: move |kernel, _, _| -> Box<dyn Stage> {
            let (map, records) = (Arc::clone(&map), records.clone());
            let (create, fold) = (Arc::clone(&create), Arc::clone(&fold));
            Box::new(CombineStage::new(records, map, create, fold, kernel))
        },
        merge,
    })
}

/// Lends the merged table of a node to the batch plane, for as long as the batch is being published.
struct FromTable<V> {
    name: &'static str,
    held: Arc<LentTable<KeyTable<V>>>,
}

impl<V: Copy + Send + Sync + 'static> Operator for FromTable<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let time = now.time;
        let (node, stats) = now.of_shards()?;
        self.held.make(time, |table| {
            std::mem::swap(table, table_of_mut(node.partial.as_mut()));
            table.set_records(stats.tokens);
            Ok(Some(stats))
        })
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.held.fail(time, failure);
    }

    fn leave(&mut self, now: &mut BatchContext<'_, '_>) {
        let node = now.of_shards().ok();
        self.held.forget(|table| {
            if let Some((node, _)) = node {
                std::mem::swap(table, table_of_mut(node.partial.as_mut()));
            }
        });
    }
}

impl StreamingContext {
    /// A stream of one value a key and batch, made in the shards by `node`.
    pub(crate) fn reduced<V: Copy + Send + Sync + 'static>(
        &self,
        name: &'static str,
        node: Arc<dyn Pipeline>,
    ) -> Reduced<'_, V> {
        // Takes the place of the merged table while that is lent, and is never written to.
        let held = LentTable::new(KeyTable::<V>::new(Seed::random()));
        let step = FromTable {
            name,
            held: Arc::clone(&held),
        };
        let slide_ms = self.interval_ms();
        let id = self.add_graph_node(Vec::new(), slide_ms, Box::new(step));
        self.read(id, node);
        Reduced {
            context: self,
            id,
            slide_ms,
            held,
        }
    }

    /// A stream of what the shards gather of the records of a stream of bytes.
    ///
    /// `finish` makes a batch of their sum and of the number of records that `gather` was given.
    pub(crate) fn gathered<R: Records, G: Gather, T: Record>(
        &self,
        name: &'static str,
        stream: usize,
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
    /// A stream of what `per_block` makes of the blocks of a stream of bytes, a partition a block, in the
    /// order of arrival.
    pub(crate) fn made_per_block<R: Records, T: Record, P: PerBlock<T>>(
        &self,
        name: &'static str,
        stream: usize,
        records: R,
        per_block: P,
    ) -> RddStream<'_, T> {
        let per_block = Arc::new(per_block);
        let node = Arc::new(GatherNode {
            stream,
            records: records.clone(),
            gather: Arc::new(EachBlock(Arc::clone(&per_block), PhantomData)),
        });
        let parts = |now: &mut BatchContext<'_, '_>| {
            let (node, _) = now.of_shards()?;
            let mut blocks = std::mem::take(sum_of_mut::<Blocks<T>>(node.partial.as_mut()));
            blocks.sort_unstable_by_key(|(number, _)| *number);
            Ok(blocks)
        };
        let make = move |blocks: &Blocks<T>, attempt: &mut Attempt<'_>| {
            let is_first = attempt.time == attempt.now;
            let partitions = blocks.iter().map(|(_, piece)| match piece {
                Piece::Produced(records) => Ok(Arc::clone(records)),
                Piece::Owed(owed) if is_first => {
                    Err(Failure::of_records(Arc::clone(&owed.message)))
                }
                Piece::Owed(owed) => {
                    let mut splitter = Splitter::new(records.rule(), owed.kernel);
                    let (made, _) = per_block.make(&records, &mut splitter, &owed.bytes);
                    Ok(Arc::new(made))
                }
            });
            let partitions = partitions.collect::<std::result::Result<Vec<_>, Failure>>()?;
            Ok(Some(Rdd::shared(partitions)))
        };
        let made = self.rdd_stream_of(name, Vec::new(), self.interval_ms(), parts, make);
        self.read(made.id, node);
        made
    }
}

/// Makes records of a block.
pub(crate) trait PerBlock<T>: Send + Sync + 'static {
    /// Makes what is made of the records in `block`.
    fn make<R: Records>(
        &self,
        records: &R,
        splitter: &mut Splitter,
        block: &[u8],
    ) -> (Vec<T>, Tallied);
}

/// What was made of each block, with the block's place in the order of arrival.
type Blocks<T> = Vec<(u64, Piece<T>)>;

enum Piece<T> {
    Produced(Arc<Vec<T>>),
    /// A function failed: it is called again for the whole block when the batch is made again.
    Owed(Arc<FailedBlock>),
}

impl<T> Clone for Piece<T> {
    fn clone(&self) -> Self {
        match self {
            Piece::Produced(records) => Piece::Produced(Arc::clone(records)),
            Piece::Owed(block) => Piece::Owed(Arc::clone(block)),
        }
    }
}

/// A block of which no records were made.
///
/// Its bytes are outside the memory limit, as the records of a stream are that leaves the shards. They stand for
/// those records: a batch has no more of them than it received bytes, and they go when the records are made, or when
/// the batch is forgotten, after the windows and states that may still need it.
struct FailedBlock {
    bytes: Vec<u8>,
    /// Knows where records end.
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
        let (piece, tallied) = match made {
            Ok((made, tallied)) => (Piece::Produced(Arc::new(made)), tallied),
            Err(panic) => {
                let owed = FailedBlock {
                    bytes: bytes.to_vec(),
                    kernel: splitter.kernel(),
                    message: panic_message(panic.as_ref()).into(),
                };
                let tallied = Tallied {
                    records: splitter.kernel().line_ends().count_in(bytes),
                    ..Tallied::default()
                };
                (Piece::Owed(Arc::new(owed)), tallied)
            }
        };
        sum.push((block.number(), piece));
        tallied
    }

    fn merge(&self, into: &mut Blocks<T>, from: &Blocks<T>) {
        into.extend_from_slice(from);
    }
}

/// What shards gather of records, where it is not a table.
pub(crate) trait Gather: Send + Sync + 'static {
    /// What a shard has of a batch.
    type Sum: Default + Send + 'static;

    /// Takes the records of `block` in.
    fn block<R: Records>(
        &self,
        sum: &mut Self::Sum,
        records: &R,
        splitter: &mut Splitter,
        block: &Block,
    ) -> Tallied;

    /// Adds what another shard has.
    fn merge(&self, into: &mut Self::Sum, from: &Self::Sum);
}

/// A chain that ends in a [`Gather`].
struct GatherNode<R, G> {
    stream: usize,
    records: R,
    gather: Arc<G>,
}

impl<R: Records, G: Gather> Pipeline for GatherNode<R, G> {
    fn stream(&self) -> usize {
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
    /// No sum is larger than another.
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
