//! Sinks that ask for retries, are slow, or fail for good.
//!
//! Goal: a sink has every batch in order, again and again until it takes it, not before the time it
//! asked for, and nothing after it has failed for good. Method: a script says what the sink answers
//! to each batch; it writes down every call, and the calls are compared with those of a loop over
//! batches and script.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::batch::BatchId;
use microtally::error::{ErrorKind, Result};
use microtally::prelude::*;
use microtally::sink::{Sink, Undelivered};
use microtally::time::Clock;
use microtally::{Config, Error};
use proptest::prelude::*;

use crate::run::INTERVAL_MS;
use crate::tables::{lines, texts};

type Counts = BTreeMap<Vec<u8>, u64>;

/// What a sink answers to one batch.
#[derive(Clone, Debug)]
struct Answer {
    /// The waits it asks for first, in milliseconds.
    retries_ms: Vec<u64>,
    is_fatal: bool,
}

/// A call of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    number: u64,
    counts: Counts,
    /// The wait it was answered with, if any.
    retry_ms: Option<u64>,
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let retries = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(0u64..3000, 1..4),
    ];
    let answer = (retries, proptest::bool::weighted(0.03));
    let answer = answer.prop_map(|(retries_ms, is_fatal)| Answer {
        retries_ms,
        is_fatal,
    });
    proptest::collection::vec(answer, 12)
}

fn error(text: &str) -> Error {
    Error::output("the test", &std::io::Error::other(text.to_owned()))
}

/// A sink that answers by a script.
struct Scripted {
    script: Vec<Answer>,
    /// Retries that the batch at hand has had.
    retries: usize,
    there: Option<BatchId>,
    clock: Clock,
    not_before: Duration,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Scripted {
    fn new(script: &[Answer], clock: &Clock) -> Self {
        Scripted {
            script: script.to_vec(),
            retries: 0,
            there: None,
            clock: clock.clone(),
            not_before: Duration::ZERO,
            calls: Arc::default(),
        }
    }
}

impl Sink<u64> for Scripted {
    fn deliver(&mut self, batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
        let number = batch.time().as_millis() / INTERVAL_MS;
        assert_eq!(batch.id().number, number);
        let answer = &self.script[number as usize - 1];
        let retry_ms = answer.retries_ms.get(self.retries).copied();
        self.calls.lock().unwrap().push(Call {
            number,
            counts: batch.iter().map(|(key, n)| (key.to_vec(), n)).collect(),
            retry_ms,
        });
        let now = self.clock.now();
        assert!(now >= self.not_before, "{now:?}, {:?}", self.not_before);
        if let Some(ms) = retry_ms {
            self.retries += 1;
            let after = Duration::from_millis(ms);
            self.not_before = now + after;
            let cause = error("busy");
            return Err(Undelivered::Retry { after, cause });
        }
        self.retries = 0;
        match answer.is_fatal {
            true => Err(error("gone").into()),
            false => Ok(()),
        }
    }

    fn delivered(&mut self) -> Result<Option<BatchId>> {
        Ok(self.there)
    }
}

/// The calls that a sink must get.
fn expected(texts: &[String], script: &[Answer], first: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    for (index, (text, answer)) in texts.iter().zip(script).enumerate().skip(first) {
        let mut counts = Counts::new();
        for word in text.lines().flat_map(|line| line.split(' ')) {
            *counts.entry(word.as_bytes().to_vec()).or_default() += 1;
        }
        let retries = answer.retries_ms.iter().copied().map(Some);
        calls.extend(retries.chain([None]).map(|retry_ms| Call {
            number: index as u64 + 1,
            counts: counts.clone(),
            retry_ms,
        }));
        if answer.is_fatal {
            break;
        }
    }
    calls
}

/// Counts the words of `texts` into the sinks that `connect` adds, one batch a second of a clock
/// that moves on until the run has ended.
fn run(
    texts: &[String],
    clock: &Clock,
    low_latency: bool,
    connect: impl FnOnce(&StreamingContext),
) -> Result<()> {
    let config = Config::default().workers(1).pin(false).block_bytes(4096);
    let config = match low_latency {
        true => config.low_latency(Duration::ZERO),
        false => config,
    };
    let ssc = StreamingContext::with_config(Duration::from_millis(INTERVAL_MS), config)?;
    ssc.set_clock(clock.clone());
    ssc.stop_after(texts.len() as u64)?;
    connect(&ssc);
    let running = ssc.start()?;
    while !running.await_termination_or_timeout(Duration::from_micros(200))? {
        clock.advance(Duration::from_millis(200));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sinks_have_every_batch_in_order_until_they_take_it(
        texts in texts(),
        scripts in proptest::collection::vec(answers(), 1..3),
        low_latency in any::<bool>(),
        there in proptest::option::weighted(0.2, 1u64..12),
    ) {
        let clock = Clock::manual(Duration::ZERO);
        let mut calls = Vec::new();
        let ran = run(&texts, &clock, low_latency, |ssc| {
            let counts = lines(ssc, &texts, 100).split(b' ').count_by_value();
            for script in &scripts {
                let mut sink = Scripted::new(script, &clock);
                sink.there = there.map(|number| BatchId {
                    number,
                    time: BatchTime::from_millis(number * INTERVAL_MS),
                });
                calls.push(Arc::clone(&sink.calls));
                counts.output(sink);
            }
        });
        let first = there.unwrap_or(0) as usize;
        let wanted: Vec<_> = scripts
            .iter()
            .map(|script| expected(&texts, script, first))
            .collect();
        let is_fatal = |calls: &Vec<Call>| {
            let last = calls.last().map_or(0, |call| call.number as usize);
            scripts.iter().any(|script| last > 0 && script[last - 1].is_fatal)
        };
        match ran {
            Ok(()) => {
                for (calls, wanted) in calls.iter().zip(&wanted) {
                    prop_assert_eq!(&*calls.lock().unwrap(), wanted);
                }
            }
            Err(error) => {
                prop_assert!(wanted.iter().any(is_fatal));
                prop_assert_eq!(error.kind(), ErrorKind::Sink);
                prop_assert!(error.to_string().contains("gone"), "{}", error);
                // Where one sink has failed, the other has the same batch, or as much as it would
                // take.
                for (calls, wanted) in calls.iter().zip(&wanted) {
                    let calls = calls.lock().unwrap();
                    prop_assert!(wanted.starts_with(&calls), "{:?}, {:?}", calls, wanted);
                }
            }
        }
    }
}
