//! Receives a TCP stream to its end and looks at nothing: the limit that no program behind a socket can
//! pass. `benches/machine/compare.py` runs it beside the counting program.
//!
//! ```text
//! cargo run --release --example discard HOST PORT
//! ```
//!
//! Prints one JSON object: how many bytes came, how long they took from the first on, and the rate without
//! the first part, during which a sender may still be making its text.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

/// As large as the engine's blocks, so that both ask the kernel as often.
const READ_BYTES: usize = 256 << 10;

/// Left out of `gb_per_s`: twice what the load generator makes before it repeats itself.
const WARM_UP_BYTES: u64 = 128 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = match &arguments[..] {
        [host, port] => format!("{host}:{port}"),
        _ => return Err(io::Error::other("usage: discard HOST PORT")),
    };
    let mut stream = TcpStream::connect(address)?;
    let mut buf = vec![0; READ_BYTES];
    let mut bytes = stream.read(&mut buf)? as u64;
    let start = Instant::now();
    let mut warm = None;
    loop {
        if warm.is_none() && bytes >= WARM_UP_BYTES {
            warm = Some((Instant::now(), bytes));
        }
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(count) => bytes += count as u64,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (from, before) = warm.unwrap_or((start, 0));
    let gb_per_s = (bytes - before) as f64 / from.elapsed().as_secs_f64() / 1e9;
    println!(r#"{{"bytes": {bytes}, "seconds": {seconds:.6}, "gb_per_s": {gb_per_s:.4}}}"#);
    Ok(())
}
