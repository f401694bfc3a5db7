//! Every operator, with its Spark name, what it costs and an example; then the whole DStream API, and what of
//! it is here.
//!
//! # Three kinds of streams
//!
//! | stream | a batch is | operators run | how it comes about |
//! |---|---|---|---|
//! | [`DStream`], [`Pairs`] | bytes as they arrived, never copied | in the shards, record by record, on all cores | sources of bytes |
//! | [`Reduced`] | a table: one value a key | once a batch, on the table | `count_by_value`, `reduce_by_key`, windows |
//! | [`RddStream`] | an [`Rdd`]: records of any type, shared | once a batch, one batch at a time | `records`, `map_to`, `pairs`, queues |
//!
//! Count, fold and filter where the bytes are, in the shards, and take only results further: an operator in the
//! shards costs nanoseconds a record, one behind them an allocation or two. Where a stream of one kind lacks an
//! operator of another, `records()`, `pairs()` and `to` bring it there.
//!
//! [`DStream`]: super::DStream
//! [`Pairs`]: super::Pairs
//! [`Reduced`]: super::Reduced
//! [`RddStream`]: super::RddStream
//! [`Rdd`]: super::Rdd
//!
//! # In the shards
//!
//! | operator | Spark | cost |
//! |---|---|---|
//! | `flat_map(split(b' '))`, `split(b' ')` | `flatMap(lambda l: l.split(" "))` | vector code, below 1 ns a word |
//! | `split_whitespace()` | `flatMap(lambda l: l.split())` | the same |
//! | `flat_map_with(f)` | `flatMap(f)` | a call a record |
//! | `filter(f)` | `filter(f)` | compiled into the loop |
//! | `field(n, b',')` | `map(lambda l: l.split(",")[n])` | the bytes up to its end, eight at a time |
//! | `field_whitespace(n)` | `map(lambda l: l.split()[n])` | the same |
//! | `part_or(rule, n, f)` | the same, with `f` for records that have no such part | the same |
//! | `map_slice(f)` | `map(f)`, key extraction | compiled into the loop |
//! | `map(f)` to a key and a value | `map(f)` | compiled into the loop |
//! | `map_key(f)` to a key that is made | `map(f)` | a call and a copy a record |
//! | `map_key_with(init, f)` | `mapPartitions(f)` | the same, with a parser or memory for each shard |
//! | `count_by_value()` | `countByValue()` | 2 to 3 ns a word that is known |
//! | `reduce_by_key(f)` | `reduceByKey(f)` | the same for a constant value, else a look-up a record |
//! | `combine_by_key(c, v, m)` | `combineByKey(c, v, m)` | a look-up a record |
//! | `count()` | `count()` | splitting |
//! | `reduce(f)` | `reduce(f)` | a call a record; one record kept |
//! | `map_partitions(f)` | `mapPartitions(f)` | 16 bytes a record, a call a block |
//! | `map_to(f)` | `map(f)` to anything | a call a record; the result is kept |
//!
//! ```
//! use std::sync::mpsc;
//! use microtally::Config;
//! use microtally::prelude::*;
//! # use microtally::{Fill, Source};
//! # struct Text(&'static [u8]);
//! # impl Source for Text {
//! #     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
//! #         let text = std::mem::take(&mut self.0);
//! #         buf[..text.len()].copy_from_slice(text);
//! #         if text.is_empty() { Fill::End } else { Fill::Bytes(text.len()) }
//! #     }
//! #     fn name(&self) -> &str { "text" }
//! # }
//! let text = b"GET /a 200\nGET /b 404\nPOST /a 200\n";
//! let ssc = StreamingContext::one_batch(Config::default())?; // or a batch every few seconds
//! let lines = ssc.source_stream(Text(text)); // socket_text_stream, text_file_stream …
//!
//! let (found, results) = mpsc::channel();
//! let send = move |name: &'static str| {
//!     let found = found.clone();
//!     move |rows: Vec<(String, u64)>| drop(found.send((name, rows)))
//! };
//! # fn rows(batch: &microtally::Batch<'_, u64>) -> Vec<(String, u64)> {
//! #     let mut rows: Vec<_> = batch.iter().map(|(key, n)| (String::from_utf8_lossy(key).into_owned(), n)).collect();
//! #     rows.sort();
//! #     rows
//! # }
//! // Requests that worked, by path.
//! let out = send("paths");
//! let worked = lines.filter(|line| line.ends_with(b" 200"));
//! worked.field(1, b' ').count_by_value().for_each_batch(move |batch, _| out(rows(batch)));
//! // Bytes of lines, by their first word.
//! let out = send("bytes");
//! let sized = lines.map(|line| (&line[..line.iter().position(|b| *b == b' ').unwrap_or(0)], line.len() as u64));
//! sized.reduce_by_key(|a, b| a + b).for_each_batch(move |batch, _| out(rows(batch)));
//! // Requests by status and method, which are not side by side in a line.
//! let out = send("statuses");
//! let statuses = lines.map_key(|line, key| {
//!     let method = line.split(|byte| *byte == b' ').next()?;
//!     key.extend_from_slice(&line[line.len().checked_sub(3)?..]);
//!     key.push(b' ');
//!     key.extend_from_slice(method);
//!     Some(1)
//! });
//! statuses.reduce_by_key(|a, b| a + b).for_each_batch(move |batch, _| out(rows(batch)));
//! // How many words, and the longest of them.
//! let words = lines.flat_map(split(b' '));
//! let out = send("count");
//! words.count().for_each_batch(move |rdd, _| out(rdd.iter().map(|n| ("words".into(), *n)).collect()));
//! let out = send("longest");
//! words.reduce(|a, b| if b.len() > a.len() { b } else { a }).for_each_batch(move |rdd, _| {
//!     out(rdd.iter().map(|word| (String::from_utf8_lossy(word).into_owned(), 0)).collect());
//! });
//!
//! ssc.start()?.await_termination()?;
//! let row = |word: &str, n| (word.to_owned(), n);
//! assert_eq!(results.try_iter().collect::<Vec<_>>(), [
//!     ("paths", vec![row("/a", 2)]),
//!     ("bytes", vec![row("GET", 20), row("POST", 11)]),
//!     ("statuses", vec![row("200 GET", 1), row("200 POST", 1), row("404 GET", 1)]),
//!     ("count", vec![row("words", 9)]),
//!     ("longest", vec![row("POST", 0)]),
//! ]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! # On batches of any records
//!
//! The examples run whole contexts, by [`run_batches`](crate::stream::run_batches). Each costs a visit of each record
//! and what it makes of it, unless it says otherwise.
//!
//! ## `map`, `filter`, `flat_map`, `map_partitions`, `glom`, `repartition`
//!
//! ```
//! use microtally::stream::{Rdd, run_batches};
//! let numbers = || [Rdd::split_into(vec![1, 2, 3, 4], 2)];
//! assert_eq!(run_batches(numbers(), |n| Ok(n.map(|n| n * 10)))?, [[10, 20, 30, 40]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.filter(|n| n % 2 == 0)))?, [[2, 4]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.flat_map(|n| vec![*n; *n])))?, [[1, 2, 2, 3, 3, 3, 4, 4, 4, 4]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.map_partitions(|part| [part.len()])))?, [[2, 2]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.glom().map(|part| part.to_vec())))?, [[[1, 2], [3, 4]]]);
//! let thirds = run_batches(numbers(), |n| Ok(n.repartition(3).map_partitions(|part| [part.len()])))?;
//! assert_eq!(thirds, [[1, 1, 2]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## `count`, `count_by_value`, `reduce`
//!
//! ```
//! use microtally::stream::run_batches;
//! let words = || [vec!["a", "b", "a"], vec![]];
//! assert_eq!(run_batches(words(), |w| Ok(w.count()))?, [[3], [0]]);
//! assert_eq!(run_batches(words(), |w| Ok(w.count_by_value()))?, [vec![("a", 2), ("b", 1)], vec![]]);
//! assert_eq!(run_batches(words(), |w| Ok(w.reduce(|a, b| a.max(b))))?, [vec!["b"], vec![]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## `reduce_by_key`, `combine_by_key`, `group_by_key`, `map_values`, `flat_map_values`
//!
//! By key: a look-up a record.
//!
//! ```
//! use microtally::stream::run_batches;
//! let pairs = || [vec![("a", 1), ("b", 2), ("a", 3)]];
//! assert_eq!(run_batches(pairs(), |p| Ok(p.reduce_by_key(|a, b| a + b)))?, [[("a", 4), ("b", 2)]]);
//! assert_eq!(run_batches(pairs(), |p| Ok(p.group_by_key()))?, [[("a", vec![1, 3]), ("b", vec![2])]]);
//! let texts = run_batches(pairs(), |p| {
//!     Ok(p.combine_by_key(|n| n.to_string(), |text, n| format!("{text}+{n}"), |a, b| a + "|" + &b))
//! })?;
//! assert_eq!(texts, [[("a", "1+3".to_owned()), ("b", "2".to_owned())]]);
//! assert_eq!(run_batches(pairs(), |p| Ok(p.map_values(|n| -n)))?, [[("a", -1), ("b", -2), ("a", -3)]]);
//! let twice = run_batches(pairs(), |p| Ok(p.flat_map_values(|n| [*n, n * 10])))?;
//! assert_eq!(twice, [[("a", 1), ("a", 10), ("b", 2), ("b", 20), ("a", 3), ("a", 30)]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## `join`, `left_outer_join`, `right_outer_join`, `full_outer_join`, `cogroup`, `union`
//!
//! A look-up for each record of either side, and what comes out; a union shares its records.
//!
//! ```
//! use microtally::stream::run_batches;
//! let pairs = || [vec![("a", 1), ("b", 2)]];
//! // The other side: the same keys but "a", and "c".
//! let joined = run_batches(pairs(), |p| {
//!     let other = p.transform(|rdd, _| rdd.filter(|(k, _)| *k != "a").union(&vec![("c", 9)].into()));
//!     p.join(&other)
//! })?;
//! assert_eq!(joined, [[("b", (2, 2))]]);
//! let left = run_batches(pairs(), |p| p.left_outer_join(&p.filter(|(k, _)| *k == "b")))?;
//! assert_eq!(left, [[("a", (1, None)), ("b", (2, Some(2)))]]);
//! let right = run_batches(pairs(), |p| p.filter(|(k, _)| *k == "b").right_outer_join(&p))?;
//! assert_eq!(right, [[("b", (Some(2), 2)), ("a", (None, 1))]]);
//! let full = run_batches(pairs(), |p| p.filter(|(k, _)| *k == "b").full_outer_join(&p))?;
//! assert_eq!(full, [[("b", (Some(2), Some(2))), ("a", (None, Some(1)))]]);
//! let both = run_batches(pairs(), |p| p.cogroup(&p.filter(|(k, _)| *k == "b")))?;
//! assert_eq!(both, [[("a", (vec![1], vec![])), ("b", (vec![2], vec![2]))]]);
//! assert_eq!(run_batches(pairs(), |p| p.union(&p))?, [[("a", 1), ("b", 2), ("a", 1), ("b", 2)]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## `transform`, `transform_with`, `sort_by`, `top`
//!
//! ```
//! use microtally::stream::run_batches;
//! let numbers = || [vec![3, 1, 2]];
//! let pairs = run_batches(numbers(), |n| Ok(n.transform(|rdd, time| rdd.map(|n| (time.as_millis(), *n)))))?;
//! assert_eq!(pairs, [[(1000, 3), (1000, 1), (1000, 2)]]);
//! let sums = run_batches(numbers(), |n| {
//!     n.transform_with(&n.count(), |a, b, _| a.map(|n| n + b.iter().sum::<u64>()))
//! })?;
//! assert_eq!(sums, [[6, 4, 5]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.sort_by(|a, b| a.cmp(b))))?, [[1, 2, 3]]);
//! assert_eq!(run_batches(numbers(), |n| Ok(n.top(2, |a, b| b.cmp(a))))?, [[3, 2]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## Windows
//!
//! `(length, slide)`, or a length with the stream's own slide. On tables ([`Reduced`]) a window costs a look-up
//! or a few for each key that came or left. On any records `window` shares partitions; a fold by an inverse
//! costs what came and left, one without it the batches' results, and the result its copy.
//!
//! ```
//! use std::time::Duration;
//! use microtally::stream::run_batches;
//! let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
//! let numbers = || [vec![1], vec![2], vec![3], vec![]];
//! assert_eq!(run_batches(numbers(), |n| n.window(two))?, [vec![1], vec![1, 2], vec![2, 3], vec![3]]);
//! assert_eq!(run_batches(numbers(), |n| n.window((one, two)))?, [vec![2], vec![]]);
//! let sum = |a, b| a + b;
//! assert_eq!(run_batches(numbers(), |n| n.reduce_by_window(sum, two))?, [[1], [3], [5], [3]]);
//! let minus = |a, b| a - b;
//! let sums = run_batches(numbers(), |n| n.reduce_by_window_with_inverse(sum, minus, two))?;
//! assert_eq!(sums, [[1], [3], [5], [3]]);
//! assert_eq!(run_batches(numbers(), |n| n.count_by_window(two))?, [[1], [2], [2], [1]]);
//! let values = run_batches(numbers(), |n| n.count_by_value_and_window(two))?;
//! assert_eq!(values[1..], [vec![(1, 1), (2, 1)], vec![(3, 1), (2, 1)], vec![(3, 1)]]);
//!
//! let pairs = || [vec![("a", 1)], vec![("b", 2)], vec![]];
//! let groups = run_batches(pairs(), |p| p.group_by_key_and_window(two))?;
//! assert_eq!(groups, [vec![("a", vec![1])], vec![("a", vec![1]), ("b", vec![2])], vec![("b", vec![2])]]);
//! let anew = run_batches(pairs(), |p| p.reduce_by_key_and_window(sum, two))?;
//! assert_eq!(anew, [vec![("a", 1)], vec![("a", 1), ("b", 2)], vec![("b", 2)]]);
//! let kept = run_batches(pairs(), |p| p.reduce_by_key_and_window_with_inverse(sum, minus, two))?;
//! assert_eq!(kept[2], [("a", 0), ("b", 2)]);
//! let dropped = run_batches(pairs(), |p| {
//!     p.reduce_by_key_and_window_with_inverse_and_filter(sum, minus, two, |_, n| *n != 0)
//! })?;
//! assert_eq!(dropped[2], [("b", 2)]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! ## States
//!
//! `update_state_by_key` goes over every key in every batch; `map_with_state` costs what came and what timed out,
//! its `state_snapshots` as much as there are keys.
//!
//! ```
//! use microtally::stream::{State, StateSpec, run_batches};
//! let pairs = || [vec![("a", 1), ("b", 2)], vec![("a", 3)]];
//! let sums = run_batches(pairs(), |p| {
//!     Ok(p.update_state_by_key(|new, sum| Some(sum.unwrap_or(0) + new.iter().sum::<i32>())))
//! })?;
//! assert_eq!(sums, [[("a", 1), ("b", 2)], [("a", 4), ("b", 2)]]);
//!
//! let spec = || StateSpec::function(|_time, key: &&'static str, new: Option<&i32>, sum: &mut State<i32>| {
//!     sum.update(sum.get_option().unwrap_or(&0) + new?);
//!     Some((*key, *sum.get()))
//! });
//! let touched = run_batches(pairs(), |p| Ok((*p.map_with_state(spec())).clone()))?;
//! assert_eq!(touched, [vec![("a", 1), ("b", 2)], vec![("a", 4)]]);
//! let all = run_batches(pairs(), |p| Ok(p.map_with_state(spec()).state_snapshots().sort_by(|a, b| a.cmp(b))))?;
//! assert_eq!(all, [[("a", 1), ("b", 2)], [("a", 4), ("b", 2)]]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! # When a function panics
//!
//! The batch fails for the outputs that depend on it, the error names the operator, and later batches go on. What
//! the batch is made of is kept, as Spark keeps the lineage of its data. When a window, a state or a join with one
//! needs the batch later, it is made again, once in each batch, until that works.
//!
//! Memory stays bounded: a window keeps the batches it would keep anyway, and a state the records of up to 128 batches
//! in a row that it has missed. When one more fails, the state is lost, and its batches fail from then on. What was
//! folded in the shards (`reduce_by_key` and its like on bytes) is not kept record by record: a function that panics
//! there fails the windows that the batch is in, and ends [`reduce_by_key_so_far`](super::Reduced::reduce_by_key_so_far).
//! Nothing wrong is ever published.
//!
//! # The DStream API
//!
//! Names are Scala's; Python's are the same unless said. *Done* means with Spark's results, checked against
//! Spark's own test suites (`tests/conformance.rs`) or a model.
//!
//! | Spark | here | |
//! |---|---|---|
//! | `StreamingContext(…, batchDuration)` | [`StreamingContext::new`] | done; from 1 ms |
//! | `getOrCreate`, `checkpoint`, recovery | | not here: a stream's state lives as long as the process |
//! | `getActive`, `getActiveOrCreate` | | not here: there may be several contexts, and one that has started is a value of its own |
//! | `start`, `stop`, `awaitTermination(OrTimeout)` | the same | done; starting twice or adding to a started context does not compile |
//! | `getState` | | different: a type for each state |
//! | `remember`, `slice` | [`remember`], [`Remembered::slice`] | done; `slice` is called on a handle taken before the start, and gives batches that were made, where Spark also makes those to come |
//! | `addStreamingListener` | [`add_streaming_listener`] | done; called on the engine's threads |
//! | `ssc.union`, `ssc.transform` | the same | done |
//! | `socketTextStream` | `socket_text_stream` | done |
//! | `textFileStream`, `fileStream` | `text_file_stream`, [`FileOptions`] | done; text only |
//! | `binaryRecordsStream` | `binary_records_stream` | done |
//! | `queueStream`, `ConstantInputDStream`, `InputDStream` | `queue_stream`, `batch_stream` | done; their records are in `num_records`, where Spark counts none of a queue |
//! | `receiverStream`, `socketStream(converter)` | [`Source`], `source_stream` | different: a source gives bytes into memory it is lent |
//! | `rawSocketStream`, Kafka, Kinesis | | not here: their formats are Spark's or need their clients; [`Source`] is the place |
//! | `map`, `flatMap`, `filter`, `mapPartitions`, `glom`, `repartition` | the same | done |
//! | `mapPartitionsWithIndex`, `partitionBy`, partitioner arguments | | not here: partitions are what was read together, one machine does not shuffle |
//! | `count`, `countByValue`, `reduce` | the same | done, Scala's and Python's rule for an empty batch |
//! | `mapValues`, `flatMapValues`, `groupByKey`, `reduceByKey`, `combineByKey` | the same | done; `reduce_by_key` of a stream of bytes asks for a commutative function |
//! | `join`, `leftOuterJoin`, `rightOuterJoin`, `fullOuterJoin`, `cogroup` | the same | done |
//! | `union`, `transform`, `transformWith` | the same | done |
//! | `window`, `reduceByWindow`, `countByWindow`, `countByValueAndWindow`, `groupByKeyAndWindow`, `reduceByKeyAndWindow` | the same; `…_with_inverse`, `…_and_filter` | done; no checkpoint directory needed; a window shorter than its slide leaves batches out also with an inverse function, where Spark counts them; a window or slide of 0 is refused |
//! | `updateStateByKey` | `update_state_by_key`, `…_from`, `…_at` | done, also with initial state, time and key; no form with an iterator |
//! | `mapWithState`, `stateSnapshots` | the same, [`StateSpec`] | done; timeouts fire at the first batch at which they are due |
//! | `print` | `pprint` | Python's format; what cannot be printed is escaped, also in a record that is a string, where Python prints it |
//! | `foreachRDD` | `for_each_batch` | done |
//! | `saveAsTextFiles` | `save_as_text_files` | done; a directory is seen when it is complete; a symbolic link in its place is not followed |
//! | `saveAsObjectFiles`, `saveAs(NewAPI)HadoopFiles` | | not here: Java's and Hadoop's formats; `for_each_batch` is the place |
//! | `persist`, `cache`, storage levels | | not here: every batch is made once and shared, by several outputs too, where Spark makes it again for each |
//! | back-pressure, rate limits | | different: a full ring stops the reading, and the sender feels it |
//! | write-ahead log, web page, metrics | | not here |
//! | | `top`, `sort_by`, `fail_fast`, `map_key`, `reduce_by_key_so_far`, `union_sources`, `one_batch`, `start_files`, [`run_batches`] | ours |
//!
//! [`StreamingContext::new`]: crate::StreamingContext::new
//! [`remember`]: crate::StreamingContext::remember
//! [`Remembered::slice`]: super::Remembered::slice
//! [`add_streaming_listener`]: crate::StreamingContext::add_streaming_listener
//! [`FileOptions`]: crate::FileOptions
//! [`Source`]: crate::Source
//! [`StateSpec`]: super::StateSpec
//! [`run_batches`]: crate::stream::run_batches
