//! Counts a file's words once for each of several connections, all at the same time, in one context.
//! `benches/machine/scaling.py` runs it on one core and on two.
//!
//! ```text
//! cargo run --release --example sockets CONNECTIONS FILE
//! ```
//!
//! Prints one JSON object: bytes received over all connections, seconds, and words counted. The senders are
//! threads of this program and have their share of the cores.

use std::error::Error;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use microtally::Reconnect;
use microtally::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connections, file] = &arguments[..] else {
        return Err("usage: sockets CONNECTIONS FILE".into());
    };
    let connections: u64 = connections.parse()?;
    let bytes: Arc<[u8]> = std::fs::read(file)?.into();

    let ssc = StreamingContext::new(Duration::from_millis(500))?;
    let start = Instant::now();
    for _ in 0..connections {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let bytes = Arc::clone(&bytes);
        thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("the context connects");
            client
                .write_all(&bytes)
                .expect("the context reads to the end");
        });
        let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
        let counts = lines.flat_map(split(b' ')).count_by_value();
        counts.for_each_batch(|batch, _| {
            std::hint::black_box(batch.len());
        });
    }
    let running = ssc.start()?;
    running.await_termination()?;
    let seconds = start.elapsed().as_secs_f64();
    let (received, tokens) = (bytes.len() as u64 * connections, running.stats().tokens);
    println!(r#"{{"bytes": {received}, "seconds": {seconds:.6}, "tokens": {tokens}}}"#);
    Ok(())
}
