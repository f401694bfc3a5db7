//! Splits a block of bytes into records and tokens.
//!
//! Promise: for every rule, every block and every chunk size, all kernels return exactly what
//! `scalar` returns, and no kernel reads a byte outside the slice it was handed. Must not know:
//! sources, rings, tables, threads, what is done with a token.
//!
//! A byte of a block is either part of a token or a *delimiter*. A delimiter ends exactly one
//! token, except for the `\n` of a `\r\n`, which belongs to the `\r` before it and ends nothing.
//! The rest follows: a block may be cut behind any delimiter, not only behind a line end, and the
//! pieces can be split one after the other.
//!
//! ```text
//!   block   t o   b e \n n o t \r\n o r \n        rule: Split(b' ')
//!   index       2     5        9 10      13       one u16 per delimiter byte, per chunk
//!   tokens  "to" "be"   "not"       "or"          previous position + 1 .. position
//! ```
//!
//! There are two phases instead of one search per token: an index pass finds all delimiters of a
//! chunk with whole vectors, then a loop without searching cuts the tokens. Searching per token
//! costs about twenty cycles a word. The index costs about one, and its counts let a chunk without
//! `\r` skip all handling of `\r\n`.
//!
//! Reading order: `scalar` is the definition, `portable` runs everywhere, `avx2` and `avx512` are
//! faster versions. `line_ends` and `rule` say what is split at what, this file chooses the kernel
//! and cuts the tokens, `record` splits single records.

pub mod scalar;

mod block_bytes;
mod line_ends;
mod portable;
pub(crate) mod record;
mod rule;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use self::portable::BITS;

pub use self::block_bytes::{BlockBytes, WholeRecord};
pub use self::line_ends::LineEnds;
pub(crate) use self::rule::Delimiters;
pub use self::rule::Rule;

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes that one index pass looks at.
///
/// A chunk, its positions and the consumer's own lines should share a 32 KiB first-level cache:
/// English text has one delimiter in five or six bytes, so 16 KiB of it brings 6 KiB of positions.
/// 8 and 32 KiB measured the same.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Positions that [`Kernel::index`] needs room for: one for each byte of the largest chunk and one
/// vector more, so that a kernel may store whole vectors however many lanes count.
pub const ENDS_LEN: usize = CHUNK_BYTES_MAX + 64;

const _: () = {
    assert!(CHUNK_BYTES_MAX < 1 << 16); // Positions are u16, and so is the one behind the last.
    assert!(CHUNK_BYTES_MAX.is_multiple_of(64)); // Only the last chunk of a block has a tail.
};

/// What one index pass found in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChunkCounts {
    /// Delimiter bytes, which is how many positions were written. Both bytes of a `\r\n` count.
    pub delimiters: usize,
    /// How many bytes are `\n`.
    pub line_feeds: usize,
    /// How many bytes are `\r`. If there are none, and none before the chunk, then every delimiter
    /// ends one token and every `\n` one record.
    pub carriage_returns: usize,
    /// Whether any byte is NUL, delimiter or not.
    pub has_nul: bool,
}

/// One implementation of the index pass.
///
/// A value exists only if this CPU has the instructions the kernel is made of.
#[derive(Clone, Copy)]
pub struct Kernel {
    name: &'static str,
    /// Takes the two bytes that are line ends: what it counts as `\n` and as `\r`.
    index: fn(Rule, [u8; 2], &[u8], &mut [u16]) -> ChunkCounts,
    line_ends: LineEnds,
}

