//! Text over loopback TCP: received and discarded, or counted by whole programs.
//!
//! Promise: the time from the sender's first byte until everything was received, or until the last
//! batch was published; starting and connecting are not in it.
//! Must not know: calibrate, matrix, figures.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use microtally::error::Result;
use microtally::sources::Reconnect;
use microtally::stream::LineRecords;
use microtally::stream::{DStream, Reduced, split};
use microtally::{Config, Error, StreamingContext};

use super::clock::timed;
use crate::corpora::words::CHUNK_BYTES_MAX;
use crate::corpora::{LOG_FIELD, SEPARATOR, field};

/// Batches are cut while bytes come, as in real use.
const INTERVAL: Duration = Duration::from_millis(100);

/// A program that counts what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Words, as `microtally words` does.
    Words,
    /// Words, with the closures of the tutorial.
    Closures,
    /// One field of each line.
    Field,
}

impl Program {
    /// Returns its source, for the reader of a table.
    pub(super) fn what(self) -> &'static str {
        match self {
            Program::Words => "`flat_map(split(b' ')).count_by_value()`",
            Program::Closures => "`flat_map(split(b' ')).map(…).reduce_by_key(…)`, the tutorial's",
            Program::Field => "`map` to the sixth field, `reduce_by_key`",
        }
    }

    fn attach(self, lines: &DStream<LineRecords>) -> Reduced<u64> {
        let words = || lines.flat_map(split(SEPARATOR));
        match self {
            Program::Words => words().count_by_value(),
            Program::Closures => words().map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b),
            Program::Field => lines
                .map(|line| (field(line, LOG_FIELD), 1u64))
                .reduce_by_key(|a, b| a + b),
        }
    }

    /// Returns the counts it has to find, made in the obvious way.
    pub(super) fn expected(self, bytes: &[u8]) -> HashMap<&[u8], u64> {
        let mut counts = HashMap::new();
        let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in lines.split(|&byte| byte == b'\n') {
            if self == Program::Field {
                let key = line.split(|&byte| byte == SEPARATOR).nth(LOG_FIELD);
                *counts.entry(key.unwrap_or_default()).or_insert(0) += 1;
            } else {
                for word in line.split(|&byte| byte == SEPARATOR) {
                    *counts.entry(word).or_insert(0) += 1;
                }
            }
        }
        counts
    }
}

/// Receives and discards `times` copies of `bytes`. Returns the seconds.
///
/// # Errors
///
/// Loopback is unavailable.
pub(super) fn discard(bytes: &[u8], times: u64) -> Result<f64> {
    with_sender(bytes, times, |port, go| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| refused(&e))?;
        // As large as an engine's block: one read fills it, or takes what there is.
        let mut buf = vec![0; 256 << 10];
        let (received, seconds) = timed(|| {
            go();
            let mut received = 0;
            loop {
                match stream.read(&mut buf) {
                    Ok(0) => return Ok(received),
                    Ok(count) => received += count as u64,
                    Err(cause) => return Err(refused(&cause)),
                }
            }
        });
        assert_eq!(received?, bytes.len() as u64 * times, "bytes over loopback");
        Ok(seconds)
    })
}

/// Runs `program` on `times` copies of `bytes` and returns the seconds. Panics if the sum of its
/// counts differs from that of `expected`.
///
/// # Errors
///
/// The run failed, or loopback is unavailable.
pub(super) fn run(
    program: Program,
    config: &Config,
    bytes: &[u8],
    times: u64,
    expected: &HashMap<&[u8], u64>,
) -> Result<f64> {
    let total = Arc::new(Mutex::new(0));
    let shared = Arc::clone(&total);
    let seconds = with_program(program, config, bytes, times, |counts| {
        counts.for_each_batch(move |batch, _| {
            *shared.lock().expect("nobody panicked with it") += batch.stats().tokens;
        });
    })?;
    let expected = expected.values().sum::<u64>() * times;
    let total = *total.lock().expect("nobody panicked with it");
    assert_eq!(total, expected, "{program:?}: keys over loopback");
    Ok(seconds)
}

/// Runs `program` once and panics unless it finds `expected`, key by key.
///
/// # Errors
///
/// Those of [`run`].
pub(super) fn check(
    program: Program,
    config: &Config,
    bytes: &[u8],
    expected: &HashMap<&[u8], u64>,
) -> Result<()> {
    let found = Arc::new(Mutex::new(HashMap::<Vec<u8>, u64>::new()));
    let shared = Arc::clone(&found);
    with_program(program, config, bytes, 1, |counts| {
        counts.for_each_batch(move |batch, _| {
            let mut found = shared.lock().expect("nobody panicked with it");
            for (key, count) in batch.iter() {
                *found.entry(key.to_vec()).or_insert(0) += count;
            }
        });
    })?;
    let found = found.lock().expect("nobody panicked with it");
    assert_eq!(found.len(), expected.len(), "{program:?}: distinct keys");
    for (key, count) in found.iter() {
        let expected = expected.get(&key[..]);
        assert_eq!(expected, Some(count), "{program:?}: {}", key.escape_ascii());
    }
    Ok(())
}

fn with_program(
    program: Program,
    config: &Config,
    bytes: &[u8],
    times: u64,
    output: impl FnOnce(&Reduced<u64>),
) -> Result<f64> {
    with_sender(bytes, times, |port, go| {
        let ssc = StreamingContext::with_config(INTERVAL, config.clone())?;
        let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
        output(&program.attach(&lines));
        let running = ssc.start()?;
        let (ended, seconds) = timed(|| {
            go();
            running.await_termination()
        });
        ended.map(|()| seconds)
    })
}

/// Calls `receive` with a port to connect to and a function that waits for the connection and lets
/// the sender begin: `times` copies of `bytes`, then the end of the stream.
fn with_sender<T>(
    bytes: &[u8],
    times: u64,
    receive: impl FnOnce(u16, &dyn Fn()) -> Result<T>,
) -> Result<T> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| refused(&e))?;
    let port = listener.local_addr().map_err(|e| refused(&e))?.port();
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (begin, has_begun) = mpsc::channel();
        scope.spawn(move || -> io::Result<()> {
            let (mut client, _) = listener.accept()?;
            // Nobody waits when the receiver failed: there is nothing to send then.
            if ready.send(()).is_err() || has_begun.recv().is_err() {
                return Ok(());
            }
            for _ in 0..times {
                // In the pieces that the load generator sends. A receiver that fails says so
                // itself.
                for piece in bytes.chunks(CHUNK_BYTES_MAX) {
                    client.write_all(piece)?;
                }
            }
            Ok(())
        });
        let received = receive(port, &|| {
            // The sender is there until it is told to begin.
            let _ = is_ready.recv();
            let _ = begin.send(());
        });
        drop(begin);
        if received.is_err() {
            // Perhaps before it connected: the sender must not wait for ever.
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        received
    })
}

fn refused(cause: &io::Error) -> Error {
    Error::refused(format!("cannot use loopback: {cause}"))
}
