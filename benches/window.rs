//! `window`: what a slide costs, by length, slide, distinct keys and keys of a batch.
//!
//! `inverse` takes what leaves off, with a filter for keys that are 0; `reduce` knows only an
//! associative function; `anew` is the obvious way, the fold of all batches at every slide, with
//! the same tables and the same packed batches. The time is that of `enter` for each batch of the
//! slide and of `slide`; making the batches is not in it. Windows are full before the clock runs.

mod corpus;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use microtally::internals::{FrozenTable, InverseWindow, KeyTable, ReduceWindow, Seed, Shape};
use microtally::stream::Dialect;

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(1));
    let keys = corpus::keys(corpus::sized(4000, 2_000_000), 7..=20);
    let batch = corpus::sized(100, 1000);

    let lengths = [10, 60, 600, 3600].map(|window| Case {
        name: window,
        window: corpus::sized(window.min(20), window),
        slide: 1,
        batch,
        vocabulary: 10 * batch,
    });
    series(&mut criterion, "window/length", &keys, lengths);

    let slides = [1, 10, 60, 300].map(|slide| Case {
        name: slide,
        window: corpus::sized(60, 600),
        slide: corpus::sized(slide.min(30), slide),
        batch,
        vocabulary: 10 * batch,
    });
    series(&mut criterion, "window/slide", &keys, slides);

    let vocabularies = [1000, 100_000, 1_000_000].map(|vocabulary| Case {
        name: vocabulary,
        window: corpus::sized(10, 3600),
        slide: 1,
        batch,
        vocabulary: corpus::sized((vocabulary / 250).max(100), vocabulary),
    });
    series(&mut criterion, "window/distinct", &keys, vocabularies);

    let batches = [1000, 100_000, 1_000_000].map(|batch| Case {
        name: batch,
        window: 10,
        slide: 1,
        batch: corpus::sized(batch / 1000, batch),
        vocabulary: corpus::sized(batch / 500, 2 * batch),
    });
    series(&mut criterion, "window/batch", &keys, batches);
    criterion.final_summary();
}

/// What is measured: a window and a slide in batches, different keys of a batch, and of how many
/// they are.
#[derive(Clone, Copy)]
struct Case {
    name: usize,
    window: usize,
    slide: usize,
    batch: usize,
    vocabulary: usize,
}

type Counts = KeyTable<u64>;

/// One way to make windows.
trait Way {
    fn enter(&mut self, batch: &Counts);
    fn slide(&mut self) -> &Counts;
}

fn series<const N: usize>(
    criterion: &mut Criterion,
    name: &str,
    keys: &[Vec<u8>],
    cases: [Case; N],
) {
    let mut group = criterion.benchmark_group(name);
    for case in cases {
        let shape = Shape::new(case.window, case.slide);
        let inverse = InverseWindow::new(shape, Dialect::Scala);
        let anew = Anew::new(case.window);
        let ways: [(&str, Box<dyn Way>); 3] = [
            ("inverse", Box::new(inverse)),
            ("reduce", Box::new(ReduceWindow::new(shape))),
            ("anew", Box::new(anew)),
        ];
        group.throughput(Throughput::Elements((case.batch * case.slide) as u64));
        for (name, mut way) in ways {
            let mut feed = Feed::new(case, keys);
            group.bench_function(BenchmarkId::new(name, case.name), |bencher| {
                // Only the first time, and only if this way was asked for.
                while feed.drawn.len() < case.window {
                    feed.slide(way.as_mut(), false);
                }
                feed.slide(way.as_mut(), true);
                bencher.iter_custom(|iterations| {
                    (0..iterations)
                        .map(|_| feed.slide(way.as_mut(), false))
                        .sum()
                });
                feed.slide(way.as_mut(), true);
            });
        }
    }
}

/// Batches of keys drawn at random, and what is in the window by a count of its own.
struct Feed<'k> {
    case: Case,
    keys: &'k [Vec<u8>],
    batch: Counts,
    random: u64,
    /// Numbers of the keys of each batch of the window.
    drawn: VecDeque<Vec<u32>>,
    /// How often each key is in the window.
    counts: Vec<u64>,
}

