//! Makes text to count: Zipf-distributed, English-like words in lines.
//!
//! Promise: the same options make the same bytes on every platform and in every later version. A
//! changed stream is a new generator beside this one, never an edit to it. So counts of generated
//! text can be written down, and benchmark inputs need no files.
//! Must not know: sockets, rates, threads, the clock, microtally.
//!
//! Three things keep the promise. Random numbers come from SplitMix64, spelled out below. Word
//! probabilities are computed with `+ - * /` on `f64` only, which IEEE 754 rounds the same way
//! everywhere (`powf` is not so bound), and are then rounded to integers. The sampling table is
//! built and read in integers.
//!
//! The text is made in pieces, on request, until it holds `period_bytes`; from there it repeats. A
//! sender therefore pays for generation once and for memory reads afterwards. A period holds a
//! fixed set of words: the tail of a large vocabulary may be missing.

use std::f64::consts::{LN_2, SQRT_2};
use std::hint::select_unpredictable;
use std::ops::RangeInclusive;

/// Most words a vocabulary may hold. The largest one takes about 300 MB while it is built.
pub(crate) const VOCABULARY_MAX: usize = 10_000_000;

/// Steepest Zipf exponent; beyond it practically every word is the first one.
pub(crate) const ZIPF_MAX: f64 = 4.0;

/// Shortest period, whatever the line length.
pub(crate) const PERIOD_BYTES_MIN: usize = 4 << 10;

/// Longest period. All of it stays in memory.
pub(crate) const PERIOD_BYTES_MAX: usize = 1 << 30;

/// Longest line that can be asked for.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// Most bytes [`Text::next_chunk`] hands out at once: large enough that a system call per chunk
/// is cheap, small enough to stay in a second-level cache.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Longest word, common or made up.
const WORD_BYTES_MAX: usize = 18;

/// Shortest made-up word. Below three letters there are too few of them to be worth having.
const WORD_BYTES_MIN: usize = 3;

/// Bytes copied per word whatever its length: a fixed size compiles to two moves, not to a call.
const COPY_BYTES: usize = 24;

const _: () = {
    assert!(WORD_BYTES_MAX < COPY_BYTES); // A word and the space after it fit one copy.
    assert!(VOCABULARY_MAX * (WORD_BYTES_MAX + 1) < u32::MAX as usize); // Offsets are `u32`.
    assert!(2 * LINE_BYTES_MAX <= PERIOD_BYTES_MAX); // Every allowed line has an allowed period.
};

/// The options of a [`Text`].
#[derive(Clone)]
pub(crate) struct Words {
    /// Chooses the made-up words and their order.
    pub(crate) seed: u64,
    /// Number of different words, `1..=VOCABULARY_MAX`; default 50 000.
    pub(crate) vocabulary: usize,
    /// The word of rank `r` has a share proportional to `1 / r^zipf_exponent`.
    /// `0.0..=ZIPF_MAX`; default 1.0, close to natural text. 0.0 makes all words equal.
    pub(crate) zipf_exponent: f64,
    /// Most bytes before the text repeats: the period ends with the last line that fits. At least
    /// [`PERIOD_BYTES_MIN`] and twice the longest line, at most [`PERIOD_BYTES_MAX`]; default 64
    /// MiB.
    pub(crate) period_bytes: usize,
    /// Each line draws a length from this range and ends with the word that reaches it, so it may
    /// be up to a word longer. Within `1..=LINE_BYTES_MAX`; default `40..=120`.
    pub(crate) line_bytes: RangeInclusive<usize>,
}

