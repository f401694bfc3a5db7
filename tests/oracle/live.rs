//! What the tests of whole programs share: a sender on loopback, a clock that stands still until
//! the test moves it, and the batches as they come.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use microtally::sources::Reconnect;
use microtally::stream::LineRecords;
use microtally::stream::{DStream, Reduced};
use microtally::time::Clock;
use microtally::{Config, StreamingContext};

use crate::definition::Expected;

/// How long anything may take before a test fails: far more than it ever needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const INTERVAL_MS: u64 = 250;

/// Not a multiple of the interval.
pub(crate) const START_MS: u64 = 1_000_000_123;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A batch as a test gets it: its time in milliseconds and what it holds.
pub(crate) type Seen = (u64, Expected);

/// A context under a manual clock.
pub(crate) fn context() -> (StreamingContext, Clock) {
    let config = Config::default().workers(2).pin(false);
    let context = StreamingContext::with_config(ms(INTERVAL_MS), config).expect("in range");
    let clock = Clock::manual(ms(START_MS));
    context.set_clock(clock.clone());
    (context, clock)
}

pub(crate) fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// The lines of one connection, which ends the stream with it, and where that connection comes
/// from.
pub(crate) fn one_connection(context: &StreamingContext) -> (DStream<LineRecords>, TcpListener) {
    let (listener, port) = listen();
    let lines = context
        .socket_text_stream_with("127.0.0.1", port, Reconnect::Never)
        .expect("a good address");
    (lines, listener)
}

/// The connection the context makes.
pub(crate) fn accept(listener: TcpListener) -> TcpStream {
    let (sender, accepted) = mpsc::channel();
    thread::spawn(move || sender.send(listener.accept()));
    let accepted = accepted
        .recv_timeout(PATIENCE)
        .expect("the context connects");
    accepted.expect("loopback works").0
}

/// Sends every batch of `counts` to the test.
pub(crate) fn watch(counts: &Reduced<u64>) -> Receiver<Seen> {
    let (sender, batches) = mpsc::channel();
    forward(counts, sender);
    batches
}

pub(crate) fn forward(counts: &Reduced<u64>, sender: Sender<Seen>) {
    counts.for_each_batch(move |batch, time| {
        // A test that has seen enough does not listen any more.
        let _ = sender.send((time.as_millis(), Expected::seen(batch)));
    });
}

/// Moves the clock, interval by interval, until a batch holds `word`. Gives all batches that became
/// due.
pub(crate) fn advance_until(word: &str, batches: &Receiver<Seen>, clock: &Clock) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    for _ in 0..PATIENCE.as_millis() / 20 {
        clock.advance(ms(INTERVAL_MS));
        match batches.recv_timeout(ms(20)) {
            Ok(batch) => seen.push(batch),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => panic!("no more batches, and none held {word}"),
        }
        let holds_word = |(_, batch): &Seen| batch.counts.contains_key(word.as_bytes());
        if seen.last().is_some_and(holds_word) {
            take_due(&mut seen, batches, clock);
            return seen;
        }
    }
    panic!("no batch held {word}: {seen:?}");
}

/// Takes batches until none is due any more: the clock may be ahead of them. What a test sends or
/// closes before belongs to whichever of them is being filled when the program gets to it.
pub(crate) fn take_due(seen: &mut Vec<Seen>, batches: &Receiver<Seen>, clock: &Clock) {
    let last_ms = clock.now().as_millis() as u64 / INTERVAL_MS * INTERVAL_MS;
    while seen.last().is_none_or(|(time_ms, _)| *time_ms < last_ms) {
        seen.push(batches.recv_timeout(PATIENCE).expect("every batch comes"));
    }
}

/// Everything that still comes until the context has ended.
pub(crate) fn rest(batches: &Receiver<Seen>) -> Vec<Seen> {
    batches.iter().collect()
}

pub(crate) fn times(batches: &[Seen]) -> Vec<u64> {
    batches.iter().map(|(time, _)| *time).collect()
}

pub(crate) fn sum(batches: &[Seen]) -> Expected {
    batches.iter().map(|(_, batch)| batch.clone()).sum()
}

/// The multiples of the interval after `after_ms` up to and including the first one after
/// `until_ms`.
pub(crate) fn multiples(after_ms: u64, until_ms: u64) -> Vec<u64> {
    (after_ms / INTERVAL_MS + 1..=until_ms / INTERVAL_MS + 1)
        .map(|k| k * INTERVAL_MS)
        .collect()
}
