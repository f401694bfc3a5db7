//! Whatever a pattern is, it is understood or refused in a moment, and so is whether a name fits
//! it.
#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::internals::name_fits;

/// Far more than it takes with the sanitizers on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pieces: Vec<(&'a str, u8)>,
    name: &'a str,
    repeats: u8,
}

fuzz_target!(|input: Input| {
    // Long runs are rare in fuzzer bytes.
    let pattern: String = input
        .pieces
        .iter()
        .map(|(text, times)| text.repeat(usize::from(*times)))
        .collect();
    let mut name = input.name.repeat(usize::from(input.repeats));
    let end = (0..=name.len().min(255))
        .rev()
        .find(|&at| name.is_char_boundary(at));
    name.truncate(end.unwrap_or(0));
    let begin = Instant::now();
    if let Err(error) = name_fits(&pattern, &name) {
        assert!(error.to_string().len() < 4096, "the message is bounded");
    }
    assert!(
        begin.elapsed() < LONGEST,
        "{:?} {pattern:?} {name:?}",
        begin.elapsed()
    );
});
