//! Counts words over the whole stream: a state per word, forgotten when the word has not been seen
//! for a while.
//!
//! ```sh
//! nc -lk 9999                                             # in one terminal: type lines
//! cargo run --release --example stateful_word_count -- localhost 9999
//! ```

use microtally::prelude::*;
use microtally::stream::{RddStream, State, StateSpec};

/// How long a word is remembered after it was last seen.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// For each record of a batch, the word and its count so far.
fn running_counts(
    words: &RddStream<(Vec<u8>, u64)>,
    forgotten_after: Duration,
) -> RddStream<(Vec<u8>, u64)> {
    let spec = StateSpec::function(
        |_, word: &Vec<u8>, count: Option<&u64>, so_far: &mut State<u64>| {
            // Without a count, the word is being forgotten.
            let total = so_far.get_option().unwrap_or(&0) + count?;
            so_far.update(total);
            Some((word.clone(), total))
        },
    );
    let counts = words.map_with_state(spec.timeout(forgotten_after));
    (*counts).clone()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or("localhost".to_owned());
    let port = arguments.next().unwrap_or("9999".to_owned()).parse()?;

    let ssc = StreamingContext::new(Duration::from_secs(5))?;
    let words = ssc
        .socket_text_stream(&host, port)?
        .flat_map(split_whitespace());
    // Counted in the shards first: a batch touches the state of each word once, not once per
    // occurrence.
    running_counts(&words.count_by_value().pairs(), FORGOTTEN_AFTER).pprint(20);
    ssc.start()?.await_termination()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtally::stream::RddQueue;
    use microtally::time::Clock;
    use std::sync::mpsc;

    #[test]
    fn words_are_counted_until_they_are_forgotten() {
        let ssc = StreamingContext::new(Duration::from_secs(1)).unwrap();
        let clock = Clock::manual(Duration::from_secs(100));
        ssc.set_clock(clock.clone());
        let pair = |word: &str, count| (word.as_bytes().to_vec(), count);
        let batches = [
            vec![pair("cat", 2), pair("dog", 1)],
            vec![pair("cat", 3)],
            vec![pair("cat", 1)],
            vec![pair("cat", 1)],
            vec![pair("dog", 1), pair("cat", 1)],
        ];
        let queue: RddQueue<_> = batches.into_iter().collect();
        let words = ssc.queue_stream(&queue, true, None);
        let (out, counts) = mpsc::channel();
        running_counts(&words, Duration::from_secs(2)).for_each_batch(move |rdd, _| {
            let _ = out.send(rdd.to_vec());
        });
        let running = ssc.start().unwrap();
        let expected = [
            vec![pair("cat", 2), pair("dog", 1)],
            vec![pair("cat", 5)],
            vec![pair("cat", 6)],
            vec![pair("cat", 7)],
            // Not seen for more than two seconds, so its count begins anew.
            vec![pair("dog", 1), pair("cat", 8)],
        ];
        for expected in expected {
            clock.advance(Duration::from_secs(1));
            assert_eq!(counts.recv().unwrap(), expected);
        }
        running.stop(microtally::Stop::Immediate).unwrap();
    }
}
