//! A memory limit: what is said about the counts is true, totals stay exact, and the process stays
//! small.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::batch::BatchStats;
use microtally::config::OnLimit;
use microtally::error::ErrorKind;
use microtally::notice::NoticeKind;
use microtally::sources::Reconnect;
use microtally::stream::split;
use microtally::time::BatchTime;
use microtally::{Batch, Config, Engine, Error, Rule, StreamingContext, Tally};
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, u64>;

/// A batch, owned.
struct Shown {
    stats: BatchStats,
    counts: HashMap<Vec<u8>, u64>,
    /// What the counts lack at most.
    missing: HashMap<Vec<u8>, u64>,
}

impl Shown {
    fn of(batch: &Batch<'_, u64>) -> Self {
        Shown {
            stats: *batch.stats(),
            counts: batch
                .iter()
                .map(|(key, count)| (key.to_vec(), count))
                .collect(),
            missing: batch
                .iter()
                .map(|(key, _)| (key.to_vec(), batch.missing_max(key)))
                .collect(),
        }
    }

    /// Everything that is promised of a batch.
    fn check(&self, model: &Model) {
        let BatchStats {
            error_max,
            other_records,
            missing_max,
            tokens,
            keys,
            ..
        } = self.stats;
        assert_eq!(tokens, model.values().sum::<u64>(), "totals stay exact");
        assert_eq!(keys, self.counts.len() as u64);
        for (key, &n) in model {
            match self.counts.get(key) {
                Some(&count) => {
                    let missing = self.missing[key];
                    assert!(
                        count.saturating_sub(error_max) <= n && n <= count + missing,
                        "{key:?}: {count} shown, {missing} missing, {n} true, {:?}",
                        self.stats
                    );
                    assert!(missing <= missing_max && missing_max <= other_records);
                }
                None => assert!(n <= error_max + other_records, "{key:?} has gone: {n}"),
            }
        }
        assert!(self.counts.keys().all(|key| model.contains_key(key)));
        if !self.stats.is_approximate() {
            assert_eq!(self.counts.len(), model.len());
        }
    }
}

/// The word of a number, of all three classes of length.
fn word(number: u64) -> Vec<u8> {
    match number % 4 {
        0 | 1 => format!("{number:x}"),
        2 => format!("{number:013x}"),
        _ => format!("{number:x}-{}", "w".repeat(17 + (number % 60) as usize)),
    }
    .into_bytes()
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Zipf,
    Uniform,
    UniqueThenHot,
    HotThenUnique,
}

impl Stream {
    fn word(self, at: u64, count: u64, random: u64) -> Vec<u8> {
        word(match self {
            Stream::Zipf => {
                let unit = (random % 1_000_000) as f64 / 1e6;
                (unit * 200_000f64.ln()).exp() as u64
            }
            Stream::Uniform => random % 60_000,
            Stream::UniqueThenHot if at < count * 3 / 4 => 1_000_000 + at,
            Stream::HotThenUnique if at >= count / 4 => 1_000_000 + at,
            Stream::UniqueThenHot | Stream::HotThenUnique => random % 40,
        })
    }
}

fn stream() -> impl Strategy<Value = Stream> {
    prop::sample::select(
        &[
            Stream::Zipf,
            Stream::Uniform,
            Stream::UniqueThenHot,
            Stream::HotThenUnique,
        ][..],
    )
}

/// Batches of lines of words with what is in them.
fn batches(stream: Stream, seed: u64, count: u64, batch_words: u64) -> Vec<(Vec<u8>, Model)> {
    let mut state = seed;
    let mut batches = Vec::new();
    let (mut text, mut model) = (Vec::new(), Model::new());
    for at in 0..count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = stream.word(at, count, state >> 33);
        text.extend_from_slice(&word);
        text.push(if (state >> 20).is_multiple_of(8) {
            b'\n'
        } else {
            b' '
        });
        *model.entry(word).or_insert(0) += 1;
        if (at + 1) % batch_words == 0 || at + 1 == count {
            *text.last_mut().expect("a word was written") = b'\n';
            // Between the last word and the end of its line there is nothing.
            batches.push((std::mem::take(&mut text), std::mem::take(&mut model)));
        }
    }
    batches
}

