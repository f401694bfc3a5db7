//! A pipeline against the naive model: a loop over words with a `BTreeMap`.
//!
//! Every kernel, several epochs, blocks of different sizes; the text contains what is difficult for
//! splitting and packing. The pipeline's `map` counts its calls, so that looking at a token twice
//! is noticed even if it has no other effect.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::config::OnLimit;
use crate::ring::arena::Arena;
use crate::shard::stage::Tokens;
use crate::split::{BlockBytes, CHUNK_BYTES_MAX, LineEnds, Rule, scalar};
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;

const SEED: [u64; 3] = [7, 8, 9];

fn seed() -> Seed {
    Seed::from_words(SEED[0], SEED[1], SEED[2])
}

/// Tokens whose rule is not known to the pipeline.
#[derive(Clone)]
struct Opaque(Tokens);

impl Records for Opaque {
    fn rule(&self) -> Rule {
        self.0.rule()
    }

    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        self.0.for_each(splitter, block, f)
    }
}

/// Blocks of whole lines, each of `block_bytes` and the rest of a line.
fn blocks(text: &[u8], block_bytes: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let from = block_bytes.min(rest.len() - 1);
        let line = rest[from..].iter().position(|&byte| byte == b'\n');
        let (now, later) = rest.split_at(from + line.expect("text ends a line") + 1);
        let mut block = Arena::new(now.len(), 1).expect("memory").block();
        block.append(now);
        blocks.push(block);
        rest = later;
    }
    blocks
}

/// Runs `epochs` through a pipeline and through the model, for every kernel, with tokens as chunks
/// and one by one.
fn check_against_model<V, M, F>(rule: Rule, epochs: &[Vec<Block>], map: M, reduce: F)
where
    V: Copy + PartialEq + Debug + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Copy + Send + Sync + 'static,
    F: Fn(V, V) -> V + Copy + Send + Sync + 'static,
{
    let tokens = Tokens::new(rule);
    for kernel in Kernel::available() {
        check_records(tokens, kernel, epochs, map, reduce);
        check_records(Opaque(tokens), kernel, epochs, map, reduce);
    }
}

fn check_records<R, V, M, F>(records: R, kernel: Kernel, epochs: &[Vec<Block>], map: M, reduce: F)
where
    R: Records,
    V: Copy + PartialEq + Debug + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Copy + Send + Sync + 'static,
    F: Fn(V, V) -> V + Copy + Send + Sync + 'static,
{
    let rule = records.rule();
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let counted = of_any_lifetime(move |token| {
        counter.fetch_add(1, Ordering::Relaxed);
        map(token)
    });
    let mut stage = keyed(records, counted, reduce, kernel);
    // Two tables in turn, as the shard and the publisher have them.
    let mut tables = [KeyTable::<V>::new(seed()), KeyTable::<V>::new(seed())];
    for (number, epoch) in epochs.iter().enumerate() {
        let mut model = BTreeMap::<Vec<u8>, V>::new();
        let table = &mut tables[number % 2];
        table.clear();
        calls.store(0, Ordering::Relaxed);
        let mut tokens = 0;
        for block in epoch {
            let tallied = stage.block(block, table);
            let expected = scalar::tokens(block.bytes(), rule, LineEnds::Universal, |token| {
                let (key, value) = map(token);
                let entry = model.entry(key.to_vec());
                entry
                    .and_modify(|old| *old = reduce(*old, value))
                    .or_insert(value);
            });
            assert_eq!(tallied, expected, "{}", kernel.name());
            tokens += expected.tokens;
        }
        stage.flush(table);
        assert_eq!(calls.load(Ordering::Relaxed), tokens, "calls of `map`");
        assert_eq!(table.len(), model.len(), "{} {number}", kernel.name());
        let found: BTreeMap<Vec<u8>, V> = table.iter().map(|(key, v)| (key.to_vec(), v)).collect();
        assert_eq!(found, model, "{} {number}", kernel.name());
    }
}

fn keyed<R, M, V, F>(records: R, map: M, reduce: F, kernel: Kernel) -> KeyedStage<R, M, V, F>
where
    R: Records,
    V: Copy + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V),
    F: Fn(V, V) -> V,
{
    KeyedStage::new(
        records,
        Arc::new(map),
        Arc::new(reduce),
        kernel,
        KeyTable::new(seed()),
    )
}

/// The compiler infers this from a closure that is an argument, but not from one that has a name.
fn of_any_lifetime<V, M: Fn(&[u8]) -> (&[u8], V)>(map: M) -> M {
    map
}

