//! Pipelines with computed keys, the values of a key reduced.
//!
//! Promise: the table that `table.add(key, value, reduce)` makes for one record after the other,
//! the function called once a record and in order. Nothing is allocated for a known key. Must not
//! know: where blocks come from, when an epoch ends, what the functions do.
//!
//! The naive version is that loop of `add`s. A computed key is not in its block, so the chunks and
//! lists of `keyed` cannot point at it. Here keys are copied one behind the other. When there are
//! some hundreds of them, their memory takes the role of the block, and they go the same three
//! ways. A copy of some bytes costs less than a look-up that waits for memory.

use std::sync::Arc;

use super::{ConstantCounts, GATHERED_MAX, PairSink, is_primitive};
use crate::epoch::hand_over::PartialAggregate;
use crate::epoch::merge::table_of_mut;
use crate::limits::GUARD_BYTES;
use crate::ring::arena::Block;
use crate::shard::pack::place;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Splitter, Tallied};
use crate::table::KeyTable;

/// The most waiting keys. This many fit the first-level cache, packed.
const WAITING_MAX: usize = 1 << 10;

/// Bytes of waiting keys, up to one key more.
const WAITING_BYTES: usize = 32 << 10;

/// Memory for keys that is kept; what a longer key needed is freed.
const KEPT_BYTES: usize = 1 << 20;

/// Reduces the values of computed keys.
pub(crate) struct ComputedStage<R, S, I, M, V, F> {
    records: R,
    init: Arc<I>,
    map: Arc<M>,
    reduce: Arc<F>,
    splitter: Splitter,
    /// What the user-supplied `init` made, one a shard.
    state: S,
    /// The key being made.
    key: Vec<u8>,
    waiting: Waiting<V>,
    constants: ConstantCounts<V>,
    gathered: Vec<(u64, V)>,
}

/// Keys with their values; empty between two blocks.
struct Waiting<V> {
    /// The keys' bytes, one behind the other.
    bytes: Vec<u8>,
    /// Where each key is in `bytes`, and its value.
    pairs: Vec<(u64, V)>,
}

impl<R, S, I, M, V, F> ComputedStage<R, S, I, M, V, F>
where
    R: Records,
    V: Copy + Send + 'static,
    I: Fn() -> S,
{
    /// `init` makes the state that `map` may change from record to record. `map` appends a record's
    /// key to the empty buffer it gets, and returns the value, or `None` if the record has none.
    /// `reduce` folds the values of a key. `counts` is an empty table with the pipeline's seed.
    pub(crate) fn new(
        records: R,
        init: Arc<I>,
        map: Arc<M>,
        reduce: Arc<F>,
        kernel: Kernel,
        counts: KeyTable<u64>,
    ) -> Self {
        ComputedStage {
            splitter: Splitter::new(records.rule(), kernel),
            records,
            state: init(),
            init,
            map,
            reduce,
            key: Vec::new(),
            waiting: Waiting {
                bytes: Vec::with_capacity(WAITING_BYTES + GUARD_BYTES),
                pairs: Vec::with_capacity(WAITING_MAX),
            },
            constants: ConstantCounts::new(kernel, counts),
            gathered: Vec::with_capacity(GATHERED_MAX),
        }
    }
}

