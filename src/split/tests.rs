//! Goal: every kernel is `scalar`, and `Splitter` is the definition in `scalar::tokens`.
//!
//! Method: a table of small cases pins the definition itself to Python's answers; then one suite,
//! expanded by a macro for each kernel, compares with it: every length up to 300 at every alignment
//! of a cache line, random longer blocks, and the places where chunks meet. The alphabet is small
//! and nasty, so that runs, pairs and near misses are common. A kernel that this CPU cannot run is
//! skipped; `portable` and `scalar` never are.

use proptest::prelude::*;

use super::*;
use crate::sys::fenced::Fenced;

const ALPHABET: &[u8] = b" \n\r\t\0a\x85\xff";

/// All kinds of rule; separators that are NUL, not ASCII, a letter, the kernels' padding byte (1)
/// or a line end themselves.
const RULES: &[Rule] = &[
    Rule::Split(b' '),
    Rule::Split(b'\t'),
    Rule::Split(0),
    Rule::Split(1),
    Rule::Split(b'a'),
    Rule::Split(0x85),
    Rule::Split(0xff),
    Rule::Split(b'\n'),
    Rule::Split(b'\r'),
    Rule::SplitWhitespace,
    Rule::Lines,
];

const LINE_ENDS: [LineEnds; 3] = [LineEnds::Universal, LineEnds::Lf, LineEnds::Nul];

/// The tokens and the tallies. Comparing slices by address as well as by content means that no
/// token is merely equal to the right one.
type SplitTokens<'b> = (Vec<&'b [u8]>, Tallied);

fn defined(block: &[u8], rule: Rule, line_ends: LineEnds) -> SplitTokens<'_> {
    let mut tokens = Vec::new();
    let tallied = scalar::tokens(block, rule, line_ends, |token| tokens.push(token));
    (tokens, tallied)
}

fn split<'b>(splitter: &mut Splitter, block: &'b [u8]) -> SplitTokens<'b> {
    let mut tokens = Vec::new();
    let tallied = splitter.tokens(block, |token| tokens.push(token));
    (tokens, tallied)
}

fn assert_splits_as_defined(splitter: &mut Splitter, block: &[u8]) {
    let line_ends = splitter.kernel.line_ends();
    let expected = defined(block, splitter.rule(), line_ends);
    let actual = split(splitter, block);
    let context = || {
        (
            splitter.kernel,
            line_ends,
            splitter.rule,
            block.len(),
            &block[..block.len().min(400)],
        )
    };
    assert_eq!(actual, expected, "{:?}", context());
    let addresses =
        |answer: &SplitTokens<'_>| answer.0.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    assert_eq!(addresses(&actual), addresses(&expected), "{:?}", context());
    let token_bytes: usize = actual.0.iter().map(|token| token.len()).sum();
    assert_eq!(
        token_bytes as u64 + actual.1.delimiter_bytes,
        block.len() as u64
    );
    assert_eq!(actual.0.len() as u64, actual.1.tokens);
    assert_eq!(
        line_ends.count_in(block),
        actual.1.records,
        "{:?}",
        context()
    );
}

fn assert_indexes_as_defined(kernel: Kernel, rule: Rule, chunk: &[u8], ends: &mut [Vec<u16>; 2]) {
    let [expected_ends, actual_ends] = ends;
    let expected =
        scalar::KERNEL
            .with_line_ends(kernel.line_ends())
            .index(rule, chunk, expected_ends);
    let actual = kernel.index(rule, chunk, actual_ends);
    assert_eq!(actual, expected, "{kernel:?} {rule:?} {chunk:?}");
    let (expected, actual) = (&expected_ends[..expected.delimiters], &actual_ends[..]);
    assert_eq!(
        &actual[..expected.len()],
        expected,
        "{kernel:?} {rule:?} {chunk:?}"
    );
}

fn new_ends() -> [Vec<u16>; 2] {
    [vec![0; ENDS_LEN], vec![0; ENDS_LEN]]
}

/// A piece of a block.
#[derive(Clone, Debug)]
enum Piece {
    /// Lines, with their ends.
    Lines(Vec<u8>),
    Whole(Vec<u8>),
}

