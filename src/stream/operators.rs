//! The operators with their Spark names and costs, and a comparison with Spark's DStream API.
//!
//! Each method has a runnable example.
//!
//! # Three kinds of streams
//!
//! | stream | a batch is | operators run |
//! |---|---|---|
//! | [`DStream`], [`PairStream`] | bytes as they arrived, never copied | in the shards, on all cores |
//! | [`Reduced`] | a table: one value per key | once a batch, on the table |
//! | [`RddStream`] | an [`Rdd`]: records of any type, shared | once a batch, on its records |
//!
//! Count, fold and filter in the shards, and take only results further: an operator in the shards
//! costs nanoseconds a record, one behind them an allocation or two. If a stream lacks an operator,
//! `records()`, `pairs()` and `map_to` turn it into an [`RddStream`].
//!
//! [`DStream`]: super::DStream
//! [`PairStream`]: super::PairStream
//! [`Reduced`]: super::Reduced
//! [`RddStream`]: super::RddStream
//! [`Rdd`]: super::Rdd
//!
//! # In the shards
//!
//! | operator | Spark | cost |
//! |---|---|---|
//! | `flat_map(rule)`, `split(b' ')` | `flatMap(lambda l: l.split(" "))` | vector code, below 1 ns a word |
//! | `split_whitespace()` | `flatMap(lambda l: l.split())` | the same |
//! | `flat_map_with(f)` | `flatMap(f)` | a call a record |
//! | `filter(f)` | `filter(f)` | compiled into the loop |
//! | `field(n, b',')` | `map(lambda l: l.split(",")[n])` | the bytes up to its end, 8 at a time |
//! | `field_whitespace(n)` | `map(lambda l: l.split()[n])` | the same |
//! | `part_or(rule, n, f)` | the same, with `f` for records without such a part | the same |
//! | `map_slice(f)` | `map(f)`, key extraction | compiled into the loop |
//! | `map(f)` to a key and a value | `map(f)` | compiled into the loop |
//! | `map_key(f)` to a new key | `map(f)` | a call and a copy a record |
//! | `map_key_with(init, f)` | `mapPartitions(f)` | the same, with a state for each shard |
//! | `count_by_value()` | `countByValue()` | 2 to 3 ns a known word |
//! | `reduce_by_key(f)` | `reduceByKey(f)` | the same for a constant, else a look-up a record |
//! | `combine_by_key(c, v, m)` | `combineByKey(c, v, m)` | a look-up a record |
//! | `aggregate_by_key(a)` | `aggregateByKey(…)` | a look-up and an `add` a record |
//! | `count()` | `count()` | splitting |
//! | `reduce(f)` | `reduce(f)` | a call a record; one record kept |
//! | `map_partitions(f)` | `mapPartitions(f)` | 16 bytes a record, a call a block |
//! | `map_to(f)` | `map(f)` to any type | a call a record; the result is kept |
//!
//! # On tables and records
//!
//! An operator of the batch plane costs a visit of each record, and its results, with these
//! exceptions:
//!
//! | operators | cost |
//! |---|---|
//! | `reduce_by_key`, `combine_by_key`, `group_by_key`, `count_by_value` | a look-up a record |
//! | joins, `cogroup` | a look-up for each record of either side, and the results |
//! | `union`, `glom`, `window` | nothing a record: records are shared |
//! | `top` | one pass, and sorting of the result |
//! | windows on tables ([`Reduced`]) | a look-up or a few for each key that entered or left |
//! | windows on records | the results of their batches |
//! | windows with an inverse function | what entered and left, and a copy of the result |
//! | `update_state_by_key`, `state_snapshots` | a visit of every key in every batch |
//! | `map_with_state` | what came and what timed out |
//!
//! ```
//! use microtally::prelude::*;
//! use microtally::Config;
//! use microtally::sources::Lines;
//!
//! let ssc = StreamingContext::one_batch(Config::default())?; // or a batch every few seconds
//! let text = "GET /a 200\nGET /b 404\nPOST /a 200\n";
//! let lines = ssc.source_stream(Lines::of(text)); // or socket_text_stream …
//! // Successful requests by path: in the shards.
//! let paths = lines.filter(|line| line.ends_with(b" 200")).field(1, b' ').count_by_value();
//! paths.for_each_batch(|batch, _| assert_eq!(batch.get(b"/a"), Some(2)));
//! // Its share of all requests: on records.
//! let shares = paths.pairs().transform_with(&lines.count(), |paths, total, _| {
//!     let total: u64 = total.iter().sum();
//!     paths.map_values(|count| *count as f64 / total as f64)
//! })?;
//! shares.for_each_batch(|rdd, _| assert_eq!(rdd.to_vec(), [("/a".into(), 2.0 / 3.0)]));
//! ssc.start()?.await_termination()?;
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! # When a function panics
//!
//! The batch fails for the outputs that depend on it, the error names the operator, and later
//! batches go on. What the batch is made of is kept, as Spark keeps the lineage of its data. When a
//! window, a state or a join needs the batch later, it is made again, once in each batch, until
//! that works.
//!
//! Memory stays bounded. A window keeps only the batches it needs anyway, and a state the records
//! of up to 128 missed batches in a row. If one more fails, the state is lost, and its batches fail
//! from then on.
//!
//! What the shards fold (`reduce_by_key` and the like on bytes) is not kept record by record. A
//! function that panics there fails the windows that contain the batch, and ends
//! [`reduce_by_key_so_far`](super::Reduced::reduce_by_key_so_far). Wrong results are never
//! published.
//!
//! # States
//!
//! These operators keep something from batch to batch, which [`save_states`] writes and
//! [`load_states`] reads: `reduce_by_key_so_far`, `update_state_by_key`, `map_with_state`, and
//! windows, which keep batches of their parents, those of `aggregate_by_key` included. Distinct
//! values are saved if their aggregate has a chosen seed (`Distinct::with_seed`), custom aggregates
//! if they implement `save` and `load`.
//!
//! Values that are numbers, texts or bytes, and pairs of a text or bytes and a number, are saved as
//! they are. Other types implement [`Saved`], and `checkpointed` is called on the stream that has
//! the state. For a window of records that is the stream it is made of.
//!
//! ```
//! use microtally::prelude::*;
//! use microtally::stream::RddQueue;
//!
//! let ssc = StreamingContext::new(Duration::from_millis(5))?;
//! let clicks: RddQueue<(String, (u64, f64))> = [vec![("ada".to_owned(), (1, 0.5))]].into_iter().collect();
//! let clicks = ssc.queue_stream(&clicks, true, None);
//! let sums = clicks.update_state_by_key(|new, sum: Option<(u64, f64)>| {
//!     let sum = sum.unwrap_or_default();
//!     Some(new.iter().fold(sum, |sum, new| (sum.0 + new.0, sum.1 + new.1)))
//! });
//! sums.checkpointed().for_each_batch(|_, _| ());
//! ssc.save_states(std::io::sink());
//! ssc.stop_after(2)?;
//! ssc.start()?.await_termination()?;
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! # The DStream API
//!
//! Each item names the Spark methods, the method here if its name differs, and whether it is done.
//! Names are Scala's; Python's are the same unless noted. *Done* means with Spark's results,
//! checked against Spark's own test suites (`tests/conformance.rs`) or a model.
//!
//! - `StreamingContext(…, batchDuration)` → [`StreamingContext::new`]: done; from 1 ms.
//! - `getOrCreate`, `checkpoint`, recovery: missing; [`save_states`] saves states at the end of a
//!   run.
//! - `getActive`, `getActiveOrCreate`: missing; there may be several contexts, and a started one
//!   has a type of its own.
//! - `start`, `stop`, `awaitTermination(OrTimeout)`: done; starting twice does not compile;
//!   adding to a started context panics, or is an error.
//! - `getState`: different; a type for each state.
//! - `remember`, `slice` → [`remember`], [`Remembered::slice`]: done; `slice` is called on a handle
//!   taken before the start, and returns only batches already made, where Spark also makes later
//!   ones.
//! - `addStreamingListener` → [`add_streaming_listener`]: done; called on the engine's threads.
//! - `ssc.union`, `ssc.transform`: done.
//! - `socketTextStream` → `socket_text_stream`: done.
//! - `textFileStream`, `fileStream` → `text_file_stream`, [`FileOptions`]: done; text only.
//! - `binaryRecordsStream` → `binary_records_stream`: done.
//! - `queueStream`, `ConstantInputDStream`, `InputDStream` → `queue_stream`, `batch_stream`: done;
//!   their records are in `num_records`, where Spark does not count those of a queue.
//! - `receiverStream`, `socketStream(converter)` → [`Source`], `source_stream`: different; a source
//!   writes bytes into a buffer it is lent.
//! - `rawSocketStream`, Kafka, Kinesis: missing; Spark formats, or clients are needed; implement
//!   [`Source`].
//! - `map`, `flatMap`, `filter`, `mapPartitions`, `glom`, `repartition`: done.
//! - `mapPartitionsWithIndex`, `partitionBy`, partitioner arguments: missing; a partition is what
//!   was read together, and one machine does not shuffle.
//! - `count`, `countByValue`, `reduce`: done, with Scala's and Python's rules for an empty batch.
//! - `mapValues`, `flatMapValues`, `groupByKey`, `reduceByKey`, `combineByKey`: done;
//!   `reduce_by_key` of a stream of bytes requires a commutative function.
//! - `join`, `leftOuterJoin`, `rightOuterJoin`, `fullOuterJoin`, `cogroup`: done.
//! - `union`, `transform`, `transformWith`: done.
//! - `window`, `reduceByWindow`, `countByWindow`, `countByValueAndWindow`, `groupByKeyAndWindow`,
//!   `reduceByKeyAndWindow` → `…_with_inverse`, `…_and_filter`: done; no checkpoint directory
//!   needed; a window shorter than its slide skips batches with an inverse function too, where
//!   Spark counts them; a window or slide of 0 is refused.
//! - `updateStateByKey` → `update_state_by_key`, `…_from`, `…_at`: done, also with initial state,
//!   time and key; not with an iterator.
//! - `mapWithState`, `stateSnapshots` → [`StateSpec`]: done; timeouts fire in the first batch in
//!   which they are due.
//! - `print` → `pprint`: Python's format; unprintable characters are escaped, also in strings,
//!   which Python prints raw.
//! - `foreachRDD` → `for_each_batch`: done.
//! - `saveAsTextFiles` → `save_as_text_files`: done; a directory appears when it is complete; a
//!   symbolic link in its place is not followed.
//! - `saveAsObjectFiles`, `saveAs(NewAPI)HadoopFiles`: missing; Java's and Hadoop's formats; use
//!   `for_each_batch`.
//! - `persist`, `cache`, storage levels: missing; every batch is made once and shared by all
//!   outputs, where Spark makes it again for each.
//! - back-pressure, rate limits: different; a full ring stops the reading, and the sender feels it.
//! - write-ahead log, web page, metrics: missing.
//! - Only here: `top`, `sort_by`, `fail_fast`, `map_key`, `reduce_by_key_so_far`, `union_sources`,
//!   `one_batch`, `start_files`, [`run_batches`], [`run_lines`].
//!
//! [`StreamingContext::new`]: crate::StreamingContext::new
//! [`Saved`]: super::Saved
//! [`save_states`]: crate::StreamingContext::save_states
//! [`load_states`]: crate::StreamingContext::load_states
//! [`remember`]: crate::StreamingContext::remember
//! [`Remembered::slice`]: super::Remembered::slice
//! [`add_streaming_listener`]: crate::StreamingContext::add_streaming_listener
//! [`FileOptions`]: crate::sources::FileOptions
//! [`Source`]: crate::sources::Source
//! [`StateSpec`]: super::StateSpec
//! [`run_batches`]: crate::stream::run_batches
//! [`run_lines`]: crate::stream::run_lines