impl Words {
    /// Returns the default options with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            vocabulary: 50_000,
            zipf_exponent: 1.0,
            period_bytes: 64 << 20,
            line_bytes: 40..=120,
        }
    }

    /// Sets the number of different words.
    pub(crate) fn vocabulary(mut self, words: usize) -> Self {
        self.vocabulary = words;
        self
    }

    /// Sets the exponent of the words' shares.
    pub(crate) fn zipf_exponent(mut self, exponent: f64) -> Self {
        self.zipf_exponent = exponent;
        self
    }

    /// Sets the most bytes before the text repeats.
    pub(crate) fn period_bytes(mut self, bytes: usize) -> Self {
        self.period_bytes = bytes;
        self
    }

    /// Sets the range of line lengths, line end not included.
    #[cfg(test)]
    pub(crate) fn line_bytes(mut self, bytes: RangeInclusive<usize>) -> Self {
        self.line_bytes = bytes;
        self
    }

    /// Checks the options and makes the vocabulary; the text is made on request.
    ///
    /// Takes milliseconds for the default vocabulary, and seconds for the largest. An error names
    /// the first option out of its range.
    pub(crate) fn build(&self) -> Result<Text, String> {
        let Words {
            vocabulary,
            zipf_exponent,
            period_bytes,
            ..
        } = *self;
        let (from, to) = (*self.line_bytes.start(), *self.line_bytes.end());
        let period_min = PERIOD_BYTES_MIN.max(to.saturating_mul(2));
        if !(1..=VOCABULARY_MAX).contains(&vocabulary) {
            return Err(format!(
                "vocabulary {vocabulary} is outside 1..={VOCABULARY_MAX}"
            ));
        }
        // A NaN is in no range, so it is refused here too.
        if !(0.0..=ZIPF_MAX).contains(&zipf_exponent) {
            return Err(format!(
                "zipf_exponent {zipf_exponent} is outside 0..={ZIPF_MAX}"
            ));
        }
        if from < 1 || from > to || to > LINE_BYTES_MAX {
            return Err(format!(
                "line_bytes {from}..={to} is empty or outside 1..={LINE_BYTES_MAX}"
            ));
        }
        if !(period_min..=PERIOD_BYTES_MAX).contains(&period_bytes) {
            return Err(format!(
                "period_bytes {period_bytes} is outside {period_min}..={PERIOD_BYTES_MAX}"
            ));
        }
        Ok(Text {
            vocabulary: Vocabulary::new(self.vocabulary, self.seed),
            sampler: Sampler::new(self.vocabulary, self.zipf_exponent),
            random: SplitMix64(self.seed),
            line_bytes_min: from,
            line_bytes_max: to,
            // Room for all of it at once: growing would copy, and untouched pages cost nothing.
            period: Vec::with_capacity(self.period_bytes),
            period_bytes_max: self.period_bytes,
            complete: false,
            at: 0,
        })
    }
}

/// An endless stream of lines of words; byte `i` depends on the options alone.
///
/// [`fill`](Self::fill) and [`next_chunk`](Self::next_chunk) take from the one stream, in any
/// mixture and with any cuts. All bytes are lower-case ASCII letters, single spaces between words,
/// and `\n`.
pub(crate) struct Text {
    vocabulary: Vocabulary,
    sampler: Sampler,
    random: SplitMix64,
    line_bytes_min: usize,
    line_bytes_max: usize,
    /// The text made so far: whole lines, at most `period_bytes_max` bytes.
    period: Vec<u8>,
    period_bytes_max: usize,
    /// Whether `period` is whole, so that the stream goes on with its first byte.
    complete: bool,
    /// Where in `period` the stream goes on; always ≤ `period.len()`.
    at: usize,
}

