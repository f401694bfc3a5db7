//! What listeners are told when something goes wrong, while the run goes on.
//!
//! Method: sources that end in every way there is, beside an input that never ends, so that the
//! context is there all the time.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use microtally::sources::{ChannelId, Fill, Intake, Source};
use microtally::stream::{BatchInfo, RddQueue, ReceiverInfo, StreamingListener};
use microtally::time::{BatchTime, Clock};
use microtally::{Config, Error, Stop, StreamingContext};

use crate::live::{INTERVAL_MS, PATIENCE, START_MS, context, ms};

/// What became of a source.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Started,
    Error(String),
    Stopped,
}

/// Tells the test.
struct Ear(Sender<(usize, Told)>);

impl Ear {
    fn tell(&self, receiver: &ReceiverInfo, told: Told) {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send((receiver.stream_id, told));
    }
}

impl StreamingListener for Ear {
    fn on_receiver_started(&mut self, receiver: &ReceiverInfo) {
        assert!(receiver.active);
        self.tell(receiver, Told::Started);
    }

    fn on_receiver_error(&mut self, receiver: &ReceiverInfo) {
        let message = receiver.last_error_message.clone();
        assert!(receiver.last_error_time.is_some());
        self.tell(receiver, Told::Error(message.expect("there is one")));
    }

    fn on_receiver_stopped(&mut self, receiver: &ReceiverInfo) {
        assert!(!receiver.active);
        self.tell(receiver, Told::Stopped);
    }
}

/// A source of one text a batch.
struct Texts {
    texts: VecDeque<String>,
    rest: Vec<u8>,
}

impl Texts {
    fn of(texts: &[String]) -> Self {
        Texts {
            texts: texts.iter().cloned().collect(),
            rest: Vec::new(),
        }
    }
}

impl Source for Texts {
    fn batch_due(&mut self, _time: BatchTime) -> bool {
        self.rest = self.texts.pop_front().unwrap_or_default().into_bytes();
        true
    }

    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        if self.rest.is_empty() {
            return Fill::Complete;
        }
        let len = out.write(ChannelId::FIRST, &self.rest);
        self.rest.drain(..len);
        Fill::More
    }

    fn name(&self) -> &str {
        "texts"
    }
}

/// A source that does one thing and then, if it is asked again, waits.
struct Once<F>(Option<F>);

impl<F: FnOnce(&mut Intake<'_>) -> Fill + Send> Source for Once<F> {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        self.0.take().map_or(Fill::Pending(None), |act| act(out))
    }

    fn name(&self) -> &str {
        "once"
    }
}

/// A source that panics when it is asked what belongs to a batch.
struct PanicsAtBatch;

impl Source for PanicsAtBatch {
    fn fill(&mut self, _out: &mut Intake<'_>, _now: Duration) -> Fill {
        Fill::Pending(None)
    }

    fn batch_due(&mut self, _time: BatchTime) -> bool {
        panic!("no such batch")
    }

    fn name(&self) -> &str {
        "at batch"
    }
}

/// Tells how many records came in.
struct Counter(Sender<u64>);

impl StreamingListener for Counter {
    fn on_batch_completed(&mut self, batch: &BatchInfo) {
        let _ = self.0.send(batch.num_records());
    }
}

