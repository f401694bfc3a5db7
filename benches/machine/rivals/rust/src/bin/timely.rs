//! Timely dataflow's word count, with mimalloc as the other engine has it.
//!
//!     timely words FILE THREADS      each word is a vector, sent to the worker that counts it
//!     timely combine FILE THREADS    each worker counts its part, the counts are sent and added up
//!
//! The file is read once; each worker has a part of it as its source.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::{env, fs};

use hashbrown::{DefaultHashBuilder, HashMap};
use microtally_rivals::{part, tokens, write_counts};
use timely::dataflow::channels::pact::{Exchange, SoloPipeline};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Operator, ToStream};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Word = Vec<u8>;
type Counts = HashMap<Word, u64>;

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [how, path, threads] = &arguments[..] else {
        panic!("usage: timely words|combine FILE THREADS");
    };
    let combine = match how.as_str() {
        "words" => false,
        "combine" => true,
        _ => panic!("words or combine, not {how}"),
    };
    let threads = threads.parse().expect("THREADS is a number");
    // It lives as long as the process, so that workers can lend its lines to their dataflows.
    let text: &'static [u8] = fs::read(path)?.leak();
    let counted = Arc::new(Mutex::new(Vec::new()));
    let results = Arc::clone(&counted);
    // One for all workers: they have to agree on whose a word is.
    let hash = DefaultHashBuilder::default();
    timely::execute(timely::Config::process(threads), move |worker| {
        let text = part(text, worker.index(), worker.peers());
        let (results, hash) = (Arc::clone(&results), hash.clone());
        worker.dataflow::<u64, _, _>(|scope| {
            let lines = text.split_inclusive(|byte| *byte == b'\n').to_stream(scope);
            let counts = if combine {
                lines.unary_frontier(SoloPipeline, "CountHere", |capability, _| {
                    let mut counts = HashMap::<&[u8], u64>::default();
                    let mut capability = Some(capability);
                    move |(input, frontier), output| {
                        input.for_each(|_, lines: &mut Vec<&[u8]>| {
                            for line in lines.drain(..) {
                                tokens(line, |token| *counts.entry(token).or_default() += 1);
                            }
                        });
                        if frontier.is_empty()
                            && let Some(capability) = capability.take()
                        {
                            let counts = counts.drain().map(|(word, n)| (word.to_vec(), n));
                            output.session(&capability).give_iterator(counts);
                        }
                    }
                })
            } else {
                lines.flat_map(|line| {
                    let mut words = Vec::new();
                    tokens(line, |token| words.push((token.to_vec(), 1)));
                    words
                })
            };
            let whose = Exchange::new(move |(word, _): &(Word, u64)| hash.hash_one(word));
            counts.sink(whose, "AddUp", {
                let mut counts = Counts::default();
                move |(input, frontier)| {
                    input.for_each(|_, words| {
                        for (word, count) in words.drain(..) {
                            *counts.entry(word).or_default() += count;
                        }
                    });
                    if frontier.is_empty() && !counts.is_empty() {
                        let mut results = results.lock().expect("nobody panicked with it");
                        results.push(std::mem::take(&mut counts));
                    }
                }
            });
        });
        while worker.step() {}
    })
    .expect("the workers start");
    let counted = counted.lock().expect("nobody panicked with it");
    let counts = counted.iter().flatten();
    write_counts(counts.map(|(word, n)| (&word[..], *n)))
}