impl<'k> Feed<'k> {
    fn new(case: Case, keys: &'k [Vec<u8>]) -> Self {
        Feed {
            case,
            keys,
            batch: KeyTable::new(Seed::random()),
            random: 1,
            drawn: VecDeque::new(),
            counts: vec![0; case.vocabulary],
        }
    }

    /// Draws the next batch.
    fn draw(&mut self) {
        let mut drawn = if self.drawn.len() == self.case.window {
            self.drawn.pop_front().expect("a window has batches")
        } else {
            Vec::new()
        };
        for number in drawn.drain(..) {
            self.counts[number as usize] -= 1;
        }
        self.batch.clear();
        while drawn.len() < self.case.batch {
            // Knuth's MMIX generator; the low bits are not random enough.
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005);
            self.random = self.random.wrapping_add(1_442_695_040_888_963_407);
            let number = (self.random >> 33) as usize % self.case.vocabulary;
            drawn.push(number as u32);
            self.counts[number] += 1;
            self.batch.add(&self.keys[number], 1, u64::wrapping_add);
        }
        self.drawn.push_back(drawn);
    }

    /// Lets the batches of one slide enter and makes the window. Gives the time of that; with
    /// `check` the window is compared.
    fn slide(&mut self, way: &mut dyn Way, check: bool) -> Duration {
        let mut elapsed = Duration::ZERO;
        for _ in 0..self.case.slide {
            self.draw();
            let start = Instant::now();
            way.enter(&self.batch);
            elapsed += start.elapsed();
        }
        let start = Instant::now();
        let window = way.slide();
        elapsed += start.elapsed();
        if check {
            let expected = self.counts.iter().filter(|&&count| count > 0).count();
            assert_eq!(window.len(), expected, "distinct keys");
            for (key, &count) in self.keys.iter().zip(&self.counts) {
                let expected = (count > 0).then_some(count);
                assert_eq!(window.get(key), expected, "{}", key.escape_ascii());
            }
        }
        elapsed
    }
}

impl Way for InverseWindow<u64> {
    fn enter(&mut self, batch: &Counts) {
        InverseWindow::enter(self, batch, u64::wrapping_add);
    }

    fn slide(&mut self) -> &Counts {
        let keep = Some(|_: &[u8], count| count != 0);
        InverseWindow::slide(self, u64::wrapping_add, u64::wrapping_sub, keep)
            .expect("no batch fails")
    }
}

impl Way for ReduceWindow<u64> {
    fn enter(&mut self, batch: &Counts) {
        ReduceWindow::enter(self, batch, u64::wrapping_add);
    }

    fn slide(&mut self) -> &Counts {
        ReduceWindow::slide(self, u64::wrapping_add).expect("no batch fails")
    }
}

/// All batches of the window, folded at every slide.
struct Anew {
    batches_max: usize,
    batches: VecDeque<FrozenTable<u64>>,
    window: Counts,
}

impl Anew {
    fn new(batches_max: usize) -> Self {
        Anew {
            batches_max,
            batches: VecDeque::new(),
            window: KeyTable::new(Seed::random()),
        }
    }
}

impl Way for Anew {
    fn enter(&mut self, batch: &Counts) {
        if self.batches.is_empty() {
            // In the batches' order, as the others.
            self.window = KeyTable::new(batch.seed());
        }
        let is_full = self.batches.len() == self.batches_max;
        let oldest = if is_full {
            self.batches.pop_front()
        } else {
            None
        };
        let mut packed = oldest.unwrap_or_default();
        packed.fill_from(batch);
        self.batches.push_back(packed);
    }

    fn slide(&mut self) -> &Counts {
        self.window.clear();
        for batch in &self.batches {
            self.window.update_each(batch, |_, _, new, old| {
                Some(old.map_or(new, |old: u64| old.wrapping_add(new)))
            });
        }
        &self.window
    }
}
