//! Prints the most frequent words of the last minute, every second: a sliding window with an
//! inverse function.
//!
//! ```sh
//! cargo run --release -- gen --listen 127.0.0.1:9999 --rate 50MB/s  # in another terminal
//! cargo run --release --example sliding_top_k -- localhost 9999
//! ```

use microtally::prelude::*;
use microtally::stream::{DStream, RddStream, Window};

/// The `count` most frequent words of each window, most frequent first.
fn top_words<R: microtally::stream::Records>(
    words: &DStream<R>,
    window: impl Into<Window>,
    count: usize,
) -> microtally::error::Result<RddStream<(Vec<u8>, u64)>> {
    Ok(words.count_by_value_and_window(window)?.top(count))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or("localhost".to_owned());
    let port = arguments.next().unwrap_or("9999".to_owned()).parse()?;

    let ssc = StreamingContext::new(Duration::from_secs(1))?;
    let words = ssc
        .socket_text_stream(&host, port)?
        .flat_map(split_whitespace());
    top_words(&words, Duration::from_secs(60), 10)?.pprint(10);
    ssc.start()?.await_termination()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtally::Stop;
    use microtally::sources::{ChannelId, Fill, Intake, Source};
    use microtally::time::Clock;
    use std::sync::mpsc;

    /// A text for each batch.
    struct Texts {
        texts: std::vec::IntoIter<&'static str>,
        next: Option<&'static str>,
    }

    impl Source for Texts {
        fn batch_due(&mut self, _time: BatchTime) -> bool {
            self.next = self.texts.next();
            self.next.is_some()
        }

        fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
            match self.next.take() {
                Some(text) => {
                    assert_eq!(out.write(ChannelId::FIRST, text.as_bytes()), text.len());
                    Fill::More
                }
                None => Fill::Complete,
            }
        }

        fn name(&self) -> &str {
            "texts"
        }
    }

    #[test]
    fn words_come_and_go_with_the_window() {
        let ssc = StreamingContext::new(Duration::from_secs(1)).unwrap();
        let clock = Clock::manual(Duration::from_secs(100));
        ssc.set_clock(clock.clone());
        let texts = vec!["a a a b\n", "b c\n", "c c c\n", "b b b b\n", "\n", "\n"];
        let lines = ssc.source_stream(Texts {
            texts: texts.into_iter(),
            next: None,
        });
        let words = lines.flat_map(split_whitespace());
        let (out, tops) = mpsc::channel();
        top_words(&words, Duration::from_secs(2), 2)
            .unwrap()
            .for_each_batch(move |rdd, _| {
                let _ = out.send(rdd.to_vec());
            });
        let running = ssc.start().unwrap();
        let expected: [&[(&str, u64)]; 6] = [
            &[("a", 3), ("b", 1)],
            &[("a", 3), ("b", 2)],
            &[("c", 4), ("b", 1)],
            &[("b", 4), ("c", 3)],
            &[("b", 4)],
            &[],
        ];
        for expected in expected {
            clock.advance(Duration::from_secs(1));
            let top = tops.recv().unwrap();
            let row = |&(word, count): &(&str, u64)| (word.as_bytes().to_vec(), count);
            assert_eq!(top, expected.iter().map(row).collect::<Vec<_>>());
        }
        running.stop(Stop::Immediate).unwrap();
    }
}