impl<R, S, I, M, V, F> Stage for ComputedStage<R, S, I, M, V, F>
where
    R: Records,
    S: Send,
    V: Copy + Send + 'static,
    I: Fn() -> S + Send + Sync,
    M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync,
    F: Fn(V, V) -> V + Send + Sync,
{
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let table = table_of_mut::<V>(into);
        self.constants.begin(table);
        let is_large = table.is_large();
        let ComputedStage {
            records,
            map,
            reduce,
            splitter,
            state,
            key,
            waiting,
            constants,
            gathered,
            ..
        } = self;
        let (map, reduce) = (&**map, &**reduce);
        let mut add = |waiting: &mut Waiting<V>| {
            waiting.add(constants, gathered, table, reduce, is_large);
        };
        let mut tokens = 0;
        let tallied = records.for_each(splitter, block.content(), |record| {
            key.clear();
            let Some(value) = map(state, record, key) else {
                return;
            };
            tokens += 1;
            let at = place(waiting.bytes.len(), key.len());
            waiting.bytes.extend_from_slice(key);
            waiting.pairs.push((at, value));
            if waiting.pairs.len() == WAITING_MAX || waiting.bytes.len() > WAITING_BYTES {
                add(waiting);
            }
        });
        add(waiting);
        if key.capacity() > KEPT_BYTES {
            *key = Vec::new();
        }
        Tallied { tokens, ..tallied }
    }

    fn flush(&mut self, into: &mut dyn PartialAggregate) {
        self.constants.flush(table_of_mut(into), &*self.reduce);
    }

    fn is_full(&self) -> bool {
        self.constants.is_full()
    }

    fn abandon(&mut self, _into: &mut dyn PartialAggregate) {
        self.waiting.bytes.clear();
        self.waiting.pairs.clear();
        self.gathered.clear();
        self.constants.abandon();
        // A function that panicked may have left it inconsistent.
        self.state = (self.init)();
    }
}