fn piece(line_ends: LineEnds) -> impl Strategy<Value = Piece> {
    let bytes = prop::sample::select(&b"aab  \0\n\r\t,"[..]);
    let long = prop_oneof![29 => 0..40usize, 1 => CHUNK_BYTES_MAX - 4..CHUNK_BYTES_MAX + 4];
    let text = long.prop_flat_map(move |len| prop::collection::vec(bytes.clone(), len));
    (text, any::<bool>()).prop_map(move |(mut text, is_whole)| match is_whole {
        true => Piece::Whole(text),
        false => {
            text.push(line_ends.terminator());
            Piece::Lines(text)
        }
    })
}

/// The tokens of a record that may hold anything: Python's `split`.
fn parts(record: &[u8], rule: Rule) -> Vec<&[u8]> {
    match rule {
        Rule::Lines => vec![record],
        Rule::Split(separator) => record.split(|&byte| byte == separator).collect(),
        Rule::SplitWhitespace => record
            .split(|&byte| rule.separates_at(byte))
            .filter(|part| !part.is_empty())
            .collect(),
    }
}

fn assert_whole_records_split_as_defined(pieces: &[Piece], rule: Rule, line_ends: LineEnds) {
    let (mut bytes, mut whole) = (Vec::new(), Vec::new());
    let (mut expected, mut records) = (Vec::<Vec<u8>>::new(), 0);
    // Lines beside each other are one text.
    let mut lines = Vec::new();
    let end_lines = |lines: &mut Vec<u8>, expected: &mut Vec<Vec<u8>>, records: &mut u64| {
        let (tokens, tallied) = defined(lines, rule, line_ends);
        expected.extend(tokens.iter().map(|token| token.to_vec()));
        *records += tallied.records;
        lines.clear();
    };
    for piece in pieces {
        match piece {
            Piece::Lines(text) => {
                lines.extend_from_slice(text);
                bytes.extend_from_slice(text);
            }
            Piece::Whole(record) => {
                end_lines(&mut lines, &mut expected, &mut records);
                let start = bytes.len() as u32;
                bytes.extend_from_slice(record);
                let end = bytes.len() as u32;
                whole.push(WholeRecord { start, end });
                bytes.push(line_ends.terminator());
                expected.extend(parts(record, rule).into_iter().map(<[u8]>::to_vec));
                records += 1;
            }
        }
    }
    end_lines(&mut lines, &mut expected, &mut records);
    let block = BlockBytes {
        bytes: &bytes,
        whole: &whole,
    };
    for kernel in Kernel::available() {
        let mut splitter = Splitter::new(rule, kernel.with_line_ends(line_ends));
        let mut tokens = Vec::new();
        let tallied = splitter.tokens(block, |token| tokens.push(token.to_vec()));
        assert_eq!(tokens, expected, "{kernel:?} {rule:?} {line_ends:?}");
        assert_eq!(
            (tallied.records, block.records(line_ends)),
            (records, records)
        );
        let token_bytes: usize = tokens.iter().map(Vec::len).sum();
        assert_eq!(
            token_bytes as u64 + tallied.delimiter_bytes,
            bytes.len() as u64
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whole_records_are_split_only_where_the_rule_separates(
        (line_ends, pieces) in prop::sample::select(&LINE_ENDS[..]).prop_flat_map(|line_ends| {
            (Just(line_ends), prop::collection::vec(piece(line_ends), 0..8))
        }),
        rule in prop_oneof![
            Just(Rule::Lines),
            Just(Rule::SplitWhitespace),
            prop::sample::select(&b" ,\n\r\0"[..]).prop_map(Rule::Split),
        ],
    ) {
        assert_whole_records_split_as_defined(&pieces, rule, line_ends);
    }
}

/// A block that the rule allows: whatever follows the last delimiter is removed.
fn cut(mut block: Vec<u8>, rule: Rule, line_ends: LineEnds) -> Vec<u8> {
    let delimiters = Delimiters { rule, line_ends };
    let len = block
        .iter()
        .rposition(|&byte| delimiters.contain(byte))
        .map_or(0, |last| last + 1);
    block.truncate(len);
    block.shrink_to_fit(); // An exact allocation, so that a sanitizer sees a byte too far.
    block
}

/// Cheap and repeatable; the small tests need no more randomness than this.
struct Lcg(u64);

impl Lcg {
    fn bytes(&mut self, len: usize, alphabet: &[u8]) -> Vec<u8> {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            alphabet[(self.0 >> 33) as usize % alphabet.len()]
        };
        (0..len).map(|_| next()).collect()
    }
}

fn arb_block() -> impl Strategy<Value = Vec<u8>> {
    let dense = proptest::collection::vec(proptest::sample::select(ALPHABET), 0..3000);
    let bytes = proptest::collection::vec(any::<u8>(), 0..3000);
    // Long pieces of one byte, so that tokens and runs reach over vectors and chunks.
    let piece = (proptest::sample::select(ALPHABET), 1..20_000usize);
    let runs = proptest::collection::vec(piece, 0..8).prop_map(|pieces| {
        pieces
            .into_iter()
            .flat_map(|(byte, len)| std::iter::repeat_n(byte, len))
            .collect()
    });
    prop_oneof![dense, bytes, runs]
}

macro_rules! suite {
    ($($kernel:ident)*) => {$(
        mod $kernel {
            use super::super::*;

            fn kernel() -> Option<Kernel> {
                Kernel::by_name(stringify!($kernel))
            }

            #[test]
            fn every_length_at_every_alignment() {
                let Some(kernel) = kernel() else { return };
                let mut random = Lcg(1);
                let mut ends = new_ends();
                let lengths = if cfg!(miri) { 0..=70 } else { 0..=300 };
                let alignments = if cfg!(miri) { 0..2 } else { 0..64 };
                for len in lengths {
                    for alignment in alignments.clone() {
                        let buffer = random.bytes(len + 128, ALPHABET);
                        let at = buffer.as_ptr().align_offset(64) + alignment;
                        let chunk = &buffer[at..at + len];
                        for &rule in RULES {
                            assert_indexes_as_defined(kernel, rule, chunk, &mut ends);
                            let nul = kernel.with_line_ends(LineEnds::Nul);
                            assert_indexes_as_defined(nul, rule, chunk, &mut ends);
                        }
                    }
                }
            }

            /// Exact allocations on both sides of every vector width, all and no delimiters.
            #[test]
            fn nothing_outside_the_chunk() {
                let Some(kernel) = kernel() else { return };
                let mut ends = new_ends();
                let lengths = [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 8191];
                let longest = [CHUNK_BYTES_MAX - 64, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX];
                for len in lengths.into_iter().chain(longest) {
                    for byte in [b' ', b'\n', b'\r', 0, 1, b'a', 0x8a, 0xa0, 0xff] {
                        let chunk = vec![byte; len].into_boxed_slice();
                        for &rule in RULES {
                            for line_ends in LINE_ENDS {
                                let kernel = kernel.with_line_ends(line_ends);
                                assert_indexes_as_defined(kernel, rule, &chunk, &mut ends);
                            }
                        }
                    }
                }
            }

            /// Every length up to some vectors, and at the largest chunk, between two pages that
            /// may not be touched.
            #[test]
            #[cfg_attr(miri, ignore)]
            fn no_byte_beyond_a_fence() {
                let Some(kernel) = kernel() else { return };
                let mut fenced = Fenced::new(2 * CHUNK_BYTES_MAX);
                let mut ends = new_ends();
                let mut random = Lcg(3);
                let longest = [65, 64, 63, 33, 32, 31, 1, 0].map(|less| CHUNK_BYTES_MAX - less);
                for len in (0..=260).chain(longest) {
                    let bytes = random.bytes(len, ALPHABET);
                    for (&rule, line_ends) in
                        RULES.iter().flat_map(|rule| LINE_ENDS.map(|ends| (rule, ends)))
                    {
                        let kernel = kernel.with_line_ends(line_ends);
                        assert_indexes_as_defined(kernel, rule, fenced.at_end(&bytes), &mut ends);
                        assert_indexes_as_defined(kernel, rule, fenced.at_start(&bytes), &mut ends);
                    }
                }
                // A splitter looks at bytes around chunks as well.
                let longest = [1, 32, 64, 65].map(|more| CHUNK_BYTES_MAX + more);
                for len in (0..=130).chain(longest) {
                    let bytes = random.bytes(len, ALPHABET);
                    for (&rule, line_ends) in
                        RULES.iter().flat_map(|rule| LINE_ENDS.map(|ends| (rule, ends)))
                    {
                        let block = cut(bytes.clone(), rule, line_ends);
                        let mut splitter = Splitter::new(rule, kernel.with_line_ends(line_ends));
                        assert_splits_as_defined(&mut splitter, fenced.at_end(&block));
                        assert_splits_as_defined(&mut splitter, fenced.at_start(&block));
                    }
                }
            }

            #[test]
            fn every_byte_is_classified() {
                let Some(kernel) = kernel() else { return };
                let mut ends = new_ends();
                let all: Vec<u8> = (0..=255).chain(0..=255).collect();
                let separators = (0..=255).map(Rule::Split);
                for rule in separators.chain([Rule::SplitWhitespace, Rule::Lines]) {
                    for line_ends in LINE_ENDS {
                        let kernel = kernel.with_line_ends(line_ends);
                        assert_indexes_as_defined(kernel, rule, &all, &mut ends);
                        assert_indexes_as_defined(kernel, rule, &all[77..200], &mut ends);
                    }
                }
            }

            #[test]
            fn short_blocks() {
                let Some(kernel) = kernel() else { return };
                let mut random = Lcg(2);
                for (&rule, line_ends) in RULES.iter().flat_map(|rule| LINE_ENDS.map(|e| (rule, e))) {
                    let mut splitter = Splitter::new(rule, kernel.with_line_ends(line_ends));
                    for len in 0..if cfg!(miri) { 40 } else { 600 } {
                        let block = cut(random.bytes(len, ALPHABET), rule, line_ends);
                        assert_splits_as_defined(&mut splitter, &block);
                    }
                }
            }

            /// `\r\n`, `\r`, `\n` and separators around every place where two chunks meet, alone
            /// and behind a token longer than a chunk, with and without a `\r` elsewhere.
            #[test]
            fn chunk_borders() {
                let Some(kernel) = kernel() else { return };
                let seams: [&[u8]; 9] =
                    [b"\r\n", b"\r", b"\n", b"\n\r", b"\r\r\n", b"\r\n\n", b" ", b" \r\n ", b"  "];
                let rules = [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines];
                for (rule, line_ends) in rules.into_iter().flat_map(|rule| LINE_ENDS.map(|e| (rule, e))) {
                    let mut splitter = Splitter::new(rule, kernel.with_line_ends(line_ends));
                    for seam in seams {
                        for borders in 1..=if cfg!(miri) { 1 } else { 2 } {
                            for before in 0..=4 {
                                let at = borders * CHUNK_BYTES_MAX - before;
                                for tail in [&b"\n"[..], b"x\n", b"x\r\n", b"\n\n"] {
                                    let mut block = vec![b'x'; at];
                                    block.extend_from_slice(seam);
                                    block.extend_from_slice(tail);
                                    let block = cut(block, rule, line_ends);
                                    assert_splits_as_defined(&mut splitter, &block);
                                }
                            }
                        }
                    }
                }
            }

            /// The counts of one chunk must not reach the next block.
            #[test]
            fn a_splitter_remembers_nothing() {
                let Some(kernel) = kernel() else { return };
                let mut splitter = Splitter::new(Rule::Split(b' '), kernel);
                for block in [&b"a\r\nb\r"[..], b"\nc\n", b"", b"\n", b"d e ", b"f\n"] {
                    assert_splits_as_defined(&mut splitter, block);
                }
            }

            proptest! {
                #![proptest_config(ProptestConfig {
                    cases: if cfg!(miri) { 2 } else { 96 },
                    failure_persistence: None,
                    ..ProptestConfig::default()
                })]

                #[test]
                fn longer_blocks(block in arb_block(), separator in any::<u8>()) {
                    if let Some(kernel) = kernel() {
                        let mut ends = new_ends();
                        let chunk = &block[..block.len().min(CHUNK_BYTES_MAX)];
                        for &rule in RULES.iter().chain(&[Rule::Split(separator)]) {
                            assert_indexes_as_defined(kernel, rule, chunk, &mut ends);
                            for line_ends in LINE_ENDS {
                                let kernel = kernel.with_line_ends(line_ends);
                                let block = cut(block.clone(), rule, line_ends);
                                assert_splits_as_defined(&mut Splitter::new(rule, kernel), &block);
                            }
                        }
                    }
                }

                /// Cutting a block behind any delimiter and splitting the pieces changes nothing,
                /// if the `\n` of a `\r\n` is removed when the cut fell between the two.
                #[test]
                fn cuts_do_not_matter(
                    block in proptest::collection::vec(proptest::sample::select(ALPHABET), 0..200),
                    rule in proptest::sample::select(RULES),
                    line_ends in proptest::sample::select(&LINE_ENDS[..]),
                    cuts in proptest::collection::vec(any::<bool>(), 200),
                ) {
                    if let Some(kernel) = kernel() {
                        let block = cut(block, rule, line_ends);
                        let (expected, whole) = defined(&block, rule, line_ends);
                        let delimiters = Delimiters { rule, line_ends };
                        let mut splitter = Splitter::new(rule, kernel.with_line_ends(line_ends));
                        let (mut tokens, mut sum) = (Vec::new(), Tallied::default());
                        let mut start = 0;
                        for end in 1..=block.len() {
                            let last = end == block.len();
                            if last || cuts[end] && delimiters.contain(block[end - 1]) {
                                let is_torn = line_ends == LineEnds::Universal
                                    && start > 0
                                    && block[start - 1..].starts_with(b"\r\n");
                                if is_torn {
                                    start += 1;
                                    sum.delimiter_bytes += 1;
                                }
                                let (piece, tallied) = split(&mut splitter, &block[start..end]);
                                tokens.extend(piece);
                                sum.records += tallied.records;
                                sum.tokens += tallied.tokens;
                                sum.delimiter_bytes += tallied.delimiter_bytes;
                                start = end;
                            }
                        }
                        prop_assert_eq!(tokens, expected);
                        prop_assert_eq!(sum, whole);
                    }
                }
            }
        }
    )*};
}

