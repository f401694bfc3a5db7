//! Renoir's word count, in two spellings of its own examples, with the allocator they use.
//!
//!     renoir words FILE THREADS      every word is a `String`, counted by `group_by_count`
//!     renoir combine FILE THREADS    each replica counts its lines in a map, the maps are added up

use std::env;

use hashbrown::HashMap;
use microtally_rivals::write_counts;
use renoir::prelude::*;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Counts = HashMap<String, u64>;

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [how, path, threads] = &arguments[..] else {
        panic!("usage: renoir words|combine FILE THREADS");
    };
    let threads = threads.parse().expect("THREADS is a number");
    let config = RuntimeConfig::local(threads).expect("a local configuration");
    let context = StreamContext::new(config);
    let lines = context.stream_file(path).batch_mode(BatchMode::fixed(1024));
    match how.as_str() {
        "words" => {
            let counts = lines
                .flat_map(|line| split(&line).map(str::to_owned).collect::<Vec<_>>())
                .group_by_count(|word: &String| word.clone())
                .collect_vec();
            context.execute_blocking();
            let counts = counts.get().expect("this process has the result");
            write_counts(counts.iter().map(|(word, n)| (word.as_bytes(), *n as u64)))
        }
        "combine" => {
            let counts = lines
                .fold_assoc(Counts::default(), add_line, add_counts)
                .collect_vec();
            context.execute_blocking();
            let counts = counts.get().expect("this process has the result");
            let counts = counts.iter().flatten();
            write_counts(counts.map(|(word, n)| (word.as_bytes(), *n)))
        }
        _ => panic!("words or combine, not {how}"),
    }
}

/// Its lines have their line ends.
fn split(line: &str) -> impl Iterator<Item = &str> {
    line.strip_suffix('\n').unwrap_or(line).split(' ')
}

fn add_line(counts: &mut Counts, line: String) {
    for word in split(&line) {
        *counts.entry_ref(word).or_default() += 1;
    }
}

fn add_counts(counts: &mut Counts, more: Counts) {
    for (word, count) in more {
        *counts.entry(word).or_default() += count;
    }
}