impl Text {
    /// Fills `buf` with the next bytes of the stream.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        let mut rest = buf;
        while !rest.is_empty() {
            let bytes = self.next_chunk_up_to(rest.len());
            let (now, later) = rest.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            rest = later;
        }
    }

    /// Returns the next 1 to [`CHUNK_BYTES_MAX`] bytes of the stream without copying them.
    ///
    /// Costs no more than a comparison once the period has been made. A chunk may end in the
    /// middle of a word.
    pub(crate) fn next_chunk(&mut self) -> &[u8] {
        self.next_chunk_up_to(CHUNK_BYTES_MAX)
    }

    /// As [`next_chunk`](Self::next_chunk), but at most `bytes_max` bytes; none only if that is 0.
    pub(crate) fn next_chunk_up_to(&mut self, bytes_max: usize) -> &[u8] {
        if self.at == self.period.len() {
            if self.complete {
                self.at = 0;
            } else {
                self.extend();
            }
        }
        let from = self.at;
        self.at = self.period.len().min(from + bytes_max.min(CHUNK_BYTES_MAX));
        &self.period[from..self.at]
    }

    /// Returns the vocabulary, the most frequent word first.
    #[cfg(test)]
    fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.vocabulary.len()).map(|rank| self.vocabulary.word(rank))
    }

    /// Makes at least one more line, and about a chunk of them; notes when the period is whole.
    ///
    /// Never returns with nothing new: `complete` is set along with a line, not instead of one,
    /// and the first line always fits because a period holds two of the longest.
    #[cold]
    fn extend(&mut self) {
        let goal = self.period.len() + CHUNK_BYTES_MAX;
        while self.period.len() < goal && !self.complete {
            let span = (self.line_bytes_max - self.line_bytes_min + 1) as u64;
            let line_bytes = self.line_bytes_min + self.random.below(span).0;
            let from = self.period.len();
            // A line can be a word longer than drawn, and a copy writes beyond its word.
            self.period.resize(from + line_bytes + 2 * COPY_BYTES, 0);
            let len = write_line(
                &mut self.period[from..],
                line_bytes,
                &self.vocabulary,
                &self.sampler,
                &mut self.random,
            );
            self.period.truncate(from + len);
            self.complete =
                self.period.len() + self.line_bytes_max + 2 * COPY_BYTES > self.period_bytes_max;
        }
    }
}

/// Writes words to the front of `line` until they reach `line_bytes`, then a line end. Returns
/// the length with the line end. `line` has room for two copies more than `line_bytes`.
fn write_line(
    line: &mut [u8],
    line_bytes: usize,
    vocabulary: &Vocabulary,
    sampler: &Sampler,
    random: &mut SplitMix64,
) -> usize {
    let mut len = 0;
    while len <= line_bytes {
        let rank = sampler.rank(random);
        let from = vocabulary.starts[rank] as usize;
        let to = vocabulary.starts[rank + 1] as usize;
        line[len..len + COPY_BYTES].copy_from_slice(&vocabulary.bytes[from..from + COPY_BYTES]);
        len += to - from;
    }
    line[len - 1] = b'\n'; // In place of the space behind the last word.
    len
}

/// Different words, each with a space behind it, in order of rank.
struct Vocabulary {
    /// The words back to back, and `COPY_BYTES` of padding so that every copy stays inside.
    bytes: Vec<u8>,
    /// Where each word starts, and where the last one ends: one more than there are words.
    starts: Vec<u32>,
}