impl Kernel {
    /// The fastest kernel for this CPU. The CPU is asked once per process.
    pub fn detect() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| {
            Kernel::available()
                .last()
                .expect("`scalar` is always available")
        })
    }

    /// All kernels this CPU can run, slowest first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        #[cfg(target_arch = "x86_64")]
        let vector = [avx2::kernel(), avx512::kernel()];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Kernel>; 0] = [];
        [scalar::KERNEL, portable::KERNEL]
            .into_iter()
            .chain(vector.into_iter().flatten())
    }

    /// The kernel called `name`, if there is one and this CPU can run it.
    pub fn by_name(name: &str) -> Option<Kernel> {
        Kernel::available().find(|kernel| kernel.name == name)
    }

    /// This kernel for records with these line ends; the default is [`LineEnds::Universal`].
    pub fn with_line_ends(self, line_ends: LineEnds) -> Kernel {
        Kernel { line_ends, ..self }
    }

    /// Where records end.
    pub fn line_ends(self) -> LineEnds {
        self.line_ends
    }

    /// `scalar`, `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Writes the position of every delimiter byte of `chunk` to the front of `ends`, ascending.
    /// With [`LineEnds::Lf`] every `\r` is among them: whether it is one depends on the byte behind
    /// it. What `ends` holds behind the first `delimiters` positions is unspecified.
    ///
    /// # Panics
    ///
    /// If `chunk` is longer than [`CHUNK_BYTES_MAX`] or `ends` shorter than [`ENDS_LEN`].
    #[inline]
    pub fn index(self, rule: Rule, chunk: &[u8], ends: &mut [u16]) -> ChunkCounts {
        // The vector kernels rely on these two lines for every load and store they make.
        assert!(
            chunk.len() <= CHUNK_BYTES_MAX,
            "chunk of {} bytes",
            chunk.len()
        );
        assert!(ends.len() >= ENDS_LEN, "room for {} positions", ends.len());
        let mut found = (self.index)(rule, self.line_ends.bytes(), chunk, ends);
        if self.line_ends == LineEnds::Nul {
            // The same byte was looked for twice; and every NUL is a delimiter, so no token ends in
            // one.
            found.carriage_returns = 0;
            found.has_nul = false;
        }
        found
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kernel").field(&self.name).finish()
    }
}

/// What splitting a block came to.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tallied {
    /// Line ends; `\r\n` is one.
    pub records: u64,
    /// Tokens handed out.
    pub tokens: u64,
    /// Bytes that are in no token; `\r\n` is two. The bytes of all tokens and these add up to the
    /// block.
    pub delimiter_bytes: u64,
}

/// Cuts blocks into tokens. Owns the scratch positions, so that splitting allocates nothing.
#[derive(Debug)]
pub struct Splitter {
    rule: Rule,
    kernel: Kernel,
    /// Always `ENDS_LEN` long; its content is meaningless between two chunks.
    ends: Box<[u16]>,
}

impl Splitter {
    /// Allocates the scratch positions (32 KiB).
    pub fn new(rule: Rule, kernel: Kernel) -> Self {
        Splitter {
            rule,
            kernel,
            ends: vec![0; ENDS_LEN].into_boxed_slice(),
        }
    }

