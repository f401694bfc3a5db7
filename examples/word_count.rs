//! Counts the words of a text stream every five seconds: Spark's tutorial program.
//!
//! ```text
//! nc -lk 9999                                            # in one terminal
//! cargo run --release --example word_count [HOST PORT]   # in another
//! ```

use microtally::prelude::*;

fn main() -> Result<(), microtally::Error> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or("localhost".to_owned());
    let port = arguments.next().unwrap_or("9999".to_owned());
    let port = port
        .parse()
        .map_err(|_| microtally::Error::refused(format!("port {port:?} is not 1 to 65535")))?;

    // 1. connect
    let ssc = StreamingContext::new(Duration::from_secs(5))?;
    let lines = ssc.socket_text_stream(&host, port)?;
    // 2. transform
    let word_counts = lines
        .flat_map(split(b' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b);
    word_counts.pprint(10);
    // 3. start and stop
    let running = ssc.start()?;
    running.await_termination()
}