/// Text of words, few of them frequent, with everything between them that is rare in text.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        40 => (0usize..12).prop_map(|n| vec![b'a' + n as u8; n % 7 + 1]),
        10 => proptest::collection::vec(b'a'..b'e', 0..12),
        4 => proptest::collection::vec(b'a'..b'c', 7..40),
        1 => Just(b"x".to_vec()),
        1 => Just(Vec::new()),
    ];
    let end = prop_oneof![
        20 => Just(" "),
        3 => Just("\n"),
        1 => Just("\r\n"),
        1 => Just("  "),
        1 => Just("\t\r"),
    ];
    let nul = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (proptest::collection::vec((word, end), 1..800), nul).prop_map(|(words, nul)| {
        let mut text: Vec<u8> = Vec::new();
        for (word, end) in &words {
            text.extend_from_slice(word);
            text.extend_from_slice(end.as_bytes());
        }
        if let Some(nul) = nul {
            let at = nul.index(text.len());
            if !b"\r\n".contains(&text[at]) {
                text[at] = 0;
            }
        }
        text.push(b'\n');
        text
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        3 => Just(Rule::Split(b' ')),
        1 => Just(Rule::SplitWhitespace),
        1 => Just(Rule::Lines)
    ]
}

fn epochs() -> impl Strategy<Value = Vec<Vec<Block>>> {
    let epoch = (
        text(),
        1usize..7,
        prop_oneof![100usize..2000, Just(1 << 20)],
    );
    proptest::collection::vec(epoch, 1..4).prop_map(|epochs| {
        let epochs = epochs.into_iter();
        // Repeated, to make several chunks.
        epochs
            .map(|(text, times, block_bytes)| blocks(&text.repeat(times), block_bytes))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn one_value_for_all_equals_the_model(rule in rule(), epochs in epochs()) {
        check_against_model(rule, &epochs, |word| (word, 1u64), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (word, 3u64), u64::max);
        check_against_model(rule, &epochs, |word| (word, 7u8), u8::wrapping_add);
        check_against_model(rule, &epochs, |word| (word, -2i32), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (word, 0.5f64), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (word, -0.0f32), f32::min);
    }

    #[test]
    fn other_keys_equal_the_model(rule in rule(), epochs in epochs()) {
        check_against_model(rule, &epochs, |word| (&word[..word.len().min(2)], 1u64), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (&word[word.len() / 2..], 5i64), i64::wrapping_mul);
        // The token itself, except for some.
        check_against_model(rule, &epochs, |word| if word == b"x" { (&word[..0], 1u32) } else { (word, 1) }, |a, b| a + b);
    }

    #[test]
    fn other_values_equal_the_model(rule in rule(), epochs in epochs()) {
        check_against_model(rule, &epochs, |word| (word, word.len()), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (word, word.len() as u64), u64::max);
        check_against_model(rule, &epochs, |word| (word, if word == b"x" { 9u64 } else { 1 }), |a, b| a + b);
        check_against_model(rule, &epochs, |word| (word, if word == b"x" { 9i16 } else { 1 }), i16::wrapping_add);
        // No primitive number: nothing is compared.
        check_against_model(rule, &epochs, |word| (word, (1u64, word.len())), |a, b| (a.0 + b.0, a.1.max(b.1)));
        check_against_model(rule, &epochs, |word| (word, f64::NAN.to_bits()), |a, _| a);
    }
}

#[test]
fn keys_from_elsewhere_are_counted() {
    let text = "to be or not\n".repeat(3000);
    let epoch = blocks(text.as_bytes(), 10_000);
    for kernel in Kernel::available() {
        let map = of_any_lifetime(|word| {
            let is_two = word.len() == 2;
            let key: &[u8] = if is_two {
                b"two"
            } else {
                b"a word of three letters"
            };
            (key, 1u64)
        });
        let mut stage = keyed(Tokens::new(Rule::Split(b' ')), map, |a, b| a + b, kernel);
        let mut table = KeyTable::<u64>::new(seed());
        for block in &epoch {
            stage.block(block, &mut table);
        }
        stage.flush(&mut table);
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(b"two"), Some(9000));
        assert_eq!(table.get(b"a word of three letters"), Some(3000));
    }
}

#[test]
fn a_batch_whose_only_key_in_the_table_was_refused_reports_it_itself() {
    let cap = MemoryCap {
        bytes: KeyTable::<u64>::bytes_min(),
        on_limit: OnLimit::Other,
        may_partition: false,
        pool: None,
    };
    let giant = "x".repeat(2 * cap.bytes);
    let first = blocks(format!("a a a {giant}\n").as_bytes(), 10 * cap.bytes);
    let second = blocks(b"a a a\n", 64);
    for kernel in Kernel::available() {
        let map = of_any_lifetime(|word| (word, if word.len() > 1 { 2u64 } else { 1 }));
        let bounded = || KeyTable::<u64>::bounded(seed(), cap.clone());
        let (map, reduce) = (Arc::new(map), Arc::new(|a, b| a + b));
        let tokens = Tokens::new(Rule::Split(b' '));
        let mut stage = KeyedStage::new(tokens, map, reduce, kernel, bounded());
        let mut tables = [bounded(), bounded()];
        for (epoch, table) in tables.iter_mut().enumerate() {
            let has_giant = epoch == 0;
            stage.block(if has_giant { &first[0] } else { &second[0] }, table);
            stage.flush(table);
            assert_eq!(table.get(b"a"), Some(3), "epoch {epoch}");
            assert_eq!(
                table.overflow().other,
                u64::from(has_giant),
                "epoch {epoch}"
            );
            assert!(!stage.is_full());
        }
    }
}

/// The first word of the first chunk makes the constant. Later words with another value are not
/// lost, wherever in a chunk they are, and neither are those before them.
#[test]
fn a_value_that_changes_within_a_chunk_and_between_chunks() {
    for odd_at in [
        0,
        1,
        500,
        CHUNK_BYTES_MAX / 2 - 1,
        CHUNK_BYTES_MAX / 2,
        20_000,
    ] {
        let mut text = b"a ".repeat(30_000);
        text[2 * odd_at] = b'b';
        text.push(b'\n');
        let epoch = [blocks(&text, 1 << 20)];
        check_against_model(
            Rule::Split(b' '),
            &epoch,
            |word| (word, if word == b"b" { 2u32 } else { 1 }),
            |a, b| a + b,
        );
        check_against_model(
            Rule::Split(b' '),
            &epoch,
            |word| (word, if word == b"b" { 2u64 } else { 1 }),
            |a, b| a + b,
        );
    }
}

#[test]
fn folds_take_few_calls_and_never_of_more_than_there_are() {
    for count in (1..3000).chain([u64::from(u32::MAX), 10_000_000_000]) {
        let calls = AtomicU64::new(0);
        let reduce = |a: u64, b: u64| {
            calls.fetch_add(1, Ordering::Relaxed);
            assert!(a + b <= 3 * count, "more than asked for");
            a + b
        };
        let mut folds = Folds::new(3, &reduce);
        assert_eq!(folds.of(count), 3 * count);
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls < count && calls <= 70, "{calls} for {count}");
    }
    // In any order, from one `Folds`.
    let mut folds = Folds::new(2u8, &u8::wrapping_mul);
    for count in [5, 1, 64, 2, 65, 63, 7, 300] {
        assert_eq!(folds.of(count), if count < 8 { 1 << count } else { 0 });
    }
}