/// The settings with the least memory they take, which the refusal names.
fn with_least(config: Config, start: impl Fn(&Config) -> Option<Error>) -> Config {
    let error = start(&config.clone().memory_bytes_max(1 << 20)).expect("a MiB is too small");
    assert_eq!(error.kind(), ErrorKind::Config);
    let least = error.setting().and_then(|setting| setting.enough);
    config.memory_bytes_max(least.expect("the error names what is enough"))
}

fn config(on_limit: OnLimit) -> Config {
    let config = Config::default().pin(false).record_bytes_max(64 << 10);
    config.block_bytes(64 << 10).on_limit(on_limit)
}

fn tally(config: &Config) -> Tally {
    Tally::with_config(Rule::Split(b' '), config).expect("the settings are good")
}

fn with_least_of_tally(on_limit: OnLimit) -> Config {
    with_least(config(on_limit), |config| {
        Tally::with_config(Rule::Split(b' '), config).err()
    })
}

fn with_least_of_engine(on_limit: OnLimit, workers: usize) -> Config {
    with_least(config(on_limit).workers(workers), |config| {
        let builder = Engine::builder(Rule::Split(b' ')).config(config.clone());
        builder.start(|_| ()).err()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn case_16_a_tallys_bound_is_true(
        stream in stream(), seed in any::<u64>(), batch_words in 20_000u64..70_000,
        is_exact in any::<bool>(),
    ) {
        let on_limit = if is_exact { OnLimit::Other } else { OnLimit::Approximate };
        let mut tally = tally(&with_least_of_tally(on_limit));
        for (index, (text, model)) in batches(stream, seed, 70_000, batch_words).iter().enumerate() {
            tally.push(text);
            let batch = tally.cut(BatchTime::from_millis(index as u64)).unwrap();
            let shown = Shown::of(&batch);
            shown.check(model);
            if is_exact {
                // One thread: what is there is whole.
                assert!(shown.counts.iter().all(|(key, count)| model[key] == *count));
            }
        }
    }

    #[test]
    fn case_16_an_engines_bound_is_true_whatever_the_number_of_shards(
        stream in stream(), seed in any::<u64>(), batch_words in 30_000u64..70_000,
        workers in 1usize..5, is_exact in any::<bool>(),
    ) {
        let on_limit = if is_exact { OnLimit::Other } else { OnLimit::Approximate };
        let (send, shown) = mpsc::channel();
        let engine = Engine::builder(Rule::Split(b' '))
            .config(with_least_of_engine(on_limit, workers))
            .start(move |batch| send.send(Shown::of(batch)).expect("the test listens"));
        let engine = engine.unwrap();
        let mut input = engine.writer().unwrap();
        let batches = batches(stream, seed, 140_000, batch_words);
        for (index, (text, _)) in batches.iter().enumerate() {
            input.write_all(text).unwrap();
            engine.cut(BatchTime::from_millis(index as u64)).unwrap();
        }
        drop(input);
        engine.finish().unwrap();
        for (_, model) in &batches {
            shown.recv().unwrap().check(model);
        }
    }
}

#[test]
fn case_15_the_first_time_is_told_and_the_batch_says_so() {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&notices);
    let config = with_least_of_engine(OnLimit::Approximate, 1);
    let engine = Engine::builder(Rule::Split(b' '))
        .config(config)
        .on_notice(move |notice| told.lock().unwrap().push(notice.clone()))
        .start(|_| ());
    let engine = engine.unwrap();
    let mut input = engine.writer().unwrap();
    for (text, _) in batches(Stream::UniqueThenHot, 1, 150_000, 50_000) {
        input.write_all(&text).unwrap();
        engine.cut(BatchTime::from_millis(17)).unwrap();
    }
    drop(input);
    let last = engine.finish().unwrap();
    assert!(
        !last.batch().stats().is_approximate(),
        "nothing came any more"
    );
    let notices = notices.lock().unwrap();
    let limits: Vec<_> = notices
        .iter()
        .filter(|notice| matches!(notice.kind, NoticeKind::MemoryLimit { .. }))
        .collect();
    assert_eq!(limits.len(), 1, "{notices:?}");
    let text = limits[0].to_string();
    assert!(
        text.contains("in batch 17 ms: counts are too high by at most"),
        "{text}"
    );
}

#[test]
fn a_tally_that_shall_fail_gives_an_error_and_goes_on() {
    let mut tally = tally(&with_least_of_tally(OnLimit::Fail));
    let (text, _) = &batches(Stream::Uniform, 3, 60_000, 60_000)[0];
    tally.push(text);
    let error = tally.cut(BatchTime::from_millis(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let text = error.to_string();
    assert!(text.contains(" distinct keys in batch 5 ms: "), "{text}");
    tally.push(b"to be or not to be\n");
    let batch = tally.cut(BatchTime::from_millis(6)).unwrap();
    assert_eq!((batch.len(), batch.get(b"be")), (4, Some(2)));
}

#[test]
fn an_engine_that_shall_fail_puts_the_batch_out_and_ends() {
    let (send, shown) = mpsc::channel();
    let engine = Engine::builder(Rule::Split(b' '))
        .config(with_least_of_engine(OnLimit::Fail, 2))
        .start(move |batch| drop(send.send(Shown::of(batch))));
    let engine = engine.unwrap();
    let mut input = engine.writer().unwrap();
    let (text, _) = &batches(Stream::Uniform, 3, 400_000, 400_000)[0];
    let mut written = 0;
    let refused = text.chunks(10_000).any(|some| {
        let is_refused = input.write_all(some).is_err();
        written += if is_refused { 0 } else { some.len() };
        is_refused
    });
    assert!(
        refused,
        "writing ends when there is no room, not when the batch does"
    );
    drop(input);
    let error = engine.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let shown = shown.recv().unwrap();
    let BatchStats {
        bytes,
        other_records,
        tokens,
        last,
        ..
    } = shown.stats;
    assert!(last && other_records > 0 && other_records < tokens);
    // All that was taken is in it, and perhaps an end of line.
    assert!(
        (bytes as usize).abs_diff(written) <= 10_000,
        "{bytes} {written}"
    );
    assert_eq!(shown.counts.values().sum::<u64>() + other_records, tokens);
}

/// Serves text on a port of its own, and then says nothing more.
fn serve(text: Vec<u8>) -> (u16, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.write_all(&text);
        // Until the other side hangs up.
        let _ = std::io::Read::read(&mut peer, &mut [0]);
        drop(ended);
    });
    (port, end)
}

#[test]
fn a_context_that_shall_fail_stops_reading_and_puts_the_batch_out() {
    let (text, _) = &batches(Stream::Uniform, 3, 400_000, 400_000)[0];
    let (port, _end) = serve(text.clone());
    let hour = Duration::from_secs(3600);
    let config = config(OnLimit::Fail).workers(1).memory_bytes_max(24 << 20);
    let ssc = StreamingContext::with_config(hour, config).unwrap();
    let lines = ssc.socket_text_stream("127.0.0.1", port).unwrap();
    let (send, shown) = mpsc::channel();
    lines
        .flat_map(split(b' '))
        .count_by_value()
        .for_each_batch(move |batch, _| drop(send.send(Shown::of(batch))));
    let error = ssc.start().unwrap().await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let shown = shown.recv().unwrap();
    assert!(shown.stats.other_records > 0);
}

/// A window is made of batches that each keep within the limit, and its bound is true.
#[test]
fn a_window_under_a_limit_has_a_true_bound() {
    let (text, model) = &batches(Stream::UniqueThenHot, 9, 300_000, 300_000)[0];
    let (port, _end) = serve(text.clone());
    let second = Duration::from_secs(1);
    let start = |config: &Config| {
        let ssc = StreamingContext::with_config(second, config.clone()).unwrap();
        let lines = ssc.socket_text_stream("127.0.0.1", port).unwrap();
        let words = lines.flat_map(split(b' '));
        let (send, shown) = mpsc::channel();
        words
            .count_by_value_and_window((60 * second, second))
            .expect("a minute has room in a MiB")
            .for_each_batch(move |batch, _| drop(send.send(Shown::of(batch))));
        (ssc.start(), shown)
    };
    let config = config(OnLimit::Approximate).workers(2);
    let config = with_least(config, |config| start(config).0.err());
    let (running, shown) = start(&config);
    let running = running.unwrap();
    // All was sent at once: a window that has no more than the one before has it all.
    let mut shown = shown
        .iter()
        .map(|shown| (shown.counts.values().sum::<u64>(), shown));
    let mut last = shown.next().unwrap();
    loop {
        let next = shown.next().unwrap();
        let is_all = next.0 == last.0 && next.0 > 0;
        last = next;
        if is_all {
            break;
        }
    }
    drop(running);
    let BatchStats { error_max, .. } = last.1.stats;
    assert!(error_max > 0, "the batch's table is far too small");
    for (key, &n) in model {
        match last.1.counts.get(key) {
            Some(&count) => assert!(
                count - error_max <= n && n <= count,
                "{count} {n} {error_max}"
            ),
            None => assert!(n <= error_max, "{n} {error_max}"),
        }
    }
}

#[test]
fn a_window_whose_batches_have_no_room_is_refused() {
    let second = Duration::from_secs(1);
    let day = 24 * 3600 * second;
    let ask_all = |bytes: usize, lengths: &[Duration]| {
        let config = config(OnLimit::Approximate).memory_bytes_max(bytes);
        let ssc = StreamingContext::with_config(second, config).unwrap();
        let lines = ssc.socket_text_stream("127.0.0.1", 9).unwrap();
        let mut windows = lengths
            .iter()
            .map(|&length| lines.count_by_value_and_window((length, second)).map(drop));
        windows.try_for_each(|window| window)
    };
    let ask = |bytes| ask_all(bytes, &[day]);
    let error = ask(64 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // 86 401 batches of 1 KiB, in a half of a half.
    let message = "memory_bytes_max 67108864 is too small: 353898496 bytes (338 MiB) are needed for a window of 86401";
    assert!(error.to_string().starts_with(message), "{error}");
    assert!(ask(353_898_496).is_ok());
    // A short one takes as much of a long one as a long one of a short one.
    for lengths in [[day, 2 * second], [2 * second, day]] {
        let error = ask_all(353_898_496, &lengths).unwrap_err().to_string();
        let would_do = "707796992 bytes (676 MiB) are needed";
        assert!(error.contains(would_do), "{error}");
        assert!(ask_all(707_796_992, &lengths).is_ok());
    }
    // What was refused takes nothing of what is asked for instead.
    let config = config(OnLimit::Approximate).memory_bytes_max(64 << 20);
    let ssc = StreamingContext::with_config(second, config).unwrap();
    let lines = ssc.socket_text_stream("127.0.0.1", 9).unwrap();
    assert!(lines.count_by_value_and_window((day, second)).is_err());
    let four_hours = (day / 6, second);
    assert!(lines.count_by_value_and_window(four_hours).is_ok());
    assert!(lines.count_by_value_and_window(four_hours).is_err());
}

#[test]
fn a_window_that_keeps_all_keys_is_refused_under_a_limit() {
    let second = Duration::from_secs(1);
    let config = config(OnLimit::Approximate).memory_bytes_max(1 << 30);
    let ssc = StreamingContext::with_config(second, config).unwrap();
    let words = ssc
        .socket_text_stream("127.0.0.1", 9)
        .unwrap()
        .flat_map(split(b' '));
    let counts = words.count_by_value();
    let refused =
        counts.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, 5 * second);
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("add a filter"), "{error}");
}

