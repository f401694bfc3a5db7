//! However the bytes are cut into pushes and the pushes into batches, each batch is what the
//! definition says. Lines above the record limit may fall into several batches, so there the sums
//! are compared, and exactly the words above the limit are missing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::internals::Kernel;
use microtally::time::BatchTime;
use microtally::{Config, Tally};
use microtally_fuzz::definition::{Definition, Expected};
use microtally_fuzz::{AnyRule, Step};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    rule: AnyRule,
    block_bytes: u8,
    limit_bytes: Option<u8>,
    steps: Vec<Step<'a>>,
}

fuzz_target!(|input: Input<'_>| {
    let limit = (input.limit_bytes).map_or(1 << 20, |more| 64 + usize::from(more));
    let config = Config::default().block_bytes(64 + usize::from(input.block_bytes));
    let config = config.record_bytes_max(limit);
    // The tokens of a small batch go through a kernel only if they have to.
    let tally = match input.block_bytes % 2 {
        0 => Tally::with_config(input.rule.into(), &config),
        _ => Tally::with_kernel(input.rule.into(), &config, Kernel::detect()),
    };
    let (mut tally, mut definition) = (tally.unwrap(), Definition::new(input.rule.into()));
    let (mut all, mut all_expected, mut oversize) = (Expected::default(), Expected::default(), 0);
    for step in input.steps.iter().chain([&Step::End, &Step::Cut]) {
        tally.push(&step.bytes());
        definition.push(&step.bytes());
        if let Step::Record(record) = step {
            let is_taken = tally.record(record).is_ok();
            let is_allowed = record.len() <= limit && definition.is_between_lines();
            assert_eq!(is_taken, is_allowed);
            if is_taken {
                definition.push_record(record);
            }
        } else if matches!(step, Step::End) {
            tally.end_of_stream();
            definition.end_of_stream();
        } else if matches!(step, Step::Cut) {
            let batch = tally.cut(BatchTime::default()).expect("the ledger closes");
            oversize += batch.stats().oversize_tokens;
            let (got, expected) = (Expected::seen(&batch), definition.cut());
            assert!(
                input.limit_bytes.is_some() || got == expected,
                "{got:?}\n{expected:?}"
            );
            (all, all_expected) = (all.plus(got), all_expected.plus(expected));
        }
    }
    assert_eq!((all, oversize), all_expected.without_longer(limit));
});
