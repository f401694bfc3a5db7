//! The counting pipeline works in chunks; what lies where two of them meet is counted like anything
//! else. The bytes of the fuzzer begin just before such a place, behind one long word.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::internals::{CHUNK_BYTES_MAX, Kernel};
use microtally::time::BatchTime;
use microtally::{Config, Rule, Tally};
use microtally_fuzz::AnyRule;
use microtally_fuzz::definition::{Definition, Expected};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    rule: AnyRule,
    /// How far before the border the bytes begin.
    reach: u8,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let rule = Rule::from(input.rule);
    let mut stream = vec![b'b'; CHUNK_BYTES_MAX - usize::from(input.reach % 32) - 1];
    stream.push(b'\n');
    stream.extend_from_slice(input.bytes);
    let tally = Tally::with_kernel(rule, &Config::default(), Kernel::detect());
    let mut tally = tally.expect("in range");
    tally.push(&stream);
    tally.end_of_stream();
    let batch = tally.cut(BatchTime::default()).expect("the ledger closes");
    assert_eq!(Expected::seen(&batch), Definition::of(&stream, rule));
});
