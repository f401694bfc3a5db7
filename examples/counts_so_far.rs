//! Counts the words of standard input on top of what earlier runs counted.
//!
//! ```sh
//! cargo build --release --example counts_so_far
//! echo "to be or not to be" | target/release/examples/counts_so_far states
//! echo "that is to be" | target/release/examples/counts_so_far states
//! ```

use std::fs::{self, File};
use std::path::Path;

use microtally::Config;
use microtally::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("states".to_owned());
    let (path, new) = (Path::new(&path), format!("{path}.new"));

    let ssc = StreamingContext::one_batch(Config::default())?;
    let words = ssc.stdin_text_stream().named("lines").split(b' ');
    let counts = words.count_by_value().named("words");
    counts
        .reduce_by_key_so_far(|a, b| a + b)
        .named("so far")
        .pprint(10);
    eprint!("{}", ssc.explain()?);

    if path.exists() {
        ssc.load_states(File::open(path)?);
    }
    // A new file, so that a run that fails leaves the old states.
    ssc.save_states(File::create(&new)?);
    ssc.start()?.await_termination()?;
    fs::rename(new, path)?;
    Ok(())
}
