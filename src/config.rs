//! What a caller may choose, checked once at the door.
//!
//! Promise: a [`Config`] that passed [`Config::validate`] describes an engine that can be built.
//! Must not know: argv, the environment, files, threads.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits;
use crate::split::{Kernel, LineEnds};

/// Settings of an engine. The default is right for most programs.
///
/// ```
/// use microtally::Config;
/// let config = Config::default().workers(2).pin(false).record_bytes_max(1 << 20);
/// assert!(config.validate().is_ok());
/// assert!(Config::default().workers(1000).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) workers: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) block_bytes: usize,
    pub(crate) record_bytes_max: usize,
    /// A kernel's name, as it was given.
    pub(crate) kernel: Option<String>,
    pub(crate) low_latency: Option<LowLatency>,
    pub(crate) memory_bytes_max: Option<usize>,
    pub(crate) on_limit: OnLimit,
    pub(crate) line_ends: LineEnds,
    pub(crate) seed: Option<u64>,
}

/// What happens when the memory there may be for keys is used up: see [`Config::memory_bytes_max`].
///
/// Whatever it is, totals (records, tokens, bytes) stay exact, the batch says so
/// ([`BatchStats::error_max`](crate::BatchStats), [`other_records`](crate::BatchStats)), and there is a
/// [`Notice`](crate::Notice) when it happens for the first time. For every key of a batch
///
/// ```text
/// count - error_max <= true count <= count + missing_max
/// ```
///
/// where [`Batch::missing_max`](crate::Batch::missing_max) is of the key, or
/// [`BatchStats::missing_max`](crate::BatchStats) of all keys; a key that is not there occurred at most
/// `error_max + other_records` times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnLimit {
    /// Room is made by taking the same number off every count and dropping the keys that have none left, as
    /// often as it is needed. What was taken off, `error_max`, is added to every count that is shown: a count
    /// is never too low, and too high by at most `error_max`. A key that is not there occurred at most
    /// `error_max` times, so those that are frequent are there whatever came before them. This is the
    /// Space-Saving guarantee, in the form of Misra and Gries that can be merged (Agarwal et al., *Mergeable
    /// Summaries*, 2012).
    ///
    /// A window thins its batches, too. A key of some hundred bytes and more that would take a large part of
    /// what a batch of the window may have is not kept for it, whatever its count is; those records are in
    /// `other_records`, so the count of such a key may be too low by that.
    ///
    /// It needs values that are counts and added up: tokens counted as they are, `count_by_value`. Sums, extremes,
    /// means and any other reduction by a custom function have no such bound. They are treated as by
    /// [`Other`](Self::Other).
    #[default]
    Approximate,
    /// Keys that are there stay, and go on to be counted exactly. No new ones are taken in until the batch
    /// ends; the records of those are counted in `other_records`, how many keys that were is not known.
    ///
    /// Each thread that counts has its own tables. A key that one of them knew and another refused has some of its
    /// records in `other_records`. How many that are at most,
    /// [`Batch::missing_max`](crate::Batch::missing_max) says of each key: of a key for which it is 0 the value, a
    /// sum, an extreme or a mean as well as a count, is that of all its records. It is 0 for all keys where one
    /// thread counts, and for most of them while few were refused. A key for which it is `m` has the value of all its
    /// records but `m` at most.
    ///
    /// The tables of all threads share the memory, so keys are refused only when it is used up. Running sums
    /// ([`reduce_by_key_so_far`](crate::stream::Reduced::reduce_by_key_so_far)) take theirs from the same share and
    /// keep it: once it is used up, the tables of a batch have an eighth of their part each, and refuse keys earlier.
    Other,
    /// As [`Other`](Self::Other) for the batch in which it happens. That batch is published, and the run ends
    /// with [`ErrorKind::Limit`](crate::ErrorKind::Limit). A [`Tally`](crate::Tally) gives the error instead
    /// of the batch.
    Fail,
}

/// Small batches as soon as can be, instead of large ones at least cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowLatency {
    /// How long the reading thread looks for input without sleeping.
    pub(crate) spin: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: None,
            pin: true,
            block_bytes: limits::BLOCK_BYTES_DEFAULT,
            record_bytes_max: limits::RECORD_BYTES_DEFAULT,
            kernel: None,
            low_latency: None,
            memory_bytes_max: None,
            on_limit: OnLimit::Approximate,
            line_ends: LineEnds::Universal,
            seed: None,
        }
    }
}

