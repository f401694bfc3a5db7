//! Files put into a directory, through a whole context with a clock that the test moves.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, UNIX_EPOCH};

use microtally::sources::FileOptions;
use microtally::time::Clock;
use microtally::{RunningContext, Stop, StreamingContext};

const WAIT_MAX: Duration = Duration::from_secs(20);

/// The time of a batch and its lines, in order, each with its count.
type Lines = (u64, Vec<(String, u64)>);

fn put(path: &Path, content: &str, modified_ms: u64) {
    fs::write(path, content).unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(modified_ms))
        .unwrap();
}

fn start(
    directory: &Path,
    options: FileOptions,
    clock: &Clock,
) -> (RunningContext, Receiver<Lines>) {
    let ssc = StreamingContext::new(Duration::from_secs(2)).unwrap();
    ssc.set_clock(clock.clone());
    let (sender, batches) = channel();
    let lines = ssc.text_file_stream_with(directory, options).unwrap();
    lines.count_by_value().for_each_batch(move |batch, time| {
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        let mut lines: Vec<_> = batch
            .iter()
            .map(|(key, count)| (text(key), count))
            .collect();
        lines.sort();
        let _ = sender.send((time.as_millis(), lines));
    });
    (ssc.start().unwrap(), batches)
}

fn lines(texts: &[&str]) -> Vec<(String, u64)> {
    texts.iter().map(|text| ((*text).to_owned(), 1)).collect()
}

#[test]
fn each_batch_holds_the_files_of_its_time() {
    for new_files_only in [true, false] {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join("0"), "0\n", 10_000);
        let clock = Clock::manual(Duration::from_secs(12));
        let options = FileOptions::default().new_files_only(new_files_only);
        let (running, batches) = start(root.path(), options, &clock);
        for number in 1..=5 {
            let time_ms = 12_000 + number * 2000;
            // No line end: that of the file is one.
            put(
                &root.path().join(format!("{number}a")),
                &format!("{number}a"),
                time_ms - 1,
            );
            put(
                &root.path().join(format!("{number}b")),
                &format!("{number}b"),
                time_ms,
            );
            clock.advance(Duration::from_secs(2));
            let (time, counted) = batches.recv_timeout(WAIT_MAX).expect("a batch is put out");
            assert_eq!(time, time_ms);
            let (a, b) = (format!("{number}a"), format!("{number}b"));
            let expected = if number == 1 && !new_files_only {
                lines(&["0", &a, &b])
            } else {
                lines(&[&a, &b])
            };
            assert_eq!(counted, expected);
        }
        // The last batch takes what is there, though its time has not come.
        put(&root.path().join("last"), "last", 22_500);
        running.stop(Stop::Graceful).unwrap();
        assert_eq!(
            batches.recv_timeout(WAIT_MAX),
            Ok((24_000, lines(&["last"])))
        );
    }
}

/// Larger than all rings together, so that reading has to wait for room and goes on by itself.
#[test]
fn a_file_larger_than_all_rings_is_one_batch() {
    let root = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Duration::from_secs(12));
    let (running, batches) = start(root.path(), FileOptions::default(), &clock);
    let line = "a line of some length, many times over\n";
    put(&root.path().join("large"), &line.repeat(1_000_000), 13_000);
    clock.advance(Duration::from_secs(2));
    let (_, counted) = batches.recv_timeout(WAIT_MAX).expect("a batch is put out");
    assert_eq!(counted, [(line.trim_end().to_owned(), 1_000_000)]);
    running.stop(Stop::Immediate).unwrap();
}
