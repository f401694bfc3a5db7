//! `Reduced`: a stream of tables, one value per key.

use std::sync::Arc;

use crate::save::{CodecSlot, Saved};
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{NodeId, Operator};
use crate::stream::plan::lent_table::{BatchTable, LentTable, TableHolder};
use crate::stream::program::rdd_stream::RddStream;
use crate::table::KeyTable;

/// A stream whose batches are tables: one value per key.
///
/// The shards fold the records, so a batch is as large as its keys, however many records it had.
/// [`pairs`](Self::pairs) turns it into a stream of records.
pub struct Reduced<V> {
    pub(crate) plan: PlanBuilder,
    pub(crate) id: NodeId,
    /// Milliseconds from batch to batch.
    pub(crate) slide_ms: u64,
    pub(crate) table: Arc<dyn BatchTable<V>>,
    /// How the values are saved, if an operator keeps them.
    pub(crate) codec: CodecSlot<V>,
}

debug_fields!([V] Reduced<V>, "Reduced", id, slide_ms);

impl<V> Clone for Reduced<V> {
    fn clone(&self) -> Self {
        Reduced {
            plan: self.plan.clone(),
            table: Arc::clone(&self.table),
            codec: self.codec.clone(),
            ..*self
        }
    }
}

impl PlanBuilder {
    /// The stream whose batches `operator` makes in `table`. An operator that keeps values sets the
    /// stream's `codec`.
    pub(crate) fn table_stream<V, H>(
        &self,
        kind: &'static str,
        table: Arc<LentTable<H>>,
        parents: Vec<NodeId>,
        slide_ms: u64,
        operator: Box<dyn Operator>,
    ) -> Reduced<V>
    where
        H: TableHolder<Value = V> + AsRef<KeyTable<V>> + 'static,
    {
        Reduced {
            plan: self.clone(),
            id: self.add_batches(kind, parents, slide_ms, operator),
            slide_ms,
            table,
            codec: CodecSlot::default(),
        }
    }
}

impl<V: Copy + Saved> Reduced<V> {
    /// Lets the state of the operator that made this stream be saved, if it has one, where values
    /// are of a custom type. Numbers, `bool` and `char` need no such call.
    ///
    /// [`operators`](crate::stream::operators) says which operators have states.
    #[must_use]
    pub fn checkpointed(self) -> Self {
        self.codec.set();
        self
    }
}

impl<V: Copy + Send + Sync + 'static> Reduced<V> {
    /// Names this stream; see [`DStream::named`](crate::stream::DStream::named).
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.plan.name(self.id, name.into());
        self
    }

    /// The keys and values of each batch as a stream of records, in no particular order: the way to
    /// joins, states and all other operators of the batch plane. Each key is copied once a batch.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let counts = run_lines("a\nb\na\n", |lines| {
    ///     Ok(lines.count_by_value().pairs().sort_by(Ord::cmp))
    /// })?;
    /// assert_eq!(counts, [("a".into(), 2), ("b".into(), 1)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn pairs(&self) -> RddStream<(Vec<u8>, V)> {
        let table = Arc::clone(&self.table);
        self.plan
            .taken_stream("pairs", vec![self.id], self.slide_ms, move |now| {
                table.map(now.time, |table, _| {
                    let entries = table.iter();
                    entries.map(|(key, value)| (key.to_vec(), value)).collect()
                })
            })
    }
}
