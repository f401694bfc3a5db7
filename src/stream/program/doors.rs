//! Pipelines for `Tally` and `Engine`, built with the operators of streams.
//!
//! Promise: what a `StreamingContext` would run in its shards, and nothing else: streams that need
//! whole batches are refused by name.
//! Must not know: `ops`, `source`, `sink`.

use std::any::Any;
use std::sync::Arc;

use crate::config::Config;
use crate::engine::plan::{NamedPipeline, Pipeline};
use crate::engine::results::{Keyed, PipelineResults};
use crate::engine::{Engine, EngineBuilder};
use crate::epoch::hand_over::PartialAggregate;
use crate::error::{Error, Result};
use crate::shard::stage::LineRecords;
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{NodeId, NodeWork};
use crate::stream::program::dstream::DStream;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::tally::Tally;

/// What a [`Tally`] or an [`Engine`] can run: a [`Reduced`] that the shards make, an
/// [`Aggregated`](crate::stream::Aggregated), whose results the batches hold, or a tuple of two to
/// four.
pub trait Pipelines {
    /// The types of the results.
    type Results: PipelineResults;
    /// Adds the pipelines to `chosen`, in order.
    fn choose(&self, chosen: &mut Chosen);
}

/// The pipelines that a program returned. Only the crate makes it.
#[derive(Debug, Default)]
pub struct Chosen(Vec<ChosenPipeline>);

#[derive(Debug)]
struct ChosenPipeline {
    plan: PlanBuilder,
    id: NodeId,
    /// The values are those of its table.
    is_table: fn(&dyn Any) -> bool,
}

impl Chosen {
    /// Adds the numbered stream of `plan`, whose batches are tables of type `P`.
    pub(crate) fn add<P: PartialAggregate>(&mut self, plan: &PlanBuilder, id: NodeId) {
        self.0.push(ChosenPipeline {
            plan: plan.clone(),
            id,
            is_table: |partial| partial.is::<P>(),
        });
    }
}

impl<V: Copy + Send + Sync + 'static> Pipelines for Reduced<V> {
    type Results = Keyed<V>;

    fn choose(&self, chosen: &mut Chosen) {
        chosen.add::<KeyTable<V>>(&self.plan, self.id);
    }
}

macro_rules! pipelines_of_tuples {
    ($($($part:ident $at:tt),*;)*) => {$(
        impl<$($part: Pipelines),*> Pipelines for ($($part,)*) {
            type Results = ($($part::Results,)*);

            fn choose(&self, chosen: &mut Chosen) {
                $(self.$at.choose(chosen);)*
            }
        }
    )*};
}
pipelines_of_tuples! {
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}

impl Tally {
    /// A tally that runs the pipelines which `build` makes of the lines that are pushed. The
    /// settings of `config` are those of [`with_config`](Self::with_config).
    ///
    /// They are built with the operators of [`DStream`], and run as the shards of a
    /// [`StreamingContext`](crate::StreamingContext) run them. [`cut`](Self::cut) then returns one
    /// [`Batch`](crate::Batch) for each.
    ///
    /// ```
    /// use microtally::aggregate::{Count, Max};
    /// use microtally::time::BatchTime;
    /// use microtally::{Config, Tally};
    ///
    /// let mut tally = Tally::pipelines(&Config::default(), |lines| {
    ///     let gets = lines.filter(|line| line.starts_with(b"GET "));
    ///     let routes = gets.field(1, b' ').count_by_value();
    ///     let lengths = lines.map(|line| (&line[..3], line.len() as u64));
    ///     (routes, lengths.aggregate_by_key((Count, Max)))
    /// })?;
    /// tally.push(b"GET /a\nPUT /b\nGET /a?b\n");
    /// let (routes, lengths) = tally.cut(BatchTime::from_millis(1))?;
    /// assert_eq!(routes.get(b"/a"), Some(1));
    /// assert_eq!(lengths.get(b"GET"), Some((2, 8)));
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`with_config`](Self::with_config), and what `build` returns needs whole batches:
    /// windows, states, outputs and other operators of tables need a `StreamingContext`.
    pub fn pipelines<P: Pipelines>(
        config: &Config,
        build: impl FnOnce(&DStream<LineRecords>) -> P,
    ) -> Result<Tally<P::Results>> {
        Tally::of(lowered(build)?, config, None)
    }
}

impl Engine {
    /// Returns the settings of an engine that runs the pipelines which `build` makes of the lines
    /// that are written.
    ///
    /// They are built with the operators of [`DStream`], and run as the shards of a
    /// [`StreamingContext`](crate::StreamingContext) run them. The output is called with one
    /// [`Batch`](crate::Batch) for each. What [`Tally::pipelines`] refuses, the start refuses.
    ///
    /// ```
    /// use microtally::Engine;
    ///
    /// let builder = Engine::pipelines(|lines| {
    ///     let errors = lines.filter(|line| line.starts_with(b"ERROR "));
    ///     (errors.field(1, b' ').count_by_value(), lines.split(b' ').count_by_value())
    /// });
    /// let engine = builder.workers(2).start(|(hosts, words)| {
    ///     println!("{} hosts with errors, {} words", hosts.len(), words.len());
    /// })?;
    /// let mut writer = engine.writer()?;
    /// writer.record(b"ERROR web1 lost")?;
    /// writer.record(b"INFO web1 found")?;
    /// drop(writer);
    /// let finished = engine.finish()?;
    /// let (hosts, words) = finished.batch();
    /// assert_eq!(hosts.get(b"web1"), Some(1));
    /// assert_eq!(words.get(b"web1"), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pipelines<P: Pipelines>(
        build: impl FnOnce(&DStream<LineRecords>) -> P,
    ) -> EngineBuilder<P::Results> {
        EngineBuilder::of(lowered(build))
    }
}

/// Returns the pipelines that `build` makes.
fn lowered<P: Pipelines>(
    build: impl FnOnce(&DStream<LineRecords>) -> P,
) -> Result<Vec<NamedPipeline>> {
    let builder = PlanBuilder::new(1, None);
    let pipelines = build(&builder.lines("lines"));
    let mut chosen = Chosen::default();
    pipelines.choose(&mut chosen);
    builder.check(chosen.0.iter().map(|chosen| &chosen.plan))?;
    let plan = builder.finish()?;
    if let Some(output) = plan.outputs().next() {
        let name = output.kind;
        return Err(Error::refused(format!(
            "{name}: an output needs a StreamingContext; here the caller gets the batches"
        )));
    }
    let named = chosen.0.iter().map(|chosen| {
        let name = Arc::clone(&plan.names[chosen.id]);
        let pipeline = match plan.nodes[chosen.id].work {
            NodeWork::Batches {
                reads: Some(index), ..
            } => Some(&plan.pipelines[index]),
            _ => None,
        };
        let is_table = |pipeline: &&Arc<dyn Pipeline>| {
            let partial = pipeline.partial(Seed::random(), MemoryCap::NONE);
            (chosen.is_table)(partial.as_ref())
        };
        let pipeline = pipeline.filter(is_table).cloned();
        let pipeline = pipeline.ok_or_else(|| {
            Error::refused(format!(
                "{name}: it is made of whole batches, which needs a StreamingContext; return what the shards reduce"
            ))
        })?;
        Ok(NamedPipeline { name, pipeline })
    });
    named.collect()
}