/// Pipelines with functions of the user's: counts of records that a filter lets through have a
/// bound, other values go on for the keys that are there.
#[test]
fn records_that_functions_made_keep_within_the_limit_too() {
    let (text, model) = &batches(Stream::Uniform, 5, 150_000, 150_000)[0];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (hour, text) = (Duration::from_secs(3600), text.clone());
    let start = |config: &Config| {
        let ssc = StreamingContext::with_config(hour, config.clone()).unwrap();
        let never = Reconnect::Never;
        let lines = ssc
            .socket_text_stream_with("127.0.0.1", port, never)
            .unwrap();
        let words = lines.flat_map(split(b' '));
        let ((send, counts), (send_sums, sums)) = (mpsc::channel(), mpsc::channel());
        let is_word = |word: &[u8]| !word.is_empty();
        words
            .filter(is_word)
            .count_by_value()
            .for_each_batch(move |batch, _| drop(send.send(Shown::of(batch))));
        words
            .map(|word| (word, word.len() as f64))
            .reduce_by_key(|a, b| a + b)
            .for_each_batch(move |batch, _| {
                let row = |(key, sum): (&[u8], f64)| (key.to_vec(), sum, batch.missing_max(key));
                let rows: Vec<_> = batch.iter().map(row).collect();
                drop(send_sums.send((*batch.stats(), rows)));
            });
        (ssc.start(), counts, sums)
    };
    let config = config(OnLimit::Approximate).workers(2);
    let config = with_least(config, |config| start(config).0.err());
    let (running, counts, sums) = start(&config);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(&text).unwrap();
    drop(peer);
    let _ = running.unwrap().await_termination();
    let shown = counts.recv().unwrap();
    assert!(shown.stats.error_max > 0 && shown.stats.other_records == 0);
    shown.check(model);
    let (stats, rows) = sums.recv().unwrap();
    assert!(stats.other_records > 0 && stats.error_max == 0);
    let mut kept = 0;
    let mut exact = 0;
    for (key, sum, missing) in rows {
        let records = sum as u64 / key.len() as u64;
        assert!(records <= model[&key] && model[&key] <= records + missing);
        assert!(missing <= stats.missing_max && stats.missing_max <= stats.other_records);
        exact += usize::from(missing == 0);
        kept += records;
    }
    assert!(exact > 0, "what is known to be exact is said to be");
    assert_eq!(kept + stats.other_records, stats.tokens);
}

