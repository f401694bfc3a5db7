//! Sources whose channels have positions, in whole runs: what is committed was delivered, and runs
//! that go on from saved positions count what one run counts.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use microtally::Config;
use microtally::prelude::*;
use microtally::sink::{Sink, Undelivered};
use microtally::sources::{ChannelId, Fill, Intake, Port, Position, Positions, Source};

use crate::util::{Counts, until};

const INTERVAL: Duration = Duration::from_millis(5);

/// What a test and its source share.
#[derive(Default)]
struct Shared {
    /// Bytes that the source may read.
    allowed: AtomicU64,
    read: AtomicU64,
    has_ended: AtomicBool,
    commits: Mutex<Vec<Positions>>,
}

impl Shared {
    fn committed(&self, name: &str) -> u64 {
        let commits = self.commits.lock().unwrap();
        let last = commits.last().and_then(|positions| positions.get(name));
        last.map_or(0, |position| position.offset())
    }
}

/// Partitions that are read in turn, a few bytes at a time.
struct Partitions {
    texts: Vec<(&'static str, Vec<u8>)>,
    resume: Positions,
    open: Vec<(ChannelId, usize)>,
    turn: usize,
    shared: Arc<Shared>,
    /// Called after each commit.
    on_commit: Box<dyn FnMut(&Shared) + Send>,
}

impl Partitions {
    fn new(texts: Vec<(&'static str, Vec<u8>)>, shared: &Arc<Shared>) -> Self {
        Partitions {
            texts,
            resume: Positions::default(),
            open: Vec::new(),
            turn: 0,
            shared: Arc::clone(shared),
            on_commit: Box::new(|_| ()),
        }
    }

    fn one(text: Vec<u8>, shared: &Arc<Shared>) -> Self {
        Partitions::new(vec![("one", text)], shared)
    }
}

impl Source for Partitions {
    fn start(&mut self, port: Port, _now: Duration) {
        self.resume = port.resume().clone();
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        while let Some((name, _)) = self.texts.get(self.open.len()) {
            let position = self.resume.get(name).unwrap_or_default();
            let channel = out.open_at(name, position);
            self.open.push((channel, position.offset() as usize));
        }
        let is_read = |index: usize| self.open[index].1 == self.texts[index].1.len();
        if (0..self.open.len()).all(is_read) {
            self.shared.has_ended.store(true, Ordering::SeqCst);
            return Fill::End;
        }
        let read = self.shared.read.load(Ordering::SeqCst);
        let left = self
            .shared
            .allowed
            .load(Ordering::SeqCst)
            .saturating_sub(read);
        if left == 0 {
            return Fill::Pending(Some(now + Duration::from_millis(1)));
        }
        self.turn = (self.turn + 1) % self.open.len();
        let (channel, at) = &mut self.open[self.turn];
        let rest = &self.texts[self.turn].1[*at..];
        let count = rest.len().min(7).min(left as usize);
        let count = out.write(*channel, &rest[..count]);
        *at += count;
        self.shared.read.fetch_add(count as u64, Ordering::SeqCst);
        Fill::More
    }

    fn committed(&mut self, positions: &Positions) {
        let mut commits = self.shared.commits.lock().unwrap();
        for (name, position) in commits.last().iter().flat_map(|before| before.iter()) {
            let next = positions.get(name).expect("its channel is open");
            assert!(next.offset() >= position.offset(), "{name}");
        }
        commits.push(positions.clone());
        drop(commits);
        (self.on_commit)(&self.shared);
    }

