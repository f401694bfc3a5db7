//! Programs over files, and what they counted.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::sources::Files;
use microtally::{Config, Error, Rule, StreamingContext};

use crate::definition::Expected;

/// What a run came to: what its batches held together, its notices, and its error.
pub(crate) struct Outcome {
    pub(crate) seen: Expected,
    pub(crate) batches: usize,
    pub(crate) truncated_records: u64,
    pub(crate) notices: Vec<String>,
    pub(crate) error: Option<Error>,
}

/// A context with the tokens of `rule` of `files`, and what will be known of its run.
pub(crate) fn program(files: Files, rule: Rule, config: Config) -> (StreamingContext, Watch) {
    let ssc = StreamingContext::with_config(Duration::from_secs(3600), config).unwrap();
    let watch = Watch::default();
    {
        let watch = watch.clone();
        ssc.on_notice(move |notice| watch.0.lock().unwrap().notices.push(notice.to_string()));
    }
    let gathered = watch.clone();
    let lines = ssc.files_stream(files);
    let counts = match rule {
        Rule::Lines => lines.count_by_value(),
        Rule::Split(separator) => lines
            .flat_map(microtally::stream::split(separator))
            .count_by_value(),
        _ => lines
            .flat_map(microtally::stream::split_whitespace())
            .count_by_value(),
    };
    counts.for_each_batch(move |batch, _| {
        let mut state = gathered.0.lock().unwrap();
        state.seen = std::mem::take(&mut state.seen).plus(Expected::seen(batch));
        state.truncated_records += batch.stats().truncated_records;
        state.batches += 1;
    });
    (ssc, watch)
}

/// What is known of a run while it goes on.
#[derive(Clone, Default)]
pub(crate) struct Watch(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) seen: Expected,
    pub(crate) batches: usize,
    pub(crate) truncated_records: u64,
    pub(crate) notices: Vec<String>,
}

impl Watch {
    pub(crate) fn outcome(self, ended: Result<(), Error>) -> Outcome {
        let state = std::mem::take(&mut *self.0.lock().unwrap());
        Outcome {
            seen: state.seen,
            batches: state.batches,
            truncated_records: state.truncated_records,
            notices: state.notices,
            error: ended.err(),
        }
    }
}

/// Runs to the ends of the files on all workers at once.
pub(crate) fn all_at_once(files: Files, rule: Rule, config: Config) -> Outcome {
    let (ssc, watch) = program(files, rule, config);
    let ended = ssc.start_files().unwrap().await_termination();
    watch.outcome(ended)
}

/// Reads the files as a stream.
pub(crate) fn one_by_one(files: Files, rule: Rule, config: Config) -> Outcome {
    let (ssc, watch) = program(files, rule, config);
    let ended = ssc.start().unwrap().await_termination();
    watch.outcome(ended)
}

/// Writes a file of each content.
pub(crate) fn put(root: &Path, contents: &[Vec<u8>]) -> Vec<PathBuf> {
    let named = contents.iter().enumerate().map(|(index, content)| {
        let path = root.join(format!("{index:03}.log"));
        std::fs::write(&path, content).unwrap();
        path
    });
    named.collect()
}
