//! What fails takes with it what depends on it, and nothing else.
//!
//! Method: a source of one text a batch, a clock that the test moves, and one output that
//! has nothing to do with what fails.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use microtally::sources::{ChannelId, Fill, Intake, Source};
use microtally::stream::LineRecords;
use microtally::stream::{DStream, RddQueue, RddStream, State, StateSpec, split};
use microtally::time::{BatchTime, Clock};
use microtally::{Config, StreamingContext};

use crate::live::{INTERVAL_MS, PATIENCE, START_MS, context, ms};

/// One text a batch, then nothing more.
struct Texts {
    texts: VecDeque<&'static [u8]>,
    due: Due,
}

enum Due {
    Nothing,
    Text,
    Completion,
}

impl Source for Texts {
    fn batch_due(&mut self, _time: BatchTime) -> bool {
        self.due = Due::Text;
        true
    }

    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Text => {
                let text = self.texts.pop_front().unwrap_or(b"\n");
                let later = &text[out.write(ChannelId::FIRST, text)..];
                if later.is_empty() {
                    self.due = Due::Completion;
                } else {
                    self.due = Due::Text;
                    self.texts.push_front(later);
                }
                Fill::More
            }
            Due::Completion => Fill::Complete,
            Due::Nothing => Fill::Pending(None),
        }
    }

    fn name(&self) -> &str {
        "texts"
    }
}