    fn name(&self) -> &str {
        "partitions"
    }
}

#[derive(Clone, Default)]
struct States(Arc<Mutex<Vec<u8>>>);

impl Write for States {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every kind of end, empty lines, and no end at the end.
fn text(name: &str, lines: usize) -> Vec<u8> {
    let ends = ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"];
    let mut text = String::new();
    for number in 0..lines {
        text += &format!(
            "{name}-{}{}",
            number % 17,
            ends[number * number % ends.len()]
        );
    }
    (text + "the end").into_bytes()
}

fn lines_of(texts: &[(&'static str, Vec<u8>)]) -> Counts {
    let mut counts = Counts::new();
    for (_, text) in texts {
        let text = String::from_utf8(text.clone()).unwrap();
        for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Counts on from `states`, as far as `allowed` bytes; stops then, or, if the source `runs_on`,
/// while it reads. Returns the counts so far, and the states.
fn counted(
    texts: &[(&'static str, Vec<u8>)],
    states: Option<Vec<u8>>,
    allowed: u64,
    runs_on: bool,
) -> (Counts, Vec<u8>) {
    let shared = Arc::new(Shared::default());
    let ahead = if runs_on { u64::MAX } else { allowed };
    shared.allowed.store(ahead, Ordering::SeqCst);
    let ssc = StreamingContext::with_config(INTERVAL, Config::default().workers(2)).unwrap();
    let sums = Arc::new(Mutex::new(Counts::new()));
    let seen = Arc::clone(&sums);
    ssc.source_stream(Partitions::new(texts.to_vec(), &shared))
        .count_by_value()
        .reduce_by_key_so_far(|a, b| a + b)
        .for_each_batch(move |batch, _| {
            let lines = batch.iter();
            let lines = lines.map(|(line, n)| (String::from_utf8_lossy(line).into_owned(), n));
            *seen.lock().unwrap() = lines.collect::<BTreeMap<_, _>>();
        });
    if let Some(states) = states {
        ssc.load_states(Cursor::new(states));
    }
    let saved = States::default();
    ssc.save_states(saved.clone());
    let running = ssc.start().unwrap();
    match allowed {
        u64::MAX => running.await_termination().unwrap(),
        _ => {
            until("the source has read", || {
                let has_ended = shared.has_ended.load(Ordering::SeqCst);
                has_ended || shared.read.load(Ordering::SeqCst) >= allowed
            });
            let stats = running.stop(Stop::Graceful).unwrap();
            assert_eq!(stats.truncated_records, 0, "it is read again");
        }
    }
    let states = std::mem::take(&mut *saved.0.lock().unwrap());
    let sums = std::mem::take(&mut *sums.lock().unwrap());
    (sums, states)
}

#[test]
fn runs_that_stop_anywhere_and_go_on_count_what_one_run_counts() {
    let texts = vec![
        ("a", text("alpha", 700)),
        ("b", text("beta", 300)),
        ("c", Vec::from(b"short\n")),
    ];
    let mut expected = lines_of(&texts);
    // Nothing is behind the last end of this one.
    *expected.get_mut("").unwrap() -= 1;
    for seed in 0..6u64 {
        let (mut sums, mut states) = (Counts::new(), None);
        for step in 0..4 {
            let bytes = (seed * 977 + step * 131) % 1500 + 1;
            let (now, next) = counted(&texts, states, bytes, (seed + step) % 3 == 0);
            for (line, n) in &sums {
                assert!(
                    now.get(line) >= Some(n),
                    "{line}: {n} and then {:?}",
                    now.get(line)
                );
            }
            (sums, states) = (now, Some(next));
        }
        (sums, _) = counted(&texts, states, u64::MAX, true);
        assert_eq!(sums, expected, "seed {seed}");
    }
}

#[test]
fn nothing_is_committed_once_a_function_has_failed_in_a_batch() {
    let shared = Arc::new(Shared::default());
    let text = [&b"good\n".repeat(10)[..], b"bad\n", &b"good\n".repeat(10)].concat();
    let ssc = StreamingContext::new(INTERVAL).unwrap();
    ssc.source_stream(Partitions::one(text, &shared))
        .map(|line| {
            assert!(line != b"bad", "a bad line");
            (line, 1u64)
        })
        .reduce_by_key(|a, b| a + b)
        .for_each_batch(|_, _| ());
    let running = ssc.start().unwrap();
    shared.allowed.store(20, Ordering::SeqCst);
    until("four lines are committed", || shared.committed("one") == 20);
    shared.allowed.store(54 + 15, Ordering::SeqCst);
    let batches = running.stats().batches;
    until("batches behind the failure", || {
        running.stats().batches > batches + 4
    });
    shared.allowed.store(u64::MAX, Ordering::SeqCst);
    let error = running.await_termination().expect_err("a batch has failed");
    assert!(error.to_string().contains("a bad line"), "{error}");
    // Batches before the one with the bad line may end anywhere before it.
    assert!((20..=50).contains(&shared.committed("one")));
}

struct Slow(Arc<AtomicU64>);

impl Sink<u64> for Slow {
    fn deliver(&mut self, batch: &microtally::Batch<'_, u64>) -> Result<(), Undelivered> {
        let lines: u64 = batch.iter().map(|(_, count)| count).sum();
        if lines > 0 {
            thread::sleep(Duration::from_millis(25));
        }
        self.0.fetch_add(lines, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn nothing_is_committed_before_a_slow_sink_has_it_and_the_last_batch_is() {
    let shared = Arc::new(Shared::default());
    let mut source = Partitions::one(b"word\n".repeat(40), &shared);
    let delivered = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&delivered);
    let early = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&early);
    source.on_commit = Box::new(move |shared| {
        let committed = shared.committed("one");
        let is_early = committed > seen.load(Ordering::SeqCst) * 5;
        counter.fetch_add(u64::from(is_early), Ordering::SeqCst);
        // Some bytes a batch, so that many batches are under way.
        shared.allowed.fetch_add(13, Ordering::SeqCst);
    });
    shared.allowed.store(13, Ordering::SeqCst);
    let ssc = StreamingContext::new(INTERVAL).unwrap();
    let counts = ssc.source_stream(source).count_by_value();
    counts
        .output_on_thread("slow", Slow(Arc::clone(&delivered)), 3)
        .unwrap();
    ssc.start().unwrap().await_termination().unwrap();
    assert_eq!(
        early.load(Ordering::SeqCst),
        0,
        "commits before the delivery"
    );
    assert_eq!(delivered.load(Ordering::SeqCst), 40);
    assert_eq!(shared.committed("one"), 200, "the last batch");
    assert!(shared.commits.lock().unwrap().len() > 3);
}

#[test]
fn a_source_that_panics_when_it_is_informed_is_reported_and_not_called_again() {
    let shared = Arc::new(Shared::default());
    let mut source = Partitions::one(b"word\n".repeat(20), &shared);
    source.on_commit = Box::new(|_| panic!("no such group"));
    shared.allowed.store(5, Ordering::SeqCst);
    let ssc = StreamingContext::new(INTERVAL).unwrap();
    ssc.source_stream(source)
        .count_by_value()
        .for_each_batch(|_, _| ());
    let running = ssc.start().unwrap();
    let commits = || shared.commits.lock().unwrap().len();
    until("the first commit", || commits() == 1);
    shared.allowed.store(u64::MAX, Ordering::SeqCst);
    let error = running
        .await_termination()
        .expect_err("the source has panicked");
    assert!(error.to_string().contains("no such group"), "{error}");
    assert_eq!(commits(), 1);
    thread::sleep(20 * INTERVAL);
    assert_eq!(shared.read.load(Ordering::SeqCst), 5, "it is read no more");
    assert_eq!(
        Position::from(5),
        shared.commits.lock().unwrap()[0].get("one").unwrap()
    );
}