impl Config {
    /// Number of shard threads, 1 to 256. Without it: one less than the cores this process may use
    /// (affinity mask and CPU quota included), and at least one. The thread that reads is the other
    /// one: it counts too whenever every ring is full.
    pub fn workers(mut self, shard_count: usize) -> Self {
        self.workers = Some(shard_count);
        self
    }

    /// Whether shard threads are pinned to a core each. On by default. Pinning is an optimisation:
    /// where it fails there is one notice and the results are the same.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Bytes of one block, 64 to 64 MiB, 256 KiB by default. A block is what a source fills with one
    /// read and a shard counts in one go. Small blocks are for tests.
    pub fn block_bytes(mut self, block_bytes: usize) -> Self {
        self.block_bytes = block_bytes;
        self
    }

    /// Longest record in bytes that is kept whole, 64 bytes to 1 GiB, 16 MiB by default.
    ///
    /// A longer record is cut into tokens as it streams when the pipeline only splits and counts:
    /// nothing is lost, its tokens may fall into more than one batch, and a single *token* above the
    /// limit is counted in `oversize_tokens`. Where a pipeline needs whole records, the record is
    /// dropped and counted there. A limit below the block size makes blocks that small.
    pub fn record_bytes_max(mut self, record_bytes_max: usize) -> Self {
        self.record_bytes_max = record_bytes_max;
        self
    }

    /// Where records end, [`LineEnds::Universal`] by default: as in Spark, `\n`, `\r` and `\r\n` each end one.
    ///
    /// It holds for every stream of the engine or context.
    pub fn line_ends(mut self, line_ends: LineEnds) -> Self {
        self.line_ends = line_ends;
        self
    }

    /// Splits with the kernel of this name, one of [`kernels`](Self::kernels); the fastest by default.
    ///
    /// All kernels give the same results: the choice is for comparing them, and for tests of the ones
    /// that this CPU would not take by itself.
    ///
    /// ```
    /// use microtally::Config;
    /// assert!(Config::default().kernel("portable").validate().is_ok());
    /// assert!(Config::default().kernel("abacus").validate().is_err());
    /// ```
    pub fn kernel(mut self, name: impl Into<String>) -> Self {
        self.kernel = Some(name.into());
        self
    }

