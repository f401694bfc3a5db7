//! A run that counts the lines of a source, TCP clients, and patience.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use microtally::Config;
use microtally::batch::BatchStats;
use microtally::engine::RunStats;
use microtally::notice::{Notice, NoticeKind};
use microtally::prelude::*;
use microtally::sources::Source;
use microtally::sources::TcpListen;
use socket2::SockRef;

/// Longest wait for anything: far beyond what a busy machine needs, so only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const INTERVAL: Duration = Duration::from_millis(20);

pub(crate) type Counts = BTreeMap<String, u64>;

/// A running context.
pub(crate) struct Run {
    running: RunningContext,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    notices: Vec<String>,
    /// Every notice, by kind.
    notice_counts: BTreeMap<&'static str, u64>,
    /// The sums over all batches that metrics have too, by their names.
    sums: BTreeMap<&'static str, u64>,
}

/// The figures of a batch that metrics have too.
fn figures(stats: &BatchStats) -> [(&'static str, u64); 11] {
    [
        ("engine_batches_total", 1),
        ("engine_records_total", stats.records),
        ("engine_tokens_total", stats.tokens),
        ("engine_bytes_total", stats.bytes),
        ("source_lost_records_total", stats.lost_records),
        ("source_lost_bytes_total", stats.lost_bytes),
        (
            "source_refused_connections_total",
            stats.refused_connections,
        ),
        ("intake_oversize_tokens_total", stats.oversize_tokens),
        ("intake_oversize_bytes_total", stats.oversize_bytes),
        ("intake_truncated_records_total", stats.truncated_records),
        ("intake_truncated_bytes_total", stats.truncated_bytes),
    ]
}

/// Counts the lines of `source`.
pub(crate) fn count(source: impl Source + 'static) -> Run {
    count_with(source, Config::default())
}

pub(crate) fn count_with(source: impl Source + 'static, config: Config) -> Run {
    let ssc = StreamingContext::with_config(INTERVAL, config).unwrap();
    let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
    let reported = Arc::clone(&seen);
    ssc.on_notice(move |notice: &Notice| {
        let mut seen = reported.0.lock().unwrap();
        *seen.notice_counts.entry(notice.kind.name()).or_default() += 1;
        // A busy machine is late, and every listener reports that it listens.
        if !matches!(
            notice.kind,
            NoticeKind::Behind { .. } | NoticeKind::Listening { .. }
        ) {
            seen.notices.push(notice.to_string());
            reported.1.notify_all();
        }
    });
    let counted = Arc::clone(&seen);
    ssc.source_stream(source)
        .count_by_value()
        .for_each_batch(move |batch, _| {
            let mut seen = counted.0.lock().unwrap();
            for (name, figure) in figures(batch.stats()) {
                *seen.sums.entry(name).or_default() += figure;
            }
            for (line, count) in batch.iter() {
                let line = String::from_utf8_lossy(line).into_owned();
                *seen.counts.entry(line).or_default() += count;
            }
            counted.1.notify_all();
        });
    Run {
        running: ssc.start().unwrap(),
        seen,
    }
}

impl Run {
    fn wait_until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let seen = self.seen.0.lock().unwrap();
        let waits = |seen: &mut Seen| !is_so(seen);
        let (seen, timeout) = self
            .seen
            .1
            .wait_timeout_while(seen, PATIENCE, waits)
            .unwrap();
        let (counts, notices) = (&seen.counts, &seen.notices);
        assert!(
            !timeout.timed_out(),
            "waited for {what}: {} different lines, {notices:?}",
            counts.len()
        );
    }

    /// Waits until this line was counted `count` times.
    pub(crate) fn wait_for(&self, line: &str, count: u64) {
        self.wait_until(&format!("{count} of {line:?}"), |seen| {
            seen.counts.get(line).is_some_and(|&so_far| so_far >= count)
        });
    }

    /// Waits for a notice that contains these words.
    pub(crate) fn wait_for_notice(&self, words: &str) {
        let has = |seen: &Seen| seen.notices.iter().any(|notice| notice.contains(words));
        self.wait_until(words, has);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.seen.0.lock().unwrap().counts.clone()
    }

    /// Does something while no batch can be published.
    pub(crate) fn hold_up(&self, meanwhile: impl FnOnce()) {
        let _held = self.seen.0.lock().unwrap();
        meanwhile();
    }

    /// Stops, and returns the counts and the notices.
    pub(crate) fn stop(self) -> (Counts, Vec<String>) {
        let (counts, notices, _) = self.stop_with_stats();
        (counts, notices)
    }

    /// As [`stop`](Self::stop), with the statistics of the run. The metrics must have the sums over
    /// the batches, and the notices.
    pub(crate) fn stop_with_stats(self) -> (Counts, Vec<String>, RunStats) {
        let handle = self.running.stop_handle();
        let stats = self.running.stop(Stop::Graceful).unwrap();
        let seen = std::mem::take(&mut *self.seen.0.lock().unwrap());
        let metrics = handle.metrics();
        for (name, sum) in &seen.sums {
            assert_eq!(metrics.total(name), Some(*sum), "{name}");
        }
        for (kind, count) in &seen.notice_counts {
            assert_eq!(metrics.get("notices_total", kind), Some(*count), "{kind}");
        }
        assert_eq!(metrics.total("intake_held_bytes"), Some(0));
        (seen.counts, seen.notices, stats)
    }
}

/// Waits until `is_so` returns `true`.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A TCP source on a free port.
pub(crate) fn listening() -> (TcpListen, SocketAddr) {
    let source = TcpListen::bind("127.0.0.1", 0).unwrap();
    let address = source.local_addr();
    (source, address)
}

/// A TCP client.
pub(crate) fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Resets a connection instead of ending it.
pub(crate) fn reset(stream: TcpStream) {
    let socket = SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn counts<const N: usize>(of: [(&str, u64); N]) -> Counts {
    of.map(|(line, count)| (line.to_owned(), count)).into()
}

/// Returns `true` in a process that runs only the named test and may open `files_max` files.
/// Otherwise runs the test in one.
pub(crate) fn is_alone(test: &str, files_max: u32) -> bool {
    const ALONE: &str = "MICROTALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -n {files_max}; exec \"$0\" {test} --exact --nocapture");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(program).env(ALONE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}");
    print!("{text}");
    false
}
