//! Every kernel returns what the definition returns, for every rule and every block.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::Rule;
use microtally::config::LineEnds;
use microtally::internals::{CHUNK_BYTES_MAX, Kernel, Splitter, scalar};
use microtally_fuzz::{AnyEnds, AnyRule};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    rule: AnyRule,
    line_ends: AnyEnds,
    /// Bytes in front, so that the interesting ones meet vector and chunk borders.
    shift: u16,
    filler: u8,
    ends_with_return: bool,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let rule = Rule::from(input.rule);
    let mut block = vec![input.filler; usize::from(input.shift) % (CHUNK_BYTES_MAX + 128)];
    block.extend_from_slice(input.bytes);
    let line_ends = LineEnds::from(input.line_ends);
    block.push(match line_ends {
        LineEnds::Universal if input.ends_with_return => b'\r',
        LineEnds::Nul => 0,
        _ => b'\n',
    });
    let mut expected = Vec::new();
    let tallied = scalar::tokens(&block, rule, line_ends, |token| expected.push(token));
    for kernel in Kernel::available().map(|kernel| kernel.with_line_ends(line_ends)) {
        let mut tokens = expected.iter();
        let got = Splitter::new(rule, kernel).tokens(&block, |token| {
            assert_eq!(Some(&token), tokens.next(), "{kernel:?}");
        });
        assert_eq!(tokens.next(), None, "{kernel:?} gives too few tokens");
        assert_eq!(got, tallied, "{kernel:?}");
    }
});
