//! Sinks that ask for retries, are slow, or fail for good.
//!
//! Goal: a sink has every batch in order, again and again until it takes it, not before the time it
//! asked for, and nothing after it has failed for good. Method: a script says what the sink answers
//! to each batch; it writes down every call, and the calls are compared with those of a loop over
//! batches and script.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
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
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sinks_have_every_batch_in_order_until_they_take_it(
        texts in texts(),
        scripts in proptest::collection::vec(answers(), 1..4),
        queues in proptest::collection::vec(0usize..4, 3),
        low_latency in any::<bool>(),
        there in proptest::option::weighted(0.2, 1u64..12),
    ) {
        let clock = Clock::manual(Duration::ZERO);
        let mut calls = Vec::new();
        let ran = run(&texts, &clock, low_latency, |ssc| {
            let counts = lines(ssc, &texts, 100).split(b' ').count_by_value();
            for (index, script) in scripts.iter().enumerate() {
                let mut sink = Scripted::new(script, &clock);
                sink.there = there.map(|number| BatchId {
                    number,
                    time: BatchTime::from_millis(number * INTERVAL_MS),
                });
                calls.push(Arc::clone(&sink.calls));
                match queues[index] {
                    0 => counts.output(sink),
                    queue => {
                        let name = format!("sink-{index}");
                        counts.output_on_thread(&name, sink, queue).expect("in range");
                    }
                }
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
                // Where one sink has failed, others have as much as they took until then.
                for (calls, wanted) in calls.iter().zip(&wanted) {
                    let calls = calls.lock().unwrap();
                    prop_assert!(wanted.starts_with(&calls), "{:?}, {:?}", calls, wanted);
                }
            }
        }
    }
}

/// A sink that says so when it is called, and goes on when it may.
struct Gated {
    called: mpsc::Sender<u64>,
    gate: mpsc::Receiver<Result<(), Undelivered>>,
}

impl Sink<u64> for Gated {
    fn deliver(&mut self, batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
        let _ = self.called.send(batch.id().number);
        self.gate.recv().expect("the test goes on")
    }
}

/// A context that counts a line a second for long into a gated sink on a thread of its own with a
/// queue of two; the sink has the first batch.
struct Running {
    context: RunningContext,
    clock: Clock,
    called: mpsc::Receiver<u64>,
    gate: mpsc::Sender<Result<(), Undelivered>>,
    notices: Arc<Mutex<Vec<String>>>,
    /// Batches that another output has had.
    published: Arc<Mutex<u64>>,
}

impl Running {
    fn start() -> Self {
        let config = Config::default().workers(1).pin(false);
        let interval = Duration::from_millis(INTERVAL_MS);
        let ssc = StreamingContext::with_config(interval, config).expect("in range");
        let clock = Clock::manual(Duration::ZERO);
        ssc.set_clock(clock.clone());
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&notices);
        ssc.on_notice(move |notice| kept.lock().unwrap().push(notice.to_string()));
        let texts = vec!["a b a\n".to_owned(); 1000];
        let counts = lines(&ssc, &texts, 100).split(b' ').count_by_value();
        let ((call, called), (gate, pass)) = (mpsc::channel(), mpsc::channel());
        let sink = Gated {
            called: call,
            gate: pass,
        };
        counts.output_on_thread("db", sink, 2).expect("in range");
        let published = Arc::<Mutex<u64>>::default();
        let count = Arc::clone(&published);
        // Behind the sink: it reads the table that was moved into the queue.
        counts.for_each_batch(move |batch, _| {
            assert_eq!(batch.get(b"a"), Some(2));
            *count.lock().unwrap() += 1;
        });
        let running = Running {
            context: ssc.start().expect("it starts"),
            clock,
            called,
            gate,
            notices,
            published,
        };
        running.publish(1);
        running.expect_call(1);
        running
    }

    fn published(&self) -> u64 {
        *self.published.lock().unwrap()
    }

    /// Lets time pass until `count` batches were published.
    fn publish(&self, count: u64) {
        for _ in 0..count - self.published() {
            self.clock.advance(Duration::from_millis(INTERVAL_MS));
        }
        wait_for(|| self.published() == count);
    }

    fn expect_call(&self, number: u64) {
        let called = self.called.recv_timeout(Duration::from_secs(60));
        assert_eq!(called, Ok(number));
    }

    fn answer(&self, answer: Result<(), Undelivered>) {
        self.gate.send(answer).expect("the sink waits");
    }

    fn expect_notices(&self, texts: &[&str]) {
        let sink = || {
            let mut notices = self.notices.lock().unwrap().clone();
            notices.retain(|text| text.starts_with("sink "));
            notices
        };
        wait_for(|| sink().len() == texts.len());
        assert_eq!(sink(), texts);
    }
}

fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it does not come");
}

#[test]
fn a_slow_sink_holds_everything_up_and_loses_nothing() {
    let running = Running::start();
    // The sink has one, two wait, and the publisher waits with the fourth.
    running.publish(3);
    running
        .clock
        .advance(Duration::from_millis(50 * INTERVAL_MS));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.published(), 3);
    for number in 2..=40 {
        running.answer(Ok(()));
        running.expect_call(number);
    }
    let Running {
        context,
        called,
        gate,
        ..
    } = running;
    let stop = std::thread::spawn(move || context.stop(Stop::Graceful));
    let mut last = 40;
    while gate.send(Ok(())).is_ok() {
        let Ok(number) = called.recv_timeout(Duration::from_secs(60)) else {
            break;
        };
        assert_eq!(number, last + 1);
        last = number;
    }
    let stats = stop.join().expect("no panic").expect("nothing fails");
    assert_eq!(
        stats.batches, last,
        "the stop delivers what is in the queue"
    );
}

#[test]
fn a_wait_is_reported_and_so_is_its_end() {
    let running = Running::start();
    running.answer(Err(Undelivered::Retry {
        after: Duration::from_millis(1500),
        cause: error("busy"),
    }));
    let waiting = "sink db: waiting: cannot write results to the test: busy; next try in 1.5 s";
    running.expect_notices(&[waiting]);
    running.publish(2);
    assert!(running.called.try_recv().is_err(), "it is too early");
    running.publish(3);
    running.expect_call(1);
    running.answer(Ok(()));
    running.expect_notices(&[waiting, "sink db: delivers again"]);
    running.expect_call(2);
    let _ = running.gate.send(Ok(()));
    let _ = running.gate.send(Ok(()));
    let _ = running.gate.send(Ok(()));
    running.context.stop(Stop::Graceful).expect("nothing fails");
}

#[test]
fn an_immediate_stop_reports_what_is_not_delivered() {
    let running = Running::start();
    running.publish(3);
    let handle = running.context.stop_handle();
    handle.stop(Stop::Immediate);
    running.answer(Ok(()));
    running.expect_notices(&["sink db: stopped with 2 batches undelivered: 2000 to 3000 ms"]);
    assert_eq!(
        running
            .context
            .stop(Stop::Immediate)
            .expect("nothing fails")
            .batches,
        3
    );
}

#[test]
fn a_sink_that_does_not_return_is_left_behind_by_name() {
    let running = Running::start();
    let (stop, within) = (Stop::Graceful, Duration::from_millis(200));
    let error = running.context.stop_within(stop, within).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("mt-sink-db"), "{error}");
    running.gate.send(Ok(())).expect("the sink still waits");
}

#[test]
fn a_sink_that_panics_on_its_thread_ends_the_run() {
    let running = Running::start();
    drop(running.gate);
    let error = running.context.await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    let text = "sink db panicked, which ends the run: the test goes on";
    assert!(error.to_string().starts_with(text), "{error}");
}

#[test]
fn windows_go_through_queues_as_they_are_published() {
    let clock = Clock::manual(Duration::ZERO);
    let texts: Vec<_> = (0..30).map(|n| format!("a a b k{n} {n}\n")).collect();
    let mut kept = Vec::new();
    let keep = |kept: &mut Vec<Arc<Mutex<Vec<Call>>>>| {
        let answer = Answer {
            retries_ms: Vec::new(),
            is_fatal: false,
        };
        let sink = Scripted::new(&vec![answer; 30], &clock);
        kept.push(Arc::clone(&sink.calls));
        sink
    };
    run(&texts, &clock, false, |ssc| {
        let counts = lines(ssc, &texts, 100).split(b' ').count_by_value();
        let window = Duration::from_millis(7 * INTERVAL_MS);
        let (add, subtract) = (|a, b| a + b, |a, b| a - b);
        let streams = [
            counts.reduce_by_key_and_window(add, window).unwrap(),
            counts
                .reduce_by_key_and_window_with_inverse(add, subtract, window)
                .unwrap(),
            counts.reduce_by_key_so_far(add),
        ];
        for (index, stream) in streams.iter().enumerate() {
            stream.output(keep(&mut kept));
            stream
                .output_on_thread(&format!("w{index}"), keep(&mut kept), 2)
                .unwrap();
        }
    })
    .expect("nothing fails");
    for pair in kept.chunks(2) {
        let [inline, queued] = [&pair[0], &pair[1]].map(|calls| calls.lock().unwrap().clone());
        assert_eq!(inline.len(), 30);
        assert_eq!(inline, queued);
    }
}