/// It fails in the middle of the second of three batches, with other records before, beside and
/// behind what it fails at, in blocks of their own.
#[test]
fn what_came_in_for_a_batch_that_failed_is_told() {
    let texts = [
        "one\n".to_owned(),
        "a b\r\n\rboom c\n\nd e\n".repeat(1000),
        "four\nfive\n".to_owned(),
    ];
    let bytes = texts.iter().map(|text| text.len() as u64).sum::<u64>();
    for fails_at_once in [true, false] {
        let config = Config::default().workers(2).pin(false).block_bytes(64);
        let context = StreamingContext::with_config(ms(INTERVAL_MS), config).expect("in range");
        let clock = Clock::manual(ms(START_MS));
        context.set_clock(clock.clone());
        let (sender, records) = channel();
        context.add_streaming_listener(Counter(sender));
        let words = context.source_stream(Texts::of(&texts)).split(b' ');
        if fails_at_once {
            let pairs = words.map(|word| {
                assert_ne!(word, b"boom", "no room for this word");
                (word, 1u64)
            });
            pairs.reduce_by_key(|a, b| a + b).for_each_batch(|_, _| ());
        } else {
            // A fold of equal values, when the batch is over.
            let pairs = words.map(|word| (word, 1u64));
            let sums = pairs.reduce_by_key(|_, _| panic!("cannot add"));
            sums.for_each_batch(|_, _| ());
        }
        context.stop_after(3).expect("not 0");
        let running = context.start().expect("it starts");
        clock.advance(ms(INTERVAL_MS * 3));
        let told: Vec<_> = (0..3)
            .map(|_| records.recv_timeout(PATIENCE).expect("every batch"))
            .collect();
        assert_eq!(told, [1, 5000, 2], "fails at once: {fails_at_once}");
        running.await_termination().expect_err("a batch failed");
        let has_all = || running.stats().batches == 3;
        let start = Instant::now();
        while !has_all() && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        let stats = running.stats();
        assert_eq!(
            (stats.batches, stats.records, stats.bytes),
            (3, 5003, bytes)
        );
        // "one", then nothing of what failed, then "four" and "five".
        assert_eq!(stats.tokens, 3);
    }
}

/// What a source's listener hears while the run goes on, and after it.
fn heard(source: impl Source + 'static) -> (Vec<Told>, Vec<Told>) {
    let (context, clock) = context();
    let (sender, told) = channel();
    context.add_streaming_listener(Ear(sender));
    context.source_stream(source);
    let ticks = context.queue_stream(&RddQueue::<u8>::new(), true, None);
    ticks.for_each_batch(|_, _| ());
    let running = context.start().expect("it starts");
    clock.advance(ms(INTERVAL_MS));
    let mut before = Vec::new();
    while before.last() != Some(&Told::Stopped) {
        let (stream, what) = told.recv_timeout(PATIENCE).expect("it is told");
        assert_eq!(stream, 0);
        before.push(what);
    }
    // The error of the source, if there is one, is not what this is about.
    let _ = running.stop(Stop::Immediate);
    let after = told.iter().map(|(_, what)| what).collect();
    (before, after)
}

fn error(message: &str) -> Vec<Told> {
    vec![
        Told::Started,
        Told::Error(message.to_owned()),
        Told::Stopped,
    ]
}

#[test]
fn listeners_hear_how_a_source_ends() {
    let panics = Once(Some(|_: &mut Intake<'_>| -> Fill { panic!("it burns") }));
    let expected = error("source once panicked and is read no more: it burns");
    assert_eq!(heard(panics), (expected, vec![]));

    let lies = Once(Some(|out: &mut Intake<'_>| {
        let room = out.space(ChannelId::FIRST).map_or(0, |space| space.len());
        out.filled(room + 1);
        Fill::More
    }));
    let (told, counts) = heard(lies);
    let expected = "source once says it put ";
    assert!(matches!(&told[1], Told::Error(message) if message.starts_with(expected)));
    assert_eq!(counts, vec![]);

    let fails = Once(Some(|_: &mut Intake<'_>| {
        Fill::Failed(Error::refused("no such host"))
    }));
    assert_eq!(heard(fails), (error("no such host"), vec![]));

    let expected = error("source at batch panicked and is read no more: no such batch");
    assert_eq!(heard(PanicsAtBatch), (expected, vec![]));

    let ends = Once(Some(|_: &mut Intake<'_>| Fill::End));
    let expected = vec![Told::Started, Told::Stopped];
    assert_eq!(heard(ends), (expected, vec![]));
}
