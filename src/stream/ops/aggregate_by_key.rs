//! `aggregate_by_key`: counts, sums, percentiles and others for each key.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::aggregate::table::AggregateTable;
use crate::batch::{BatchStats, WindowSums};
use crate::engine::results::AggregatedKeys;
use crate::error;
use crate::save::StateKind;
use crate::shard::stage::Records;
use crate::stream::ops::map::PairStream;
use crate::stream::ops::map_key::MapKey;
use crate::stream::plan::aggregated::{LentStates, state_of};
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{BatchContext, KeptBatches, NodeId, Operator, StartContext};
use crate::stream::plan::lent_table::LentTable;
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::doors::{Chosen, Pipelines};
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::BatchTime;

/// A stream whose batches are the states of an [`Aggregate`] for each key: what
/// [`aggregate_by_key`](PairStream::aggregate_by_key) makes.
///
/// What is printed or looked at are its results: of each [batch](Self::results), of all batches
/// [so far](Self::so_far), or of a [window](Self::window). States are merged, not results: so the
/// percentile of a window is that of its values. [`Tally::pipelines`](crate::Tally::pipelines) and
/// [`Engine::pipelines`](crate::Engine::pipelines) take it as it is, and return its results.
pub struct Aggregated<A: Aggregate<T>, T> {
    pub(crate) plan: PlanBuilder,
    pub(crate) id: NodeId,
    pub(crate) states: LentStates<A, T>,
    pub(crate) aggregate: A,
}

debug_fields!([A: Aggregate<T>, T] Aggregated<A, T>, "Aggregated", id);

impl<R: Records, M> PairStream<R, M> {
    /// Aggregates the values of each key of a batch: Spark's `aggregateByKey`, with ready-made
    /// functions.
    ///
    /// `aggregate` is one of [`aggregate`](crate::aggregate), a tuple of several, or a custom one.
    /// Each record costs a look-up and one `add`; nothing is allocated for a known key.
    ///
    /// ```
    /// use microtally::aggregate::{Count, Percentiles};
    /// use microtally::stream::run_lines;
    /// let times = run_lines("/a 3\n/b 8\n/a 5\n/a 4", |lines| {
    ///     let requests = lines.map(|line| (&line[..2], line[3] - b'0'));
    ///     let times = requests.aggregate_by_key((Count, Percentiles::new([50.0, 99.0])));
    ///     Ok(times.results().top(10))
    /// })?;
    /// assert_eq!(times, [("/a".into(), (3, [4.0, 5.0])), ("/b".into(), (1, [8.0, 8.0]))]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn aggregate_by_key<T, A>(self, aggregate: A) -> Aggregated<A, T>
    where
        T: Copy + Send + Sync + 'static,
        A: Aggregate<T>,
        M: Fn(&[u8]) -> (&[u8], T) + Send + Sync + 'static,
    {
        let PairStream { stream, map } = self;
        let map = move |(): &mut (), record: &[u8], key: &mut Vec<u8>| {
            let (slice, value) = map(record);
            key.extend_from_slice(slice);
            Some(value)
        };
        let plan = stream.plan.clone();
        let (id, states) = stream.aggregated(|| (), map, aggregate.clone());
        Aggregated {
            plan,
            id,
            states,
            aggregate,
        }
    }
}

impl<R: Records, I, M> MapKey<R, I, M> {
    /// Aggregates the values of each key of a batch. See
    /// [`PairStream::aggregate_by_key`](crate::stream::PairStream::aggregate_by_key).
    ///
    /// ```
    /// use microtally::aggregate::{Count, Sum};
    /// use microtally::stream::run_lines;
    /// let sums = run_lines("A 3\na 8\n- 4", |lines| {
    ///     let values = lines.map_key(|line, key| {
    ///         key.push(line[0].to_ascii_lowercase());
    ///         line[0].is_ascii_alphabetic().then(|| line[2] - b'0')
    ///     });
    ///     Ok(values.aggregate_by_key((Count, Sum)).results().top(10))
    /// })?;
    /// assert_eq!(sums, [("a".into(), (2, 11))]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn aggregate_by_key<S, T, A>(self, aggregate: A) -> Aggregated<A, T>
    where
        S: Send + 'static,
        T: Copy + Send + Sync + 'static,
        A: Aggregate<T>,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<T> + Send + Sync + 'static,
    {
        let MapKey { stream, init, map } = self;
        let plan = stream.plan.clone();
        let (id, states) = stream.aggregated(init, map, aggregate.clone());
        Aggregated {
            plan,
            id,
            states,
            aggregate,
        }
    }
}

impl<A: Aggregate<T>, T: 'static> Pipelines for Aggregated<A, T> {
    type Results = AggregatedKeys<A, T>;

    fn choose(&self, chosen: &mut Chosen) {
        chosen.add::<AggregateTable<A, T>>(&self.plan, self.id);
    }
}

