//! The same operators behind tables: bytes that come in by a source are counted and folded in the
//! shards.

use std::collections::BTreeMap;
use std::time::Duration;

use microtally::prelude::*;
use microtally::sources::{ChannelId, Fill, Intake, Source};
use microtally::stream::LineRecords;
use microtally::stream::{DStream, Dialect};
use proptest::prelude::*;

use crate::run::{Seen, Watched, dialects, run_well, sorted};
use crate::windows::{Shape, inverse_windows, shapes, sums};

/// The text of each batch.
struct Texts {
    batches: std::vec::IntoIter<String>,
    /// What of the batch at hand was not given yet.
    rest: Vec<u8>,
    /// Bytes that are given at once, at most.
    piece_bytes: usize,
}

impl Source for Texts {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        if self.rest.is_empty() {
            return Fill::Complete;
        }
        let len = self.rest.len().min(self.piece_bytes);
        let len = out.write(ChannelId::FIRST, &self.rest[..len]);
        self.rest.drain(..len);
        Fill::More
    }

    fn batch_due(&mut self, _time: BatchTime) -> bool {
        self.rest = self.batches.next().unwrap_or_default().into_bytes();
        true
    }

    fn name(&self) -> &str {
        "texts"
    }
}

/// Lines of a few words, batch by batch.
pub(crate) fn texts() -> impl Strategy<Value = Vec<String>> {
    let batch = proptest::collection::vec("[abc]( [abcd]{0,2}){0,3}", 0..5);
    let text = |lines: Vec<String>| {
        lines
            .into_iter()
            .map(|line| line + "\n")
            .collect::<String>()
    };
    proptest::collection::vec(batch.prop_map(text), 1..12)
}

pub(crate) fn lines(
    context: &StreamingContext,
    texts: &[String],
    piece_bytes: usize,
) -> DStream<LineRecords> {
    let batches = texts.to_vec();
    context.source_stream(Texts {
        batches: batches.into_iter(),
        rest: Vec::new(),
        piece_bytes,
    })
}

type Row = (Vec<u8>, i64);

/// The words of each batch, each with its length.
fn words(texts: &[String]) -> Vec<Option<Vec<Row>>> {
    let words = |text: &String| {
        text.lines()
            .flat_map(|line| line.split(' '))
            .map(|word| (word.as_bytes().to_vec(), word.len() as i64))
            .collect()
    };
    texts.iter().map(|text| Some(words(text))).collect()
}

/// The words of each batch, each once.
fn ones(texts: &[String]) -> Vec<Option<Vec<Row>>> {
    let one = |(word, _): Row| (word, 1);
    let batches = words(texts).into_iter();
    batches
        .map(|batch| batch.map(|rows| rows.into_iter().map(one).collect()))
        .collect()
}

/// The values of each key of each batch, folded.
fn folded(batches: &[Option<Vec<Row>>], fold: fn(i64, i64) -> i64) -> Vec<Option<Vec<Row>>> {
    let of_batch = |rows: &Vec<Row>| {
        let mut values: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (key, value) in rows {
            let sum = values.get(key).map_or(*value, |sum| fold(*sum, *value));
            values.insert(key.clone(), sum);
        }
        values.into_iter().collect()
    };
    batches
        .iter()
        .map(|batch| batch.as_ref().map(of_batch))
        .collect()
}

fn numbered<T>(batches: Vec<Option<Vec<T>>>) -> Seen<T> {
    let batches = batches.into_iter().enumerate();
    batches
        .filter_map(|(index, batch)| Some((index + 1, batch?)))
        .collect()
}

