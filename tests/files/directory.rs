//! Files that are put into a directory, beside other sources: each source keeps its own rule.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, UNIX_EPOCH};

use microtally::prelude::*;
use microtally::sources::DirectoryFiles;
use microtally::sources::{ChannelId, FileOptions, Fill, Intake, Source};
use microtally::time::Clock;

const INTERVAL_MS: u64 = 1000;
const START_MS: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Pieces of a line, the last one first, that are there from the start.
struct Line {
    pieces: Vec<&'static [u8]>,
    ends: bool,
    /// Is told when all was read.
    read: Sender<()>,
}

impl Source for Line {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        match self.pieces.pop() {
            Some(piece) => {
                assert_eq!(out.write(ChannelId::FIRST, piece), piece.len());
                Fill::More
            }
            None => {
                let _ = self.read.send(());
                if self.ends {
                    Fill::End
                } else {
                    Fill::Pending(None)
                }
            }
        }
    }

    fn name(&self) -> &str {
        "line"
    }
}

fn put(path: &Path, content: &str, modified_ms: u64) {
    std::fs::write(path, content).unwrap();
    let file = File::options().append(true).open(path).unwrap();
    let time = UNIX_EPOCH + Duration::from_millis(modified_ms);
    file.set_modified(time).unwrap();
}

/// Spark's rule holds for the directory whatever else is in the stream: a file is in the batch in
/// whose time it was found, whole, once; lines that are not complete do not mix with it.
#[test]
fn a_file_is_in_the_batch_it_was_found_in_beside_other_sources() {
    let directory = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(INTERVAL_MS);
    let ssc = StreamingContext::new(interval).unwrap();
    let clock = Clock::manual(Duration::from_millis(START_MS));
    ssc.set_clock(clock.clone());
    let files = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        DirectoryFiles::new(path, interval, FileOptions::default()).unwrap()
    };
    let (read, is_read) = channel();
    let lines = ssc.union_sources(vec![
        // Never complete until the stop.
        Box::new(Line {
            pieces: vec![b"torn"],
            ends: false,
            read: read.clone(),
        }),
        Box::new(files("one")),
        Box::new(files("two")),
        Box::new(Line {
            pieces: vec![b"line\n", b"a "],
            ends: true,
            read,
        }),
    ]);
    let (sender, batches) = channel();
    lines
        .unwrap()
        .count_by_value()
        .for_each_batch(move |batch, time| {
            let lines = batch
                .iter()
                .map(|(line, count)| (String::from_utf8_lossy(line).into_owned(), count));
            let mut lines: Vec<(String, u64)> = lines.collect();
            lines.sort();
            let _ = sender.send((time.as_millis() - START_MS, lines));
        });
    let running = ssc.start().unwrap();
    // The others' lines belong to the batch that is open when they come.
    (0..2).for_each(|_| is_read.recv_timeout(PATIENCE).unwrap());
    let next = |modified_ms: &[(&str, &str, u64)]| {
        for (name, content, at) in modified_ms {
            put(&directory.path().join(name), content, START_MS + at);
        }
        clock.advance(interval);
        let (time, lines) = batches.recv_timeout(PATIENCE).unwrap();
        let lines = lines
            .into_iter()
            .map(|(line, count)| format!("{line} {count}"));
        (time, lines.collect::<Vec<_>>().join(", "))
    };
    // One is from the future: its batch is the third.
    let now = [
        ("one/a", "file\nunended", 500),
        ("two/a", "file\n", 1000),
        ("two/b", "future\n", 2500),
    ];
    assert_eq!(next(&now), (1000, "a line 1, file 2, unended 1".to_owned()));
    assert_eq!(next(&[]), (2000, String::new()));
    // A path that was taken is not taken again.
    let again = [("one/a", "never\n", 2900), ("one/b", "more", 2900)];
    assert_eq!(next(&again), (3000, "future 1, more 1".to_owned()));
    running.stop(Stop::Graceful).unwrap();
    let (_, last) = batches.recv_timeout(PATIENCE).unwrap();
    assert_eq!(last, [("torn".to_owned(), 1)]);
}
