//! The program one would write first: the file in memory, memchr, the standard library's map.
//!
//!     naive FILE
//!     naive FILE 2     two threads, a half each, and hashbrown's own hash: what one would try next

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::{env, fs, thread};

use microtally_rivals::{part, tokens, write_counts};

fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let text = fs::read(arguments.next().expect("usage: naive FILE [THREADS]"))?;
    let counts: Vec<(&[u8], u64)> = match arguments.next() {
        None => count::<std::hash::RandomState>(&text).into_iter().collect(),
        Some(threads) => {
            let threads = threads.parse().expect("THREADS is a number");
            count_parts(&text, threads).into_iter().collect()
        }
    };
    write_counts(counts)
}

type Counts<'a, S> = HashMap<&'a [u8], u64, S>;

fn count<S: BuildHasher + Default>(text: &[u8]) -> Counts<'_, S> {
    let mut counts = Counts::default();
    tokens(text, |token| *counts.entry(token).or_default() += 1);
    counts
}

fn count_parts(text: &[u8], threads: usize) -> Counts<'_, hashbrown::DefaultHashBuilder> {
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || count(part(text, index, threads))))
            .collect();
        let mut parts = started
            .into_iter()
            .map(|thread| thread.join().expect("a part is counted"));
        let mut all = parts.next().unwrap_or_default();
        for (word, count) in parts.flatten() {
            *all.entry(word).or_default() += count;
        }
        all
    })
}