    /// The rule that ends tokens here.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The kernel it splits with.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Calls `f` for each token of `block`, in order. A whole record is split only where the rule
    /// separates; its record ends are ordinary bytes.
    ///
    /// The block must be empty or end with a delimiter. A `\n` as its first byte is a line end of
    /// its own: whoever cut the block inside a `\r\n` has removed the `\n`.
    ///
    /// # Panics
    ///
    /// If the last byte of `block` is not a delimiter: its last token would be lost.
    #[inline]
    pub fn tokens<'b, F>(&mut self, block: impl Into<BlockBytes<'b>>, f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        // Under whitespace there are no empty tokens.
        let keep_empty = self.rule != Rule::SplitWhitespace;
        self.visit(block, &mut Each { f, keep_empty })
    }

    /// As [`tokens`](Self::tokens), for a consumer that can take many tokens at once.
    ///
    /// # Panics
    ///
    /// As [`tokens`](Self::tokens).
    #[inline]
    pub fn visit<'b>(
        &mut self,
        block: impl Into<BlockBytes<'b>>,
        visit: &mut impl Visit<'b>,
    ) -> Tallied {
        let block: BlockBytes<'b> = block.into();
        assert_ends_with_delimiter(block.bytes, self.rule, self.kernel.line_ends);
        if block.whole.is_empty() {
            return self.visit_lines(block.bytes, 0..block.bytes.len(), visit);
        }
        self.visit_pieces_cold(block, visit)
    }

    /// Takes a block that holds whole records.
    #[cold]
    fn visit_pieces_cold<'b>(
        &mut self,
        block: BlockBytes<'b>,
        visit: &mut impl Visit<'b>,
    ) -> Tallied {
        let mut tallied = Tallied::default();
        for (place, is_whole) in block.pieces() {
            let piece = match is_whole {
                true => self.visit_whole(block.bytes, place, visit),
                false => self.visit_lines(block.bytes, place, visit),
            };
            tallied.records += piece.records;
            tallied.tokens += piece.tokens;
            tallied.delimiter_bytes += piece.delimiter_bytes;
        }
        tallied
    }

    /// Takes the whole record at `place`, its end included.
    fn visit_whole<'b>(
        &mut self,
        block: &'b [u8],
        place: Range<usize>,
        visit: &mut impl Visit<'b>,
    ) -> Tallied {
        let mut tallied = Tallied {
            records: 1,
            ..Tallied::default()
        };
        let (mut start, last) = (place.start, place.end - 1);
        for (chunk_index, chunk) in block[place.clone()].chunks(CHUNK_BYTES_MAX).enumerate() {
            let base = place.start + chunk_index * CHUNK_BYTES_MAX;
            let found = self.kernel.index(self.rule, chunk, &mut self.ends);
            // Record ends within it are found as well.
            let mut kept = 0;
            for index in 0..found.delimiters {
                let at = base + usize::from(self.ends[index]);
                self.ends[kept] = self.ends[index];
                kept += usize::from(at == last || self.rule.separates_at(block[at]));
            }
            let indexed = IndexedChunk {
                block,
                start,
                base,
                ends: &self.ends[..kept],
                pairs: 0,
                // It may hold any byte.
                has_nul: true,
            };
            tallied.tokens += visit.chunk(&indexed) as u64;
            tallied.delimiter_bytes += kept as u64;
            if let Some(&last) = indexed.ends.last() {
                start = base + usize::from(last) + 1;
            }
        }
        tallied
    }

    /// Takes the lines at `place`.
    #[inline]
    fn visit_lines<'b>(
        &mut self,
        block: &'b [u8],
        place: Range<usize>,
        visit: &mut impl Visit<'b>,
    ) -> Tallied {
        let line_ends = self.kernel.line_ends;
        // Where a `\r` always separates, what is behind it does not matter.
        let drops_lone_returns = line_ends == LineEnds::Lf && !self.rule.separates_at(b'\r');
        let has_pairs = line_ends == LineEnds::Universal || drops_lone_returns;
        let mut tallied = Tallied::default();
        // Tokens may span chunks: `start` is carried over, and the block is contiguous.
        let mut start = place.start;
        for (chunk_index, chunk) in block[place.clone()].chunks(CHUNK_BYTES_MAX).enumerate() {
            let base = place.start + chunk_index * CHUNK_BYTES_MAX;
            let mut found = self.kernel.index(self.rule, chunk, &mut self.ends);
            // The byte before the chunk may end the chunk's first token, or be the first half of
            // `\r\n`.
            let before = if base > place.start {
                block[base - 1]
            } else {
                b' '
            };
            if drops_lone_returns && found.carriage_returns > 0 {
                let ends = &mut self.ends[..found.delimiters];
                found.delimiters = drop_lone_returns(block, base, ends);
            }
            let may_have_pairs = has_pairs && (found.carriage_returns > 0 || before == b'\r');
            let pairs = if may_have_pairs {
                count_pairs(&block[base.saturating_sub(1).max(place.start)..base + chunk.len()])
            } else {
                0
            };
            let indexed = IndexedChunk {
                block,
                start,
                base,
                ends: &self.ends[..found.delimiters],
                pairs,
                has_nul: found.has_nul || (before == 0 && line_ends != LineEnds::Nul),
            };
            tallied.records += match line_ends {
                LineEnds::Universal => found.line_feeds + found.carriage_returns - pairs,
                LineEnds::Lf | LineEnds::Nul => found.line_feeds,
            } as u64;
            tallied.tokens += visit.chunk(&indexed) as u64;
            tallied.delimiter_bytes += found.delimiters as u64;
            if let Some(&last) = indexed.ends.last() {
                start = base + usize::from(last) + 1;
            }
        }
        debug_assert_eq!(start, place.end, "the last delimiter is the last byte");
        tallied
    }
}

/// A consumer of the tokens of a block.
pub trait Visit<'b> {
    /// Takes all tokens of a chunk. Returns how many counted.
    fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize;
}

/// A chunk of a block, and where its tokens end. Only [`Splitter::visit`] makes one; the promises
/// about positions rest on that.
#[derive(Clone, Copy, Debug)]
pub struct IndexedChunk<'b, 'e> {
    /// The whole block.
    pub(crate) block: &'b [u8],
    /// Where the first token begins in the block.
    pub(crate) start: usize,
    /// Where the chunk begins in the block.
    pub(crate) base: usize,
    /// The positions of the delimiters in the chunk, ascending. Each ends a token, except the
    /// second half of a `\r\n`.
    pub(crate) ends: &'e [u16],
    /// How many of the delimiters are the second half of a `\r\n`.
    pub(crate) pairs: usize,
    /// Whether a token that ends in the chunk may end in NUL: a byte of it, or the byte before it,
    /// is one.
    pub(crate) has_nul: bool,
}