/// One module for each kernel, one level down so that `scalar` here and `super::scalar` differ.
mod kernel {
    suite! { scalar portable avx2 avx512 }
}

/// Checks the definition itself.
#[track_caller]
fn check(rule: Rule, line_ends: LineEnds, block: &str, expected: &[&str], records: u64) {
    let (tokens, tallied) = defined(block.as_bytes(), rule, line_ends);
    let expected: Vec<&[u8]> = expected.iter().map(|token| token.as_bytes()).collect();
    assert_eq!(tokens, expected, "{rule:?} {line_ends:?} {block:?}");
    assert_eq!(tallied.records, records, "{rule:?} {line_ends:?} {block:?}");
}

/// Against Python's `bytes.split` for the lines of each block.
#[test]
fn the_definition() {
    let check = |rule, block: &str, expected: &[&str], records| {
        check(rule, LineEnds::Universal, block, expected, records);
    };
    let (space, words) = (Rule::Split(b' '), Rule::SplitWhitespace);
    check(space, "", &[], 0);
    check(space, "\n", &[""], 1);
    check(space, " \n", &["", ""], 1);
    check(space, "a  b\n", &["a", "", "b"], 1);
    check(space, "a \n", &["a", ""], 1);
    check(space, "a\tb\n", &["a\tb"], 1);
    check(space, "a b ", &["a", "b"], 0); // Cut inside the line.
    check(space, " ", &[""], 0);
    check(space, "\r\n\r\n", &["", ""], 2);
    check(space, "a \r\n b\rc\n", &["a", "", "", "b", "c"], 3);
    let odd = "a\u{85}b\x0bc\x0cd\0e\u{2028}f";
    check(space, &format!("{odd}\n"), &[odd], 1);
    check(Rule::Split(b','), "a b,,c\n", &["a b", "", "c"], 1);
    for lines in [Rule::Lines, Rule::Split(b'\n'), Rule::Split(b'\r')] {
        check(lines, "a\nb\n", &["a", "b"], 2);
        check(lines, "a\r\nb\rc\n", &["a", "b", "c"], 3);
        check(lines, "a\r\r\nb\n", &["a", "", "b"], 3);
        check(lines, "\n\n", &["", ""], 2);
        check(lines, "\n\r\n\r", &["", "", ""], 3);
        check(lines, " a b \n", &[" a b "], 1);
    }
    check(words, "\n \t\x0b\x0c\r\n", &[], 2);
    let block = "  a\tb \x0b c\x1cd\r\ne\u{85}\u{a0}f\n";
    check(words, block, &["a", "b", "c\x1cd", "e\u{85}\u{a0}f"], 2);
    check(words, "a ", &["a"], 0);
}

