//! The engine's batches are the definition's, whatever the number of shards, inputs, writes and
//! cuts.
#![no_main]

use std::io::Write;
use std::sync::mpsc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::time::BatchTime;
use microtally::{Config, Engine};
use microtally_fuzz::definition::{Definition, Expected};
use microtally_fuzz::{AnyRule, Step};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    rule: AnyRule,
    workers: u8,
    steps: Vec<(u8, Step<'a>)>,
}

fuzz_target!(|case: Case<'_>| {
    let config = Config::default().workers(usize::from(case.workers % 4) + 1);
    let builder = Engine::builder(case.rule.into()).config(config.pin(false).block_bytes(64));
    let (sender, batches) = mpsc::channel();
    let builder = builder.writers(3);
    let engine = builder.start(move |batch| {
        sender
            .send(Expected::seen(batch))
            .expect("it is read below")
    });
    let engine = engine.expect("it starts");
    let mut inputs: Vec<_> = std::iter::from_fn(|| engine.writer().ok()).collect();
    let mut definitions = vec![Definition::new(case.rule.into()); inputs.len()];
    let mut expected: Vec<Expected> = Vec::new();
    for (index, step) in &case.steps {
        let index = usize::from(*index) % inputs.len();
        let written = inputs[index].write_all(&step.bytes());
        written.expect("the engine runs");
        definitions[index].push(&step.bytes());
        if matches!(step, Step::Cut) {
            let time = BatchTime::from_millis(expected.len() as u64);
            engine.cut(time).expect("the engine runs");
            expected.push(definitions.iter_mut().map(Definition::cut).sum());
        }
    }
    inputs.clear();
    definitions.iter_mut().for_each(Definition::end_of_stream);
    engine.finish().expect("the ledger closes");
    expected.push(definitions.iter_mut().map(Definition::cut).sum());
    assert_eq!(batches.iter().collect::<Vec<_>>(), expected);
});