impl Vocabulary {
    fn new(words: usize, seed: u64) -> Self {
        let mut bytes = Vec::with_capacity(words * 10 + COPY_BYTES);
        let mut starts = Vec::with_capacity(words + 1);
        // Its own stream, so that the text's first numbers do not also choose the words.
        let mut random = SplitMix64(seed ^ 0x766f_6361_6275_6c61);
        let mut makers: Vec<WordMaker> = (WORD_BYTES_MIN..=WORD_BYTES_MAX)
            .map(|letters| WordMaker::new(letters, &mut random))
            .collect();
        for rank in 0..words {
            starts.push(bytes.len() as u32);
            match COMMON_WORDS.get(rank) {
                Some(word) => bytes.extend_from_slice(word.as_bytes()),
                None => make_word(&mut bytes, word_bytes(rank, &mut random), &mut makers),
            }
            bytes.push(b' ');
        }
        starts.push(bytes.len() as u32);
        bytes.resize(bytes.len() + COPY_BYTES, b' ');
        Self { bytes, starts }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    #[cfg(test)]
    fn word(&self, rank: usize) -> &[u8] {
        &self.bytes[self.starts[rank] as usize..self.starts[rank + 1] as usize - 1]
    }
}

/// Length for the made-up word of this rank: on average four or five letters at rank 100 and half
/// a letter more for each doubling, spread over four letters, and one word in nine longer still.
fn word_bytes(rank: usize, random: &mut SplitMix64) -> usize {
    let octave = rank.ilog2();
    // The base-2 logarithm in 256ths, straight lines between the powers of two.
    let log = ((octave as usize) << 8) + ((rank << 8) >> octave) - 256;
    let spread = random.below(3).0 + random.below(3).0;
    let extra = random.below(56).0.saturating_sub(49);
    (log * 15 / (256 * 32) + spread + extra).saturating_sub(1)
}

/// Appends an unused word of `letters` letters, or of the next length that has one left.
fn make_word(bytes: &mut Vec<u8>, letters: usize, makers: &mut [WordMaker]) {
    let letters = letters.clamp(WORD_BYTES_MIN, WORD_BYTES_MAX);
    let from = bytes.len();
    for maker in &mut makers[letters - WORD_BYTES_MIN..] {
        while maker.make(bytes) {
            // The few that are words already are short; looking at all of them is soon done.
            if !COMMON_WORDS
                .iter()
                .any(|word| word.as_bytes() == &bytes[from..])
            {
                return;
            }
            bytes.truncate(from);
        }
    }
    unreachable!("the words of 18 letters alone outnumber VOCABULARY_MAX");
}

/// Numbers all words of one length, consonants and vowels in turn, and goes through the numbers
/// in steps that have no factor in common with their count: no word comes twice, and no set of
/// the words made so far is needed to know that.
struct WordMaker {
    letters: usize,
    /// How many words there are: a product of twos and fives.
    count: u64,
    /// Neither even nor a multiple of five.
    step: u64,
    /// Number of the next word, in range `0 .. count`.
    number: u64,
    left: u64,
}

impl WordMaker {
    fn new(letters: usize, random: &mut SplitMix64) -> Self {
        let alphabets = (0..letters).map(|place| ALPHABETS[place % 2].len() as u64);
        let count: u64 = alphabets.product();
        let mut step = (random.next() % count) | 1;
        if step.is_multiple_of(5) {
            step += 2; // Still odd.
        }
        let number = random.next() % count;
        Self {
            letters,
            count,
            step,
            number,
            left: count,
        }
    }

    /// Appends the next word; `false` if none is left.
    fn make(&mut self, bytes: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut number = self.number;
        for place in 0..self.letters {
            let alphabet = ALPHABETS[place % 2];
            bytes.push(alphabet[(number % alphabet.len() as u64) as usize]);
            number /= alphabet.len() as u64;
        }
        self.number = (self.number + self.step) % self.count;
        true
    }
}

/// Draws ranks by the alias method: one table row, one comparison, whatever the vocabulary.
struct Sampler {
    rows: Vec<WordRow>,
}

/// One of as many equally likely rows as there are words.
#[derive(Clone, Copy)]
struct WordRow {
    /// Share of the row, in units of 2^-32, that belongs to the word of the row's own rank.
    own: u32,
    /// The rank that the rest of the row belongs to.
    alias: u32,
}

impl Sampler {
    fn new(words: usize, exponent: f64) -> Self {
        /// What one row holds.
        const ROW: u64 = 1 << 32;
        let mut shares = shares(words, exponent, ROW);
        // A row that never gets an alias is full, and then both of its entries are itself.
        let full = |rank| WordRow {
            own: u32::MAX,
            alias: rank,
        };
        let mut rows: Vec<WordRow> = (0..words as u32).map(full).collect();
        let (mut poor, mut rich): (Vec<u32>, Vec<u32>) =
            (0..words as u32).partition(|&rank| shares[rank as usize] < ROW);
        while let Some(needy) = poor.pop() {
            // The shares left sum to the rows left, exactly, so a poor one implies a rich one.
            let donor = rich[rich.len() - 1];
            let own = shares[needy as usize] as u32;
            rows[needy as usize] = WordRow { own, alias: donor };
            shares[donor as usize] -= ROW - shares[needy as usize];
            if shares[donor as usize] < ROW {
                rich.pop();
                poor.push(donor);
            }
        }
        Self { rows }
    }