/// Unsigned values as signed ones.
fn signed(seen: Seen<(Vec<u8>, u64)>) -> Seen<Row> {
    let row = |(key, value)| (key, value as i64);
    let seen = seen.into_iter();
    sorted(
        seen.map(|(number, rows)| (number, rows.into_iter().map(row).collect()))
            .collect(),
    )
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn subtract(a: i64, b: i64) -> i64 {
    a - b
}

/// The windows of batches that are folded anew, their values folded by `fold`.
fn folded_windows(
    shape: Shape,
    batches: &[Option<Vec<Row>>],
    fold: fn(i64, i64) -> i64,
) -> Seen<Row> {
    let of_window = |end| Some(shape.batches(batches, end).flatten().cloned().collect());
    let ends: Vec<usize> = shape.ends(batches.len()).collect();
    let windows: Vec<Option<Vec<Row>>> = ends.iter().map(|end| of_window(*end)).collect();
    let windows = numbered(folded(&windows, fold)).into_iter();
    windows
        .map(|(number, rows)| (ends[number - 1], rows))
        .collect()
}

fn pieces() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(7), Just(1 << 20)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_is_a_batch_of_rows(
        dialect in dialects(),
        texts in texts(),
        piece_bytes in pieces(),
        top in 0usize..6,
    ) {
        let (counts, lengths, count, joined, mapped, filtered, highest) =
            run_well(dialect, texts.len(), |context| {
                let lines = lines(context, &texts, piece_bytes);
                let words = lines.split(b' ');
                let counts = words.count_by_value();
                let lengths = words.map(|word| (word, word.len() as i64)).reduce_by_key(add);
                let joined = counts.pairs().join(&lengths.pairs()).expect("one slide");
                (
                    Watched::of_tables(&counts),
                    Watched::of_tables(&lengths),
                    Watched::of(&words.count()),
                    Watched::of(&joined),
                    Watched::of(&counts.pairs().map_values(|n| n * n)),
                    Watched::of(&lengths.pairs().filter(|(word, sum)| word.len() as i64 != *sum)),
                    Watched::of(&counts.top(top)),
                )
            });
        let word_counts = numbered(folded(&ones(&texts), add));
        prop_assert_eq!(signed(counts.seen()), word_counts.clone());
        let word_lengths = numbered(folded(&words(&texts), add));
        prop_assert_eq!(lengths.sorted(), word_lengths.clone());
        let all = numbered(words(&texts)).into_iter().map(|(number, words)| {
            let is_counted = dialect == Dialect::Scala || !words.is_empty();
            (number, is_counted.then_some(words.len() as u64).into_iter().collect())
        });
        prop_assert_eq!(count.seen(), all.collect::<Vec<_>>());
        let pairs = word_counts.iter().zip(&word_lengths).map(|((number, counts), (_, lengths))| {
            let mut rows = Vec::new();
            for (word, count) in counts {
                for (other, length) in lengths {
                    if word == other {
                        rows.push((word.clone(), (*count as u64, *length)));
                    }
                }
            }
            (*number, rows)
        });
        prop_assert_eq!(joined.sorted(), pairs.collect::<Vec<_>>());
        let mut squares = word_counts.clone();
        squares.iter_mut().flat_map(|(_, rows)| rows).for_each(|(_, count)| *count *= *count);
        prop_assert_eq!(signed(mapped.seen()), squares);
        let mut several = word_lengths;
        several.iter_mut().for_each(|(_, rows)| rows.retain(|(word, sum)| word.len() as i64 != *sum));
        prop_assert_eq!(filtered.sorted(), several);
        let mut ranked = word_counts;
        for (_, rows) in &mut ranked {
            rows.sort_by_key(|(word, count)| (-count, word.clone()));
            rows.truncate(top);
        }
        let highest = highest.seen().into_iter().map(|(number, rows)| {
            (number, rows.into_iter().map(|(word, count)| (word, count as i64)).collect())
        });
        prop_assert_eq!(highest.collect::<Vec<_>>(), ranked);
    }

    /// The first value of a key and the others go different ways.
    #[test]
    fn combined_values_are_those_of_a_loop(texts in texts(), piece_bytes in pieces()) {
        type Combined = (u32, u64, i64);
        let create = |n: i64| (1, 1 << n, n);
        let merge_value = |(count, set, most): Combined, n: i64| (count + 1, set | 1 << n, most.max(n));
        let combined = run_well(Dialect::Scala, texts.len(), |context| {
            let words = lines(context, &texts, piece_bytes).split(b' ');
            let values = words.map(|word| (&word[..word.len().min(1)], word.len() as i64));
            let merge = |(a, b, c): Combined, (d, e, f): Combined| (a + d, b | e, c.max(f));
            Watched::of_tables(&values.combine_by_key(create, merge_value, merge))
        });
        let expected = words(&texts).into_iter().map(|batch| {
            let mut model: BTreeMap<Vec<u8>, Combined> = BTreeMap::new();
            for (word, length) in batch.into_iter().flatten() {
                let key = word[..word.len().min(1)].to_vec();
                let value = match model.get(&key) {
                    Some(combined) => merge_value(*combined, length),
                    None => create(length),
                };
                model.insert(key, value);
            }
            Some(model.into_iter().collect())
        });
        prop_assert_eq!(combined.sorted(), numbered(expected.collect()));
    }

    #[test]
    fn windows_over_tables_are_recomputed_from_the_text(
        dialect in dialects(),
        texts in texts(),
        piece_bytes in pieces(),
        shape in shapes(),
    ) {
        let (longest, kept, filtered, counts, count, all) = run_well(dialect, texts.len(), |context| {
            let lines = lines(context, &texts, piece_bytes);
            let words = lines.split(b' ');
            let window = || shape.window();
            let lengths = words.map(|word| (word, word.len() as i64 + 1)).reduce_by_key(add);
            let filtered = lengths.reduce_by_key_and_window_with_inverse_and_filter(
                add, subtract, window(), |_, sum| sum != 0,
            );
            let kept = lengths.reduce_by_key_and_window_with_inverse(add, subtract, window());
            (
                Watched::of_tables(&lengths.reduce_by_key_and_window(i64::max, window()).expect("it fits")),
                Watched::of_tables(&kept.expect("it fits")),
                Watched::of_tables(&filtered.expect("it fits")),
                Watched::of_tables(&words.count_by_value_and_window(window()).expect("it fits")),
                Watched::of(&words.count_by_window(window()).expect("it fits")),
                Watched::of(&words.window(window()).expect("it fits")),
            )
        });
        let mut longer = words(&texts);
        longer.iter_mut().flatten().flatten().for_each(|(_, length)| *length += 1);
        let expected = folded_windows(shape, &folded(&longer, add), i64::max);
        prop_assert_eq!(longest.sorted(), expected);
        prop_assert_eq!(kept.sorted(), sums(inverse_windows(dialect, shape, &longer, None)));
        let is_some = |values: &[i64]| !values.is_empty();
        let expected = sums(inverse_windows(dialect, shape, &longer, Some(&is_some)));
        prop_assert_eq!(filtered.sorted(), expected);
        prop_assert_eq!(signed(counts.seen()), folded_windows(shape, &ones(&texts), add));
        let unkeyed: Vec<_> = ones(&texts).into_iter().map(|batch| {
            batch.map(|rows| rows.into_iter().map(|(_, one)| ((), one)).collect::<Vec<_>>())
        }).collect();
        let expected = sums(inverse_windows(dialect, shape, &unkeyed, None)).into_iter();
        let expected = expected.map(|(end, rows)| (end, rows.into_iter().map(|((), n)| n as u64).collect()));
        prop_assert_eq!(count.seen(), expected.collect::<Vec<_>>());
        let words = words(&texts);
        let records = shape.ends(texts.len()).map(|end| {
            (end, shape.batches(&words, end).flatten().map(|(word, _)| word.clone()).collect())
        });
        prop_assert_eq!(all.seen(), records.collect::<Vec<_>>());
    }

    #[test]
    fn windows_are_made_of_windows_of_tables(
        texts in texts(),
        inner in shapes(),
        outer in shapes(),
    ) {
        let highest = run_well(Dialect::Scala, texts.len(), |context| {
            let counts = lines(context, &texts, 64).split(b' ').count_by_value();
            let add = |a, b| a + b;
            let sums = counts.reduce_by_key_and_window(add, inner.window()).expect("it fits");
            let in_slides = Shape { length: outer.length * inner.slide, slide: outer.slide * inner.slide };
            let highest = sums.reduce_by_key_and_window(u64::max, in_slides.window());
            Watched::of_tables(&highest.expect("it fits"))
        });
        let sums = folded_windows(inner, &ones(&texts), add);
        let sums: Vec<Option<Vec<Row>>> = sums.into_iter().map(|(_, rows)| Some(rows)).collect();
        let mut expected = folded_windows(outer, &sums, i64::max);
        expected.iter_mut().for_each(|(end, _)| *end *= inner.slide);
        prop_assert_eq!(signed(highest.seen()), expected);
    }
}
