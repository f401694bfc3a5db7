//! Vocabularies that outgrow the caches: their words wait in groups before they are looked up, and
//! are in the batch all the same, whenever it is cut.

use std::collections::HashMap;
use std::io::Write;
use std::sync::mpsc;

use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule, Tally};

/// Enough for either class of words to wait: the tables of one class have 16 leaves of 7168 keys
/// before.
const WORDS: usize = 160_000;

/// Lines in which the numbered words stand, each as a short and as a longer one, in an order that
/// is not theirs; every third one twice.
fn text(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let mut text = Vec::new();
    for n in numbers {
        let n = n * 7919 % WORDS;
        write!(text, "{n:x} medium-{n:06}").expect("memory takes it");
        if n.is_multiple_of(3) {
            write!(text, " {n:x}").expect("memory takes it");
        }
        text.push(if n.is_multiple_of(10) { b'\n' } else { b' ' });
    }
    text.push(b'\n');
    text
}

fn expected(text: &[u8]) -> HashMap<Vec<u8>, u64> {
    let mut counts = HashMap::new();
    for line in text[..text.len() - 1].split(|&byte| byte == b'\n') {
        for word in line.split(|&byte| byte == b' ') {
            *counts.entry(word.to_vec()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn a_large_vocabulary_is_counted_in_the_batch_it_came_in() {
    let mut tally = Tally::new(Rule::Split(b' '));
    // The second batch begins with large tables, the third is small among them.
    for (batch, numbers) in [0..WORDS, 0..WORDS, 0..500, 0..WORDS]
        .into_iter()
        .enumerate()
    {
        let text = text(numbers);
        text.chunks(100_000).for_each(|part| tally.push(part));
        let time = BatchTime::from_millis(batch as u64);
        let counted = tally.cut(time).expect("the ledger closes");
        let found: HashMap<_, _> = counted.iter().map(|(k, n)| (k.to_vec(), n)).collect();
        assert!(found == expected(&text), "batch {batch}");
    }
}

#[test]
fn shards_with_large_vocabularies_are_merged() {
    let (sender, batches) = mpsc::channel();
    let engine = Engine::builder(Rule::Split(b' '))
        .config(Config::default().workers(2).pin(false))
        .start(move |batch| {
            let found: HashMap<_, _> = batch.iter().map(|(k, n)| (k.to_vec(), n)).collect();
            sender.send(found).expect("it is read below");
        });
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    for (batch, numbers) in [0..WORDS, 0..WORDS / 2].into_iter().enumerate() {
        let text = text(numbers);
        input.write_all(&text).expect("the engine runs");
        let time = BatchTime::from_millis(batch as u64);
        engine.cut(time).expect("the engine runs");
        let found = batches.recv().expect("each cut gives a batch");
        assert!(found == expected(&text), "batch {batch}");
    }
    drop(input);
    engine.finish().expect("the ledger closes");
}
