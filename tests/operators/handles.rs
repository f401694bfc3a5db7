//! Streams beside their context, after its start, and of two contexts.

use std::panic::{AssertUnwindSafe, catch_unwind};

use microtally::Stop;
use microtally::error::ErrorKind;
use microtally::sources::Lines;
use microtally::stream::{DStream, Dialect, LineRecords, RddStream, Reduced};
use microtally::{Config, StreamingContext};

use crate::run::seconds;

/// A context and streams of each kind, as a program may keep them.
struct Program {
    context: StreamingContext,
    streams: Streams,
}

#[derive(Clone)]
struct Streams {
    lines: DStream<LineRecords>,
    counts: Reduced<u64>,
    pairs: RddStream<(Vec<u8>, u64)>,
}

fn program() -> Program {
    let context = StreamingContext::one_batch(Config::default()).expect("the defaults are valid");
    let lines = context.source_stream(Lines::of("a\nb\na\n"));
    let counts = lines.count_by_value();
    let pairs = counts.pairs();
    let streams = Streams {
        lines,
        counts,
        pairs,
    };
    Program { context, streams }
}

#[test]
fn a_struct_holds_streams_beside_their_context_and_another_thread_may_add_to_them() {
    let Program { context, streams } = program();
    let (out, batches) = std::sync::mpsc::channel();
    let adding = std::thread::spawn(move || {
        streams.counts.for_each_batch(move |batch, _| {
            let _ = out.send(batch.get(b"a"));
        });
    });
    adding.join().expect("an output can be added");
    let running = context.start().expect("it starts");
    running.await_termination().expect("it runs");
    assert_eq!(batches.iter().collect::<Vec<_>>(), [Some(2)]);
}

#[test]
fn a_stream_that_is_used_after_the_start_says_so() {
    for dialect in [Dialect::Scala, Dialect::PySpark] {
        let Program { context, streams } = program();
        context.set_dialect(dialect);
        streams.counts.for_each_batch(|_, _| ());
        let running = context.start().expect("it starts");
        let Streams {
            lines,
            counts,
            pairs,
        } = streams;
        let uses: [&dyn Fn(); 7] = [
            &|| drop(lines.split(b' ').count_by_value()),
            &|| drop(lines.records()),
            &|| drop(lines.count()),
            &|| counts.pprint(1),
            &|| drop(counts.pairs()),
            &|| drop(pairs.map(|pair| pair.1)),
            &|| drop(pairs.remembered()),
        ];
        for (index, use_stream) in uses.iter().enumerate() {
            let panic = catch_unwind(AssertUnwindSafe(use_stream)).expect_err("it is too late");
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or(panic.downcast_ref::<&str>().copied());
            let message = message.expect("a message");
            assert!(message.contains("has started"), "{index}: {message}");
        }
        let refused = [
            counts.reduce_by_key_and_window(u64::max, seconds(1)).err(),
            pairs.window(seconds(1)).err(),
            pairs.join(&pairs).err(),
            pairs.union(&pairs).err(),
        ];
        for (index, error) in refused.into_iter().enumerate() {
            let error = error.unwrap_or_else(|| panic!("{index}: it is too late"));
            assert_eq!(error.kind(), ErrorKind::InvalidCall, "{index}");
            assert!(
                error.to_string().contains("has started"),
                "{index}: {error}"
            );
        }
        // The run does not mind.
        running.stop(Stop::Graceful).expect("it ran");
    }
}

#[test]
fn streams_of_two_contexts_are_not_put_together() {
    let (ours, theirs) = (program(), program());
    let (one, two) = (&ours.streams.pairs, &theirs.streams.pairs);
    let both = [one.clone(), two.clone()];
    let refused = [
        one.join(two).err(),
        one.union(two).err(),
        one.transform_with(two, |rdd, _, _| rdd.clone()).err(),
        ours.context.union(&both).err(),
        ours.context.union(&both[1..]).err(),
        ours.context
            .transform(&both, |rdds, _| rdds[0].clone())
            .err(),
    ];
    for (index, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{index}: they do not belong together"));
        assert_eq!(error.kind(), ErrorKind::Config, "{index}");
        let message = "the streams belong to different contexts";
        assert_eq!(error.to_string(), message, "{index}");
    }
}