fn lines(context: &StreamingContext, texts: &[&'static [u8]]) -> DStream<LineRecords> {
    context.source_stream(Texts {
        texts: texts.iter().copied().collect(),
        due: Due::Nothing,
    })
}

/// A batch a queue's batch: `(0, n)` in the n-th.
fn numbers(context: &StreamingContext, count: u64) -> RddStream<(u8, u64)> {
    let queue: RddQueue<(u8, u64)> = (0..count).map(|n| vec![(0, n)]).collect();
    context.queue_stream(&queue, true, None)
}

/// Runs `batches` batches, the first one having the number 1. Gives the numbers of those that came
/// out of `outputs`, and the error.
fn run(
    context: StreamingContext,
    clock: &Clock,
    batches: u64,
    outputs: &Receiver<BatchTime>,
) -> (Vec<u64>, Option<String>) {
    let first_ms = u64::try_from(clock.now().as_millis()).expect("early") / INTERVAL_MS;
    context.stop_after(batches).expect("not 0");
    let running = context.start().expect("it starts");
    clock.advance(ms(INTERVAL_MS * batches));
    let error = running.await_termination().err();
    // It came at once; the sender is dropped with the last batch.
    let mut seen = Vec::new();
    while let Ok(time) = outputs.recv_timeout(PATIENCE) {
        seen.push(time.as_millis() / INTERVAL_MS - first_ms);
        if seen.last() == Some(&batches) {
            break;
        }
    }
    (seen, error.map(|error| error.to_string()))
}

#[test]
fn a_pipeline_in_the_shards_that_fails_leaves_the_others_alone() {
    let (context, clock) = context();
    let (sender, outputs) = channel();
    let lines = lines(&context, &[b"good\n", b"boom\n", b"later\n"]);
    let pairs = lines.map(|line| {
        assert_ne!(line, b"boom", "no room for this line");
        (line, 1u64)
    });
    pairs.reduce_by_key(|a, b| a + b).for_each_batch(|_, _| ());
    lines.count().for_each_batch(move |_, time| {
        let _ = sender.send(time);
    });
    let (seen, error) = run(context, &clock, 3, &outputs);
    assert!(error.expect("it is told").contains("no room for this line"));
    assert_eq!(seen, [1, 2, 3]);
}

/// A value that is the same for all is folded when the epoch ends, not when its record comes.
#[test]
fn a_fold_that_fails_at_the_end_of_a_batch_leaves_the_others_alone() {
    let (context, clock) = context();
    let (sender, outputs) = channel();
    let lines = lines(&context, &[b"good\n", b"twice\ntwice\n", b"later\n"]);
    let ones = lines.map(|line| (line, 1u64));
    let sums = ones.reduce_by_key(|_, _| panic!("cannot add"));
    let (tell_sum, seen_sums) = channel();
    sums.for_each_batch(move |batch, _| {
        let _ = tell_sum.send((batch.get(b"good"), batch.get(b"later"), batch.len()));
    });
    let (tell_count, counts) = channel();
    lines.count().for_each_batch(move |count, time| {
        let _ = tell_count.send(count.to_vec());
        let _ = sender.send(time);
    });
    let (seen, error) = run(context, &clock, 3, &outputs);
    assert!(error.expect("it is told").contains("cannot add"));
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(counts.iter().collect::<Vec<_>>(), [[1], [2], [1]]);
    let sums: Vec<_> = seen_sums.iter().collect();
    assert_eq!(sums, [(Some(1), None, 1), (None, Some(1), 1)]);
}

#[test]
fn what_no_output_needs_is_not_computed() {
    let (context, clock) = context();
    let (sender, outputs) = channel();
    let lines = lines(&context, &[b"one\n", b"two\n"]);
    let _ = lines.map_to(|_| -> u8 { panic!("nobody asked for it") });
    lines.count().for_each_batch(move |_, time| {
        let _ = sender.send(time);
    });
    assert_eq!(run(context, &clock, 2, &outputs), (vec![1, 2], None));
}

/// Where two pipelines split by different rules a record that is too long cannot be cut inside. One
/// that nobody needs does not count.
#[test]
fn what_no_output_needs_has_no_say_in_how_records_are_cut() {
    const LIMIT: usize = 64;
    let words: &[u8] =
        b"all of these words are short but there are more of them than fit into one record\n";
    assert!(words.len() > LIMIT);
    let config = Config::default().workers(2).record_bytes_max(LIMIT);
    let context = StreamingContext::with_config(ms(INTERVAL_MS), config).expect("in range");
    let clock = Clock::manual(ms(START_MS));
    context.set_clock(clock.clone());
    let (sender, outputs) = channel();
    let lines = lines(&context, &[words]);
    let _ = lines.records();
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let (tell, stats) = channel();
    counts.for_each_batch(move |batch, time| {
        let _ = tell.send((batch.stats().tokens, batch.stats().oversize_tokens));
        let _ = sender.send(time);
    });
    assert_eq!(run(context, &clock, 1, &outputs), (vec![1], None));
    assert_eq!(stats.iter().collect::<Vec<_>>(), [(17, 0)]);
}

/// The fold fails in a batch at which no window is due.
#[test]
fn a_window_says_why_a_batch_of_it_failed() {
    let (context, clock) = context();
    let (sender, outputs) = channel();
    let texts: [&[u8]; 6] = [b"a\n", b"a\na\n", b"a\n", b"a\n", b"b\n", b"b\n"];
    let counts = lines(&context, &texts).count_by_value();
    let window = (ms(INTERVAL_MS * 3), ms(INTERVAL_MS * 3));
    let sums = counts.reduce_by_key_and_window(light, window);
    let (tell, windows) = channel();
    sums.expect("multiples").for_each_batch(move |batch, time| {
        let _ = tell.send((batch.get(b"a"), batch.get(b"b")));
        let _ = sender.send(time);
    });
    let (seen, error) = run(context, &clock, 6, &outputs);
    assert!(error.expect("it is told").contains("3 is too heavy"));
    assert_eq!(seen, [6]);
    assert_eq!(windows.iter().collect::<Vec<_>>(), [(Some(1), Some(2))]);
}

/// What was folded halfway is never put out.
#[test]
fn a_fold_of_all_batches_that_fails_has_no_further_result() {
    let (context, clock) = context();
    let (sender, outputs) = channel();
    let lines = lines(&context, &[b"a\n", b"b\n", b"a\na\n", b"b\n"]);
    let (tell, sums) = channel();
    let all = lines.count_by_value().reduce_by_key_so_far(light);
    all.for_each_batch(move |batch, _| {
        let _ = tell.send((batch.get(b"a"), batch.get(b"b")));
    });
    lines.count().for_each_batch(move |_, time| {
        let _ = sender.send(time);
    });
    let (seen, error) = run(context, &clock, 4, &outputs);
    assert!(error.expect("it is told").contains("3 is too heavy"));
    assert_eq!(seen, [1, 2, 3, 4]);
    let sums: Vec<_> = sums.iter().collect();
    assert_eq!(sums, [(Some(1), None), (Some(1), Some(1))]);
}

fn light(a: u64, b: u64) -> u64 {
    assert!(a + b < 3, "{} is too heavy", a + b);
    a + b
}

/// A batch that cannot be put together is lost as a whole, with the states in it; later ones are
/// not.
#[test]
fn lost_states_cost_later_batches_nothing_but_the_states() {
    for with_map in [false, true] {
        let (context, clock) = context();
        let (sender, outputs) = channel();
        let numbers = numbers(&context, 5);
        let broken = numbers.transform(|rdd, _| {
            assert!(rdd.iter().all(|(_, n)| *n != 1), "not this one");
            rdd.clone()
        });
        if with_map {
            let spec = StateSpec::function(|_, _: &u8, n: Option<&u64>, sum: &mut State<u64>| {
                sum.update(sum.get_option().unwrap_or(&0) + n?);
                Some(*sum.get())
            });
            broken.map_with_state(spec).for_each_batch(|_, _| ());
        } else {
            let add =
                |new: &[u64], sum: Option<u64>| Some(sum.unwrap_or(0) + new.iter().sum::<u64>());
            broken.update_state_by_key(add).for_each_batch(|_, _| ());
        }
        numbers.count().for_each_batch(move |_, time| {
            let _ = sender.send(time);
        });
        let (seen, error) = run(context, &clock, 5, &outputs);
        assert!(error.expect("it is told").contains("not this one"));
        assert_eq!(seen, [1, 3, 4, 5], "with map_with_state: {with_map}");
    }
}

/// The window in which the failed batch would be seen is due much later.
#[test]
fn failing_fast_does_not_wait_for_an_output_to_be_due() {
    let (context, clock) = context();
    context.fail_fast();
    let (sender, mapped) = channel();
    let lines = lines(&context, &[b"boom\n", b"good\n"]);
    let pairs = lines.map(move |line| {
        let _ = sender.send(line.to_vec());
        assert_ne!(line, b"boom", "no room for this line");
        (line, 1u64)
    });
    let window = ms(INTERVAL_MS * 100);
    let sums = pairs
        .reduce_by_key(|a, b| a + b)
        .reduce_by_key_and_window(|a, b| a + b, (window, window));
    sums.expect("a multiple").for_each_batch(|_, _| ());
    let running = context.start().expect("it starts");
    clock.advance(ms(INTERVAL_MS));
    running.await_termination().expect_err("it fails");
    assert_eq!(mapped.recv_timeout(PATIENCE), Ok(b"boom".to_vec()));
    // Not asked to stop: the run ends by itself, and with it the function that holds the sender.
    let disconnected = Err(std::sync::mpsc::RecvTimeoutError::Disconnected);
    clock.advance(ms(INTERVAL_MS));
    assert_eq!(mapped.recv_timeout(PATIENCE), disconnected);
}