/// What `sort`, `grep` and `sort -z` take for a line.
#[test]
fn the_definition_of_other_line_ends() {
    let (lines, space, words) = (Rule::Lines, Rule::Split(b' '), Rule::SplitWhitespace);
    let (lf, nul) = (LineEnds::Lf, LineEnds::Nul);
    check(lines, lf, "a\rb\n", &["a\rb"], 1);
    let block = "a\r\nb\r\r\n\r\n\n";
    check(lines, lf, block, &["a", "b\r", "", ""], 4);
    check(lines, lf, "\ra\n\r\n", &["\ra", ""], 2);
    let block = "a \r b\r\n\r \r\n";
    check(space, lf, block, &["a", "\r", "b", "\r", ""], 2);
    check(space, lf, "a\r ", &["a\r"], 0);
    let returns = Rule::Split(b'\r');
    check(returns, lf, "a\rb\r\nc\n", &["a", "b", "", "c"], 2);
    check(words, lf, "a\rb\r\n c\n", &["a", "b", "c"], 2);
    check(lines, nul, "a\r\nb\0\0c\n\0", &["a\r\nb", "", "c\n"], 3);
    check(space, nul, "a b\n c\0", &["a", "b\n", "c"], 1);
    check(words, nul, "a b\r\nc\0\0", &["a", "b", "c"], 2);
}