/// Words that no table has room for, counted twice: each batch as one string of bytes, its order
/// included.
fn counted_twice(
    run: impl Fn(&[(Vec<u8>, Model)]) -> Vec<Vec<u8>>,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let batches = batches(Stream::UniqueThenHot, 11, 200_000, 100_000);
    (run(&batches), run(&batches))
}

fn written(batch: &Batch<'_, u64>) -> Vec<u8> {
    let stats = batch.stats();
    let mut text = format!("{} {} ", stats.error_max, stats.other_records).into_bytes();
    for (key, count) in batch.iter() {
        text.extend_from_slice(key);
        text.extend_from_slice(format!(" {count}\n").as_bytes());
    }
    text
}

#[test]
fn tallies_of_one_seed_keep_the_same_keys_at_the_limit() {
    for on_limit in [OnLimit::Approximate, OnLimit::Other] {
        let run = |config: &Config, batches: &[(Vec<u8>, Model)]| {
            let mut tally = tally(config);
            let cut = |(index, (text, _)): (usize, &(Vec<u8>, Model))| {
                tally.push(text);
                let batch = tally.cut(BatchTime::from_millis(index as u64)).unwrap();
                assert!(batch.stats().is_approximate());
                written(&batch)
            };
            batches.iter().enumerate().map(cut).collect()
        };
        let least = with_least_of_tally(on_limit);
        let (one, two) = counted_twice(|batches| run(&least.clone().seed(5), batches));
        assert!(one == two, "equal runs are equal");
        let (one, two) = counted_twice(|batches| run(&least, batches));
        assert!(one != two, "a seed is not to be guessed");
    }
}

#[test]
fn engines_of_one_seed_keep_the_same_keys_at_the_limit() {
    for (on_limit, workers) in [
        (OnLimit::Approximate, 1),
        (OnLimit::Approximate, 3),
        (OnLimit::Other, 1),
    ] {
        let config = with_least_of_engine(on_limit, workers).seed(5);
        let run = |batches: &[(Vec<u8>, Model)]| {
            let (send, shown) = mpsc::channel();
            let engine = Engine::builder(Rule::Split(b' '))
                .config(config.clone())
                .start(move |batch| drop(send.send(written(batch))));
            let engine = engine.unwrap();
            let mut input = engine.writer().unwrap();
            for (index, (text, _)) in batches.iter().enumerate() {
                input.write_all(text).unwrap();
                engine.cut(BatchTime::from_millis(index as u64)).unwrap();
            }
            drop(input);
            engine.finish().unwrap();
            shown.iter().collect()
        };
        let (one, two) = counted_twice(run);
        assert!(one.len() >= 2 && one == two, "{on_limit:?} {workers}");
    }
}
