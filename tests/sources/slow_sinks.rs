//! Outputs that take longer than a batch interval.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use microtally::prelude::*;
use microtally::sink::{Sink, Undelivered};
use microtally::sources::{ChannelId, Fill, Intake, Port, Source};

/// Sends `count` lines, one when the last one was received, from a thread of its own.
struct Slowly {
    lines: Option<Receiver<u32>>,
    count: u32,
}

impl Source for Slowly {
    fn start(&mut self, port: Port, _now: Duration) {
        let (sender, lines) = channel();
        self.lines = Some(lines);
        let (waker, count) = (port.waker(), self.count);
        thread::spawn(move || {
            for number in 0..count {
                // Batches are behind by then.
                thread::sleep(Duration::from_millis(40));
                if sender.send(number).is_err() {
                    return;
                }
                waker.wake();
            }
            drop(sender);
            waker.wake();
        });
    }

    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        match self.lines.as_ref().expect("it was started").try_recv() {
            Ok(number) => {
                let line = format!("line {number}\n");
                assert_eq!(out.write(ChannelId::FIRST, line.as_bytes()), line.len());
                Fill::More
            }
            Err(TryRecvError::Empty) => Fill::Pending(None),
            Err(TryRecvError::Disconnected) => Fill::End,
        }
    }

    fn name(&self) -> &str {
        "slowly"
    }
}

/// A sink that is a function.
struct Call<F>(F);

impl<F: FnMut(&Batch<'_, u64>) + Send> Sink<u64> for Call<F> {
    fn deliver(&mut self, batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
        (self.0)(batch);
        Ok(())
    }
}

/// A batch is due at all times, with input and without.
#[test]
fn sources_are_read_though_every_batch_takes_an_output_several_intervals() {
    for on_thread in [false, true] {
        let ssc = StreamingContext::new(Duration::from_millis(1)).unwrap();
        let source = Slowly {
            lines: None,
            count: 8,
        };
        let counts = ssc.source_stream(source).count_by_value();
        let (sender, records) = channel();
        let slow = move |batch: &Batch<'_, u64>| {
            thread::sleep(Duration::from_millis(10));
            let _ = sender.send(batch.stats().records);
        };
        if on_thread {
            counts.output_on_thread("slow", Call(slow), 2).unwrap();
        } else {
            counts.for_each_batch(move |batch, _time| slow(batch));
        }
        let running = ssc.start().unwrap();
        let patience = Duration::from_secs(30);
        let is_over = running.await_termination_or_timeout(patience).unwrap();
        assert!(is_over, "nothing is read");
        drop(running);
        assert_eq!(records.iter().sum::<u64>(), 8);
    }
}