#[test]
fn delimiter_bytes_are_all_bytes_outside_tokens() {
    let rules = [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines];
    for (rule, bytes) in rules.into_iter().zip([6, 6, 4]) {
        let (_, tallied) = defined(b"a  b\r\n\r\n", rule, LineEnds::Universal);
        assert_eq!(tallied.delimiter_bytes, bytes, "{rule:?}");
    }
}

#[test]
fn kernels_are_found_by_name() {
    let names: Vec<_> = Kernel::available().map(Kernel::name).collect();
    assert_eq!(names[..2], ["scalar", "portable"]);
    assert_eq!(Some(&Kernel::detect().name()), names.last());
    for name in names {
        assert_eq!(Kernel::by_name(name).map(Kernel::name), Some(name));
    }
    assert!(Kernel::by_name("abacus").is_none());
}

#[test]
#[should_panic(expected = "block of 3 bytes does not end with a delimiter of Lines")]
fn an_unfinished_token_is_refused() {
    Splitter::new(Rule::Lines, Kernel::detect()).tokens(&b"ab "[..], |_| {});
}

#[test]
#[should_panic(expected = "chunk of 16385 bytes")]
fn a_chunk_too_long_is_refused() {
    let chunk = [0; CHUNK_BYTES_MAX + 1];
    Kernel::detect().index(Rule::Lines, &chunk, &mut [0; ENDS_LEN]);
}

#[test]
#[should_panic(expected = "room for 16447 positions")]
fn too_little_room_is_refused() {
    Kernel::detect().index(Rule::Lines, b"a", &mut [0; ENDS_LEN - 1]);
}