/// A panic, in either function, fails its epoch and leaves nothing for the next one.
#[test]
fn after_a_panic_the_next_epoch_is_right() {
    for kernel in Kernel::available() {
        for in_reduce in [false, true] {
            for key_is_token in [false, true] {
                panic_once(kernel, in_reduce, key_is_token);
            }
        }
    }
}

fn panic_once(kernel: Kernel, in_reduce: bool, key_is_token: bool) {
    let armed = Arc::new(AtomicBool::new(true));
    let (in_map, fuse) = (Arc::clone(&armed), Arc::clone(&armed));
    let map = of_any_lifetime(move |word| {
        assert!(in_reduce || word != b"boom" || !in_map.load(Ordering::Relaxed));
        (if key_is_token { word } else { &word[..1] }, 1)
    });
    let reduce = move |a: u64, b: u64| {
        assert!(!in_reduce || !fuse.load(Ordering::Relaxed));
        a + b
    };
    let mut stage = keyed(Tokens::new(Rule::Split(b' ')), map, reduce, kernel);
    let mut table = KeyTable::<u64>::new(seed());
    let text = ["word another ".repeat(4000), "boom\n".to_owned()].concat();
    let epoch = blocks(text.as_bytes(), 1 << 20);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for block in &epoch {
            stage.block(block, &mut table);
        }
        stage.flush(&mut table);
    }));
    assert!(result.is_err());
    stage.abandon(&mut table);
    table.clear();
    armed.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        for block in &epoch {
            stage.block(block, &mut table);
        }
        stage.flush(&mut table);
        let (first, second, third): (&[u8], &[u8], &[u8]) = if key_is_token {
            (b"word", b"another", b"boom")
        } else {
            (b"w", b"a", b"b")
        };
        assert_eq!(table.len(), 3);
        assert_eq!(table.get(first), Some(4000));
        assert_eq!(table.get(second), Some(4000));
        assert_eq!(table.get(third), Some(1));
        table.clear();
    }
}
