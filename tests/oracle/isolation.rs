//! What fails takes with it what depends on it, and nothing else.
//!
//! Method: a source that gives one text a batch, a clock that the test moves, and one output that has
//! nothing to do with what fails.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use microtally::stream::{DStream, RddQueue, RddStream, State, StateSpec};
use microtally::{BatchTime, Clock, Fill, Lines, Source, StreamingContext};

use crate::live::{INTERVAL_MS, PATIENCE, context, ms};

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

    fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Text => {
                self.due = Due::Completion;
                let text = self.texts.pop_front().unwrap_or(b"\n");
                buf[..text.len()].copy_from_slice(text);
                Fill::Bytes(text.len())
            }
            Due::Completion => Fill::Complete,
            Due::Nothing => Fill::Pending(None),
        }
    }

    fn name(&self) -> &str {
        "texts"
    }
}

fn lines<'c>(context: &'c StreamingContext, texts: &[&'static [u8]]) -> DStream<'c, Lines> {
    context.source_stream(Texts {
        texts: texts.iter().copied().collect(),
        due: Due::Nothing,
    })
}

/// A batch a queue's batch: `(0, n)` in the n-th.
fn numbers(context: &StreamingContext, count: u64) -> RddStream<'_, (u8, u64)> {
    let queue: RddQueue<(u8, u64)> = (0..count).map(|n| vec![(0, n)]).collect();
    context.queue_stream(&queue, true, None)
}

/// Runs `batches` batches, the first one having the number 1. Gives the numbers of those that came out of
/// `outputs`, and the error.
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