impl<A: Aggregate<T>, T: 'static> Aggregated<A, T> {
    /// Names this stream; see [`DStream::named`](crate::stream::DStream::named).
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.plan.name(self.id, name.into());
        self
    }

    /// The results of each batch.
    pub fn results(&self) -> Reduced<A::Output> {
        let (states, interval_ms) = (Arc::clone(&self.states), self.plan.interval_ms());
        let table = LentTable::new(KeyTable::new(Seed::random()));
        let operator = FinishStates {
            states,
            table: Arc::clone(&table),
            has_begun: false,
        };
        let parents = vec![self.id];
        (self.plan).table_stream("results", table, parents, interval_ms, Box::new(operator))
    }

    /// The results of all batches so far: a window that nothing leaves.
    ///
    /// A batch costs a merge for each of its keys, and a result for every key there is. The memory
    /// grows with the number of keys, up to
    /// [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) if set.
    ///
    /// If a batch fails, all later ones fail too, because they would lack its records.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// use microtally::aggregate::Percentile;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lengths = ssc.socket_text_stream("localhost", 9999)?.map(|line| (&line[..1], line.len()));
    /// lengths.aggregate_by_key(Percentile::new(50.0)).so_far().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn so_far(&self) -> Reduced<A::Output> {
        for _ in 0..=AggregateTable::<A, T>::result_tables() {
            self.plan.keep_table();
        }
        let (aggregate, seed) = (self.aggregate.clone(), Seed::random());
        let table = LentTable::new(KeyTable::new(Seed::random()));
        let operator = StatesSoFar {
            states: Arc::clone(&self.states),
            all: AggregateTable::new(aggregate.clone(), seed, MemoryCap::NONE),
            aggregate,
            table: Arc::clone(&table),
            has_begun: false,
            lost: None,
            sums: WindowSums::new(None),
            limit: MemoryLimit::new(self.plan.memory_limit()),
        };
        let (parents, interval_ms) = (vec![self.id], self.plan.interval_ms());
        (self.plan).table_stream("results", table, parents, interval_ms, Box::new(operator))
    }
}

/// Finishes the states of each batch.
struct FinishStates<A: Aggregate<T>, T> {
    states: LentStates<A, T>,
    table: Arc<LentTable<KeyTable<A::Output>>>,
    has_begun: bool,
}

impl<A: Aggregate<T>, T: 'static> Operator for FinishStates<A, T> {
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        let (states, has_begun) = (&self.states, &mut self.has_begun);
        self.table.make(now.time, |table| {
            states.look(now.time, |states, stats| {
                if !std::mem::replace(has_begun, true) {
                    *table = states.results();
                }
                states.finish_into(table);
                *stats
            })
        })
    }

    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {
        self.table.forget(KeyTable::clear);
    }
}

/// Merges the states of all batches.
struct StatesSoFar<A: Aggregate<T>, T> {
    states: LentStates<A, T>,
    aggregate: A,
    /// Until a batch has come, it is empty, or what was loaded.
    all: AggregateTable<A, T>,
    table: Arc<LentTable<KeyTable<A::Output>>>,
    has_begun: bool,
    /// A batch failed, so the states lack something for good.
    lost: Option<Failure>,
    sums: WindowSums,
    limit: MemoryLimit,
}

impl<A: Aggregate<T>, T: 'static> Operator for StatesSoFar<A, T> {
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn state(&self) -> StateKind {
        state_of(&self.aggregate)
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.lost.is_some() {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.sums.save(to)?;
        self.all.save(to)
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.sums.load(from)?;
        self.all.load(from)?;
        // A state that finds no room later may be of any number of them.
        let loaded = self.sums.of(&BatchStats::default());
        self.all.set_records(loaded.tokens);
        Ok(())
    }

    fn start(&mut self, context: &mut StartContext<'_>) -> error::Result<()> {
        self.limit.start(context);
        Ok(())
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        let (all, has_begun, sums) = (&mut self.all, &mut self.has_begun, &mut self.sums);
        let mut batch_stats = BatchStats::default();
        let states = &self.states;
        self.table.make(now.time, |table| {
            let merged = Failure::catch_in_records(|| {
                states.look(now.time, |batch, stats| {
                    if !std::mem::replace(has_begun, true) {
                        // Tables of one seed are merged faster.
                        let loaded = std::mem::replace(all, batch.empty_like());
                        all.merge_within(&loaded);
                        *table = batch.results();
                    }
                    all.merge_within(batch);
                    *stats
                })
            });
            batch_stats = merged?.unwrap_or_default();
            sums.enter(batch_stats);
            Failure::catch_in_records(|| {
                all.finish_into(table);
                Ok(())
            })?;
            let stats = BatchStats {
                time: now.time,
                keys: all.len() as u64,
                ..sums.of(&batch_stats)
            };
            Ok(Some(stats.with(all.overflow())))
        })?;
        self.limit.enter(&batch_stats);
        self.limit.report(now, self.all.overflow());
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        if self.lost.is_none() {
            self.lost = Some(Failure::states_lost(1));
        }
        self.table.fail(time, failure);
    }
}
