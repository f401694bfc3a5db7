//! A table equals a `BTreeMap` that is cleared on request.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::internals::{KeyTable, Seed};
use microtally_fuzz::add;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Add(&'a [u8], u32),
    /// Keys that differ only in their length and in one byte.
    AddRun(u8, u8),
    Get(&'a [u8]),
    Clear,
    Swap,
    Merge,
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let seed = Seed::random();
    let (mut table, mut other) = (KeyTable::new(seed), KeyTable::new(seed));
    let (mut model, mut other_model) = (BTreeMap::new(), BTreeMap::new());
    for step in &steps {
        match *step {
            Step::Add(key, value) => add(&mut table, &mut model, key, value.into()),
            Step::AddRun(byte, len) => add(&mut table, &mut model, &vec![byte; len.into()], 1),
            Step::Get(key) => assert_eq!(table.get(key), model.get(key).copied()),
            Step::Clear => (table.clear(), model.clear()).0,
            Step::Swap => {
                std::mem::swap(&mut table, &mut other);
                std::mem::swap(&mut model, &mut other_model);
            }
            Step::Merge => {
                table.merge_from(&other, |a, b| a + b);
                (other_model.iter())
                    .for_each(|(key, n)| *model.entry(key.clone()).or_default() += n);
            }
        }
    }
    let content: BTreeMap<_, _> = table.iter().map(|(key, n)| (key.to_vec(), n)).collect();
    assert_eq!((&content, table.len()), (&model, model.len()));
    assert!(model.iter().all(|(key, n)| table.get(key) == Some(*n)));
});