    fn rank(&self, random: &mut SplitMix64) -> usize {
        let (index, fraction) = random.below(self.rows.len() as u64);
        let row = self.rows[index];
        // A branch here would be mispredicted for every other word: a fifth of the whole speed.
        select_unpredictable(fraction < row.own, index, row.alias as usize)
    }
}

/// Shares of all ranks as integers that sum to `words * row`, none of them 0.
fn shares(words: usize, exponent: f64, row: u64) -> Vec<u64> {
    let weigh = |rank| weight(rank, exponent);
    let weights: Vec<f64> = (1..=words as u32).map(weigh).collect();
    let total = words as u64 * row;
    let scale = total as f64 / weights.iter().sum::<f64>();
    let share = |weight: &f64| ((weight * scale) as u64).max(1);
    let mut shares: Vec<u64> = weights.iter().map(share).collect();
    // Rounding is off by less than one a word and far more than that is in the first word's
    // share, because no word has a larger one.
    let others: u64 = shares[1..].iter().sum();
    shares[0] = total - others;
    shares
}

/// `1 / rank^exponent`, to about 12 digits, from exactly rounded operations only.
fn weight(rank: u32, exponent: f64) -> f64 {
    exp(-exponent * ln(rank))
}

/// Natural logarithm of a number from 1 up, by the series of the inverse hyperbolic tangent.
fn ln(number: u32) -> f64 {
    let mut octave = number.ilog2();
    let mut mantissa = f64::from(number) / f64::from(1_u32 << octave);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        octave += 1;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let mut sum = 0.0;
    for odd in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    f64::from(octave) * LN_2 + 2.0 * t * sum
}

/// Exponential function for `-700.0..=0.0`, by its Taylor series within half an octave.
fn exp(x: f64) -> f64 {
    let octave = (x / LN_2 - 0.5) as i64; // Rounds to the nearest, as `x` is not positive.
    let rest = x - octave as f64 * LN_2;
    let mut sum = 1.0;
    for n in (1..=14).rev() {
        sum = sum * rest / f64::from(n) + 1.0;
    }
    sum * f64::from_bits(((1023 + octave) as u64) << 52)
}

/// Steele, Lea and Flood's generator: 64 bits of state, every 64-bit number once in its cycle.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0 .. bound`, and the fraction of 2^32 that was left over in choosing it.
    pub(crate) fn below(&mut self, bound: u64) -> (usize, u32) {
        let product = u128::from(self.next()) * u128::from(bound);
        ((product >> 64) as usize, (product >> 32) as u32)
    }
}

/// The letters for the even and for the odd places of a made-up word.
const ALPHABETS: [&[u8]; 2] = [b"bcdfghjklmnprstvwxyz", b"aeiou"];

/// The words of the first ranks: what English text mostly consists of.
#[rustfmt::skip]
const COMMON_WORDS: [&str; 100] = [
    "the", "of", "and", "to", "a", "in", "that", "is", "was", "it", "he", "for", "with", "as",
    "his", "on", "be", "at", "by", "i", "this", "had", "not", "are", "but", "from", "or", "have",
    "an", "they", "which", "one", "you", "were", "her", "all", "she", "there", "would", "their",
    "we", "him", "been", "has", "when", "who", "will", "more", "no", "if", "out", "so", "said",
    "what", "up", "its", "about", "into", "than", "them", "can", "only", "other", "new", "some",
    "could", "time", "these", "two", "may", "then", "do", "first", "any", "my", "now", "such",
    "like", "our", "over", "man", "me", "even", "most", "made", "after", "also", "did", "many",
    "before", "must", "through", "back", "years", "where", "much", "your", "way", "well", "down",
];

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