impl<'b> IndexedChunk<'b, '_> {
    /// Calls `f` for each token, for empty ones only if `keep_empty`. Returns the number of calls.
    ///
    /// The slicing is checked. Unchecked, a consumer that only looks at the length and the first
    /// byte of a token gains 7 %; one that counts it in a table spends most of its time elsewhere.
    #[inline(always)]
    pub fn each(&self, keep_empty: bool, f: impl FnMut(&'b [u8])) -> usize {
        // Two loops: a chunk without `\r` pays nothing for it.
        if self.pairs == 0 {
            self.each_where(keep_empty, |_| true, f)
        } else {
            self.each_where(keep_empty, |end| self.ends_token(end), f)
        }
    }

    /// Returns `true` if the delimiter at this position of the block ends a token: it is not the
    /// second half of a `\r\n`.
    #[inline(always)]
    pub(crate) fn ends_token(&self, end: usize) -> bool {
        self.block.get(end) != Some(&b'\n') || end == 0 || self.block.get(end - 1) != Some(&b'\r')
    }

    #[inline(always)]
    fn each_where(
        &self,
        keep_empty: bool,
        ends_token: impl Fn(usize) -> bool,
        mut f: impl FnMut(&'b [u8]),
    ) -> usize {
        let mut tokens = 0;
        let mut start = self.start;
        for &end in self.ends {
            let end = self.base + usize::from(end);
            let token = &self.block[start..end];
            start = end + 1;
            if ends_token(end) && (keep_empty || !token.is_empty()) {
                tokens += 1;
                f(token);
            }
        }
        tokens
    }
}

/// A consumer that takes tokens one by one.
struct Each<F> {
    f: F,
    keep_empty: bool,
}

impl<'b, F: FnMut(&'b [u8])> Visit<'b> for Each<F> {
    #[inline]
    fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize {
        // The choice is made here and not in the loop.
        if self.keep_empty {
            chunk.each(true, &mut self.f)
        } else {
            chunk.each(false, &mut self.f)
        }
    }
}

/// The number of `\r\n` in `bytes`.
#[cold]
fn count_pairs(bytes: &[u8]) -> usize {
    const STEP: usize = 128; // A sum of as many ones fits a byte, so that whole vectors add up.
    let (first, second) = (&bytes[..bytes.len() - 1], &bytes[1..]);
    let steps = first.chunks(STEP).zip(second.chunks(STEP));
    let counts = steps.map(|(first, second)| {
        let pairs = first.iter().zip(second);
        pairs
            .map(|(&a, &b)| u8::from((a == b'\r') & (b == b'\n')))
            .sum::<u8>()
    });
    counts.map(usize::from).sum()
}

/// Removes from `ends`, positions in the chunk at `base`, those of a `\r` without a `\n` behind it.
/// Returns how many remain.
#[cold]
fn drop_lone_returns(block: &[u8], base: usize, ends: &mut [u16]) -> usize {
    let mut kept = 0;
    for index in 0..ends.len() {
        let at = base + usize::from(ends[index]);
        ends[kept] = ends[index];
        // Without a branch: in most texts all are kept, in some none, and where they mix nobody can
        // predict.
        let is_lone = (block[at] == b'\r') & (block.get(at + 1) != Some(&b'\n'));
        kept += usize::from(!is_lone);
    }
    kept
}

fn assert_ends_with_delimiter(block: &[u8], rule: Rule, line_ends: LineEnds) {
    let delimiters = Delimiters { rule, line_ends };
    let complete = block.last().is_none_or(|&last| delimiters.contain(last));
    assert!(
        complete,
        "block of {} bytes does not end with a delimiter of {rule:?}",
        block.len()
    );
}

/// The rules as constants, so that a kernel decides once per chunk and its loop is compiled for one
/// rule. Only the vector kernels need them: a function compiled for other CPU features than its
/// caller takes constants more readily than closures.
#[cfg(target_arch = "x86_64")]
mod kind {
    pub(super) const SPLIT: u8 = 0;
    pub(super) const SPLIT_WHITESPACE: u8 = 1;
    pub(super) const LINES: u8 = 2;
}