    /// Names of the kernels that this CPU can run. The last one is the fastest, and the default.
    pub fn kernels() -> impl Iterator<Item = &'static str> {
        Kernel::available().map(Kernel::name)
    }

    /// The kernel that was asked for, or the fastest.
    ///
    /// # Errors
    ///
    /// There is no kernel of that name, or this CPU cannot run it.
    pub(crate) fn chosen_kernel(&self) -> Result<Kernel> {
        let kernel = match &self.kernel {
            None => Some(Kernel::detect()),
            Some(name) => Kernel::by_name(name),
        };
        let kernel = kernel.map(|kernel| kernel.with_line_ends(self.line_ends));
        kernel.ok_or_else(|| {
            let name = self.kernel.as_deref().unwrap_or_default();
            let names: Vec<_> = Config::kernels().collect();
            Error::refused(format!(
                "kernel {name:?} is not one of those this CPU can run: {}",
                names.join(", ")
            ))
        })
    }

    /// For small batches whose result is wanted within microseconds. Off by default.
    ///
    /// The thread that reads (of an [`Engine`](crate::Engine): that cuts or flushes) counts what is
    /// there itself instead of waking a shard, and the thread that completes a batch publishes it itself
    /// instead of waking the publisher: nobody is waited for. The price: outputs run on those threads,
    /// so a slow one holds up reading, and one core does the work of small batches. An output must not
    /// wait for a lock that is held around [`Engine::cut`](crate::Engine::cut), nor write to the engine
    /// that calls it. Blocks that fill up go to the shards as ever.
    ///
    /// `spin`, up to 1 s, is how long a [`StreamingContext`](crate::StreamingContext) that has read
    /// something looks for more without sleeping. A core is busy meanwhile; when nothing comes for
    /// that long, it sleeps. A batch that holds something is cut on time to some microseconds, with up
    /// to 1.2 ms of looking at the clock; without this mode the event queue rounds up to whole
    /// milliseconds.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::time::Duration;
    /// use microtally::{BatchTime, Config, Engine, Rule};
    ///
    /// let mut engine = Engine::builder(Rule::Split(b' '))
    ///     .config(Config::default().low_latency(Duration::ZERO))
    ///     .start(|batch| println!("{} keys", batch.len()))?;
    /// let mut input = engine.writer().expect("there is one writer unless more are asked for");
    /// input.write_all(b"the cat\nthe dog\n")?;
    /// engine.cut(BatchTime::from_millis(1))?; // Prints, on this thread.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn low_latency(mut self, spin: Duration) -> Self {
        self.low_latency = Some(LowLatency { spin });
        self
    }

    /// Memory in bytes that the engine may take for everything whose size depends on the input: blocks,
    /// the keys of the batch that is counted and of the one that is published, ranking all of them, windows
    /// over them, records longer than a block, decoders of compressed input. No limit by default.
    ///
    /// It is divided when the engine starts; too little for the fixed parts is refused then, with the number
    /// that would do. Windows have half of it: in one half of that every batch of a window has its share, and the
    /// other is for whichever comes first, so that a stream may be uneven. What a batch has no room for there is
    /// lost to the window as said in [`on_limit`](Self::on_limit). What happens beyond it says [`on_limit`](Self::on_limit). Not in it: code, stacks and
    /// the allocator's own needs, some 64 MiB at most; what functions of the user's keep; and streams whose
    /// records are copied out of the shards (`RddStream`, state by key), which hold what they are given, and the
    /// bytes instead of the records where a function has failed.
    pub fn memory_bytes_max(mut self, memory_bytes_max: usize) -> Self {
        self.memory_bytes_max = Some(memory_bytes_max);
        self
    }

    /// What happens when there is no more memory for keys; [`OnLimit::Approximate`] by default. Without
    /// [`memory_bytes_max`](Self::memory_bytes_max) it never does.
    ///
    /// ```
    /// use microtally::{BatchTime, Config, OnLimit, Rule, Tally};
    /// let config = Config::default().memory_bytes_max(64 << 20).record_bytes_max(1 << 20);
    /// let mut tally = Tally::with_config(Rule::Split(b' '), &config.on_limit(OnLimit::Other))?;
    /// tally.push(b"to be or not to be\n");
    /// let batch = tally.cut(BatchTime::from_millis(1))?;
    /// assert!(!batch.stats().is_approximate()); // Six words are no match for 64 MiB.
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn on_limit(mut self, on_limit: OnLimit) -> Self {
        self.on_limit = on_limit;
        self
    }

    /// Hashes keys with this seed, so that equal runs are equal. By default every run takes a seed of its own from
    /// the operating system, so that nobody can send keys that collide: choose one for tests and fuzzing, not for
    /// input from strangers.
    ///
    /// Below the memory limit results never depend on it, only the order in which
    /// [`Batch::iter`](crate::Batch::iter) visits keys. Beyond the limit it decides, together with the order in which
    /// keys come, which of them are kept. Two runs with one seed and the same input keep the same keys
    ///
    /// - of a [`Tally`](crate::Tally) that is pushed the same pieces;
    /// - of an [`Engine`](crate::Engine) with one input and the same number of
    ///   [`workers`](Self::workers), that is written the same pieces and cut by the caller: blocks go to its shards
    ///   in turns then, and the thread that writes counts none of them unless a record is longer than a block;
    /// - of files that are counted by one worker, uncompressed.
    ///
    /// Otherwise which thread gets which block depends on time: what is said about a count stays true, and which
    /// keys are kept may differ.
    ///
    /// ```
    /// use microtally::{BatchTime, Config, Rule, Tally};
    /// let order = || {
    ///     let mut tally = Tally::with_config(Rule::Split(b' '), &Config::default().seed(7))?;
    ///     tally.push(b"to be or not to be\n");
    ///     let batch = tally.cut(BatchTime::from_millis(1))?;
    ///     Ok::<_, microtally::Error>(batch.iter().map(|(word, _)| word.to_vec()).collect::<Vec<_>>())
    /// };
    /// assert_eq!(order()?, order()?);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The size blocks really have. One that is larger than the record limit would let tokens above
    /// the limit through wherever the reads happen to leave room for them.
    /// The memory limit in bytes, and what happens there.
    pub(crate) fn memory_limit(&self) -> Option<(usize, OnLimit)> {
        Some((self.memory_bytes_max?, self.on_limit))
    }

    pub(crate) fn block_bytes_within_limit(&self) -> usize {
        self.block_bytes.min(self.record_bytes_max)
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting, the value and the range.
    pub fn validate(&self) -> Result<()> {
        if let Some(workers) = self.workers {
            within("workers", workers, 1, limits::SHARDS_MAX)?;
        }
        within(
            "block_bytes",
            self.block_bytes,
            limits::BLOCK_BYTES_MIN,
            limits::BLOCK_BYTES_MAX,
        )?;
        within(
            "record_bytes_max",
            self.record_bytes_max,
            limits::RECORD_BYTES_MIN,
            limits::RECORD_BYTES_MAX,
        )?;
        self.chosen_kernel()?;
        match self.low_latency {
            Some(LowLatency { spin }) if spin > Duration::from_millis(limits::SPIN_MS_MAX) => {
                let max_ms = limits::SPIN_MS_MAX;
                Err(Error::refused(format!(
                    "spin {spin:?} is above {max_ms} ms"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a batch interval and gives it in milliseconds.
pub(crate) fn interval_ms(interval: Duration) -> Result<u64> {
    let whole = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    if !interval.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(Error::refused(format!(
            "batch interval {interval:?} is not a whole number of milliseconds"
        )));
    }
    if !(limits::INTERVAL_MS_MIN..=limits::INTERVAL_MS_MAX).contains(&whole) {
        return Err(Error::refused(format!(
            "batch interval {interval:?} is outside {} ms to {} ms (366 days)",
            limits::INTERVAL_MS_MIN,
            limits::INTERVAL_MS_MAX
        )));
    }
    Ok(whole)
}

fn within(name: &str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{name} {value} is outside {min} to {max}"
    )))
}

/// Whose rule holds where Spark's Scala API and PySpark differ.
///
/// | | `Scala` | `PySpark` |
/// |---|---|---|
/// | `count` of a batch in which nothing came | `0` | nothing |
/// | window with inverse function shorter than 5 slides | incremental: keys whose values left stay, as `0` | computed anew: they go |
/// | `update_state_by_key` in a batch in which the parent gave nothing | the function is called for every key | the states come out unchanged |
/// | `transform_with`, joins of streams with different slides | refused | a side without a batch counts as empty |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The Scala and Java API's rules.
    #[default]
    Scala,
    /// The Python API's rules.
    PySpark,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_at_their_edges() {
        assert!(Config::default().validate().is_ok());
        for (workers, good) in [(0, false), (1, true), (256, true), (257, false)] {
            assert_eq!(
                Config::default().workers(workers).validate().is_ok(),
                good,
                "{workers}"
            );
        }
        for (bytes, good) in [
            (63, false),
            (64, true),
            (64 << 20, true),
            ((64 << 20) + 1, false),
        ] {
            assert_eq!(
                Config::default().block_bytes(bytes).validate().is_ok(),
                good,
                "{bytes}"
            );
        }
        let error = Config::default()
            .record_bytes_max(1)
            .validate()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "record_bytes_max 1 is outside 64 to 1073741824"
        );
        for (spin, good) in [(0, true), (1_000_000, true), (1_000_001, false)] {
            let config = Config::default().low_latency(Duration::from_micros(spin));
            assert_eq!(config.validate().is_ok(), good, "{spin}");
        }
    }

    #[test]
    fn a_kernel_is_one_that_the_cpu_can_run() {
        for name in Config::kernels() {
            let config = Config::default().kernel(name);
            config.validate().unwrap();
            assert_eq!(config.chosen_kernel().unwrap().name(), name);
        }
        let fastest = Config::default().chosen_kernel().unwrap();
        assert_eq!(Config::kernels().last(), Some(fastest.name()));
        let error = Config::default().kernel("abacus").validate().unwrap_err();
        let start = "kernel \"abacus\" is not one of those this CPU can run: scalar, portable";
        assert!(error.to_string().starts_with(start), "{error}");
    }

    #[test]
    fn intervals_are_whole_milliseconds() {
        assert_eq!(interval_ms(Duration::from_millis(1)).unwrap(), 1);
        assert_eq!(interval_ms(Duration::from_secs(5)).unwrap(), 5000);
        assert!(interval_ms(Duration::ZERO).is_err());
        assert!(interval_ms(Duration::from_micros(1500)).is_err());
        assert!(interval_ms(Duration::MAX).is_err());
    }
}