impl<V: Copy + Send + 'static> Waiting<V> {
    /// Adds all pairs.
    #[inline(never)]
    fn add(
        &mut self,
        constants: &mut ConstantCounts<V>,
        gathered: &mut Vec<(u64, V)>,
        table: &mut KeyTable<V>,
        reduce: &impl Fn(V, V) -> V,
        is_large: bool,
    ) {
        self.bytes.extend_from_slice(&[0; GUARD_BYTES]);
        let mut pairs = PairSink {
            around: &self.bytes,
            constants,
            gathered,
            table,
            reduce,
            varies: !is_primitive::<V>(),
            is_large,
        };
        for &(at, value) in &self.pairs {
            let (start, len) = (at as u32 as usize, (at >> 32) as usize);
            pairs.push(&self.bytes[start..start + len], value);
        }
        pairs.finish();
        self.pairs.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;
    use crate::ring::arena::Arena;
    use crate::shard::stage::LineRecords;
    use crate::table::keys::Seed;

    fn block(text: &[u8]) -> Block {
        let mut block = Arena::new(text.len(), 1).expect("memory").block();
        block.append(text);
        block
    }

    fn stage<S: Send, V: Copy + Send + 'static>(
        init: impl Fn() -> S + Send + Sync,
        map: impl Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync,
        reduce: impl Fn(V, V) -> V + Send + Sync,
        kernel: Kernel,
    ) -> impl Stage {
        let seed = Seed::from_words(1, 2, 3);
        let (map, reduce) = (Arc::new(map), Arc::new(reduce));
        ComputedStage::new(
            LineRecords,
            Arc::new(init),
            map,
            reduce,
            kernel,
            KeyTable::new(seed),
        )
    }

    /// The key of a line, for the pipeline and the model: some long, some empty, some ending in
    /// NUL, some longer than all that may wait.
    fn key_of(line: &[u8], key: &mut Vec<u8>) {
        for _ in 0..if line.contains(&b'z') { 4000 } else { 2 } {
            key.extend(line.iter().rev());
        }
    }

    /// Compares two epochs with a loop over the lines. Both know the number of the line.
    fn check<V>(
        lines: &[Vec<u8>],
        value: impl Fn(u64, &[u8]) -> Option<V> + Copy + Send + Sync,
        reduce: impl Fn(V, V) -> V + Copy + Send + Sync,
    ) where
        V: Copy + PartialEq + Debug + Send + 'static,
    {
        let text: Vec<u8> = lines
            .iter()
            .flat_map(|line| [line, &b"\n"[..]].concat())
            .collect();
        for kernel in Kernel::available() {
            let map = move |number: &mut u64, line: &[u8], key: &mut Vec<u8>| {
                *number += 1;
                key_of(line, key);
                value(*number, line)
            };
            let mut stage = stage(|| 0, map, reduce, kernel);
            let mut table = KeyTable::<V>::new(Seed::from_words(1, 2, 3));
            let mut number = 0;
            for _ in 0..2 {
                let mut model = BTreeMap::<Vec<u8>, V>::new();
                let mut pairs = 0;
                for line in lines {
                    number += 1;
                    let mut key = Vec::new();
                    key_of(line, &mut key);
                    if let Some(value) = value(number, line) {
                        pairs += 1;
                        let entry = model.entry(key);
                        entry
                            .and_modify(|old| *old = reduce(*old, value))
                            .or_insert(value);
                    }
                }
                let tallied = stage.block(&block(&text), &mut table);
                stage.flush(&mut table);
                assert_eq!(tallied.tokens, pairs);
                assert_eq!(tallied.records, lines.len() as u64);
                let found: BTreeMap<_, _> =
                    table.iter().map(|(key, v)| (key.to_vec(), v)).collect();
                assert_eq!(found, model, "{}", kernel.name());
                table.clear();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn keys_that_are_made_equal_the_model(
            lines in proptest::collection::vec(
                prop_oneof![
                    300 => "[ab\\x00]{0,4}",
                    60 => "[a-e]{3,12}",
                    1 => "z[a-e]{0,8}",
                ].prop_map(String::into_bytes),
                1..1800,
            ),
        ) {
            check(&lines, |_, _| Some(1u64), |a, b| a + b);
            check(&lines, |_, line| (line.len() % 3 != 1).then_some(1u64), |a, b| a + b);
            check(&lines, |number, _| Some(number), u64::max);
            // Values that cannot be compared, and a constant that changes late.
            check(&lines, |number, _| Some((number, 1u64)), |a, b| (a.0.min(b.0), a.1 + b.1));
            check(&lines, |number, _| Some(if number > 900 { 2i32 } else { 1 }), |a, b| a + b);
        }
    }

    #[test]
    fn after_a_panic_the_next_epoch_is_right_and_the_state_is_new() {
        let kernel = Kernel::detect();
        let map = |calls: &mut Cell<u64>, line: &[u8], key: &mut Vec<u8>| {
            calls.set(calls.get() + 1);
            assert!(line != b"boom");
            key.extend_from_slice(line);
            Some(calls.get())
        };
        let mut stage = stage(Cell::default, map, u64::max, kernel);
        let mut table = KeyTable::<u64>::new(Seed::from_words(1, 2, 3));
        let failed = catch_unwind(AssertUnwindSafe(|| {
            stage.block(&block(b"a\nb\nboom\n"), &mut table);
        }));
        assert!(failed.is_err());
        stage.abandon(&mut table);
        table.clear();
        stage.block(&block(b"a\nc\n"), &mut table);
        stage.flush(&mut table);
        assert_eq!(
            (table.len(), table.get(b"a"), table.get(b"c")),
            (2, Some(1), Some(2))
        );
    }

    /// A key of megabytes is counted, and its memory freed.
    #[test]
    fn memory_for_a_giant_key_is_not_kept() {
        let mut waiting = Waiting {
            bytes: vec![b'x'; 2 * KEPT_BYTES],
            pairs: vec![(place(0, 2 * KEPT_BYTES), 1u64)],
        };
        let seed = Seed::from_words(1, 2, 3);
        let mut constants = ConstantCounts::new(Kernel::detect(), KeyTable::new(seed));
        let mut table = KeyTable::new(seed);
        waiting.add(
            &mut constants,
            &mut Vec::new(),
            &mut table,
            &|a, b| a + b,
            false,
        );
        constants.flush(&mut table, &|a, b| a + b);
        assert_eq!(
            table
                .iter()
                .map(|(key, n)| (key.len(), n))
                .collect::<Vec<_>>(),
            [(2 * KEPT_BYTES, 1)]
        );
        assert!(waiting.bytes.capacity() <= KEPT_BYTES);
    }
}
