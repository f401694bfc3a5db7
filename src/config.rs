//! The settings of an engine, checked once.
//!
//! Promise: a [`Config`] that passed [`Config::validate`] describes an engine that can be built.
//! Must not know: `engine`, `source`, `sink`, `stream`.

use std::time::Duration;

use crate::error::{Error, Result, Setting};
use crate::limits;
use crate::split::Kernel;
pub use crate::split::LineEnds;

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
    /// The name of a kernel, unchecked.
    pub(crate) kernel: Option<String>,
    pub(crate) low_latency: Option<LowLatency>,
    pub(crate) memory_bytes_max: Option<usize>,
    pub(crate) on_limit: OnLimit,
    pub(crate) line_ends: LineEnds,
    pub(crate) seed: Option<u64>,
}

/// What happens when the memory for keys is used up: see [`Config::memory_bytes_max`].
///
/// In every case totals (records, tokens, bytes) stay exact, the batch reports the effect
/// ([`BatchStats::error_max`](crate::batch::BatchStats),
/// [`other_records`](crate::batch::BatchStats)), and there is a [`Notice`](crate::notice::Notice)
/// the first time. For every key of a batch
///
/// ```text
/// count - error_max <= true count <= count + missing_max
/// ```
///
/// where [`Batch::missing_max`](crate::Batch::missing_max) holds for one key, and
/// [`BatchStats::missing_max`](crate::batch::BatchStats) for all keys. A missing key occurred at
/// most `error_max + other_records` times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnLimit {
    /// Makes room by subtracting the same number from every count and dropping the keys that reach
    /// 0, as often as needed. The total that was subtracted, `error_max`, is added to every
    /// published count: a count is never too low, and too high by at most `error_max`. A missing
    /// key occurred at most `error_max` times, so frequent keys are present whatever came before
    /// them. This is the Space-Saving guarantee, in the mergeable form of Misra and Gries (Agarwal
    /// et al., *Mergeable Summaries*, 2012).
    ///
    /// A window also thins its batches. A long key (hundreds of bytes or more) that would take a
    /// large part of the share of a batch in the window is not kept for the window, whatever its
    /// count. Those records are in `other_records`, and the count of such a key may be too low by
    /// that number.
    ///
    /// This needs values that are counts and are added up: plain tokens, `count_by_value`. Sums,
    /// extremes, means and other reductions by a custom function have no such bound and are treated
    /// as with [`Other`](Self::Other).
    #[default]
    Approximate,
    /// Keeps the existing keys and counts them exactly. No new keys are added until the batch ends;
    /// their records are counted in `other_records`. The number of those keys is unknown.
    ///
    /// Each counting thread has its own tables. A key that one table has and another refused has
    /// some of its records in `other_records`. [`Batch::missing_max`](crate::Batch::missing_max)
    /// returns for each key how many at most. If it is 0, the value of the key (count, sum, extreme
    /// or mean) covers all its records; if it is `m`, the value covers all but at most `m` records.
    /// It is 0 for all keys if one thread counts, and for most keys while few were refused.
    ///
    /// The tables of all threads share the memory, so keys are refused only when it is used up.
    /// Running sums ([`reduce_by_key_so_far`](crate::stream::Reduced::reduce_by_key_so_far)) take
    /// their memory from the same share and keep it. Once it is used up, the tables of a batch have
    /// an eighth of their part each, and refuse keys earlier.
    Other,
    /// Treats the batch in which it happens as with [`Other`](Self::Other) and publishes it; then
    /// the run ends with [`ErrorKind::Limit`](crate::error::ErrorKind::Limit). A
    /// [`Tally`](crate::Tally) returns the error instead of the batch.
    Fail,
}

/// Small batches with little latency, instead of large ones at least cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowLatency {
    /// How long the reading thread polls for input without sleeping.
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
    /// Sets the number of shard threads, 1 to 256. By default it is one less than the cores that
    /// this process may use (by affinity mask and CPU quota), but at least one. The remaining core
    /// is for the reading thread, which also counts whenever every ring is full.
    pub fn workers(mut self, shard_count: usize) -> Self {
        self.workers = Some(shard_count);
        self
    }

    /// Sets whether shard threads are pinned to a core each. On by default. Pinning is an
    /// optimization: if it fails there is one notice, and the results are the same.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Sets the size of a block, 64 bytes to 64 MiB, 256 KiB by default. A source fills a block
    /// with one read, and a shard counts it in one go. Small blocks are for tests.
    pub fn block_bytes(mut self, block_bytes: usize) -> Self {
        self.block_bytes = block_bytes;
        self
    }

    /// Sets the longest record that is kept whole, 64 bytes to 1 GiB, 16 MiB by default.
    ///
    /// If the pipeline only splits and counts, a longer record is split into tokens as it streams
    /// in: nothing is lost, its tokens may fall into more than one batch, and a *token* above the
    /// limit is counted in `oversize_tokens`. If the pipeline needs whole records, the record is
    /// dropped and counted there. A limit below the block size makes blocks that small.
    pub fn record_bytes_max(mut self, record_bytes_max: usize) -> Self {
        self.record_bytes_max = record_bytes_max;
        self
    }

    /// Sets where records end, in every stream of the engine or context. The default is
    /// [`LineEnds::Universal`]: as in Spark, `\n`, `\r` and `\r\n` each end a record.
    pub fn line_ends(mut self, line_ends: LineEnds) -> Self {
        self.line_ends = line_ends;
        self
    }

    /// Sets the kernel that splits, one of [`kernels`](Self::kernels); the fastest by default.
    ///
    /// All kernels give the same results: the choice is for comparisons, and for tests of kernels
    /// that are not the fastest on this CPU.
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

    /// Returns the names of the kernels that this CPU can run. The last one is the fastest, and the
    /// default.
    pub fn kernels() -> impl Iterator<Item = &'static str> {
        Kernel::available().map(Kernel::name)
    }

    /// Returns the chosen kernel, or the fastest.
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
            let names = names.join(", ");
            let problem =
                format!("is unknown or not supported by this CPU, which can run: {names}");
            Setting::new("kernel", format!("{name:?}"), problem).into()
        })
    }

    /// Sets the mode for small batches whose results are needed within microseconds. Off by
    /// default.
    ///
    /// The reading thread (for an [`Engine`](crate::Engine), the thread that cuts or flushes)
    /// counts available input itself instead of waking a shard. The thread that completes a batch
    /// publishes it itself instead of waking the publisher. So no thread waits for another. The
    /// price: outputs run on those threads, so a slow output delays reading, and one core does the
    /// work of small batches. An output must not wait for a lock that is held around
    /// [`Engine::cut`](crate::Engine::cut), and must not write to the engine that calls it. Full
    /// blocks still go to the shards.
    ///
    /// `spin`, up to 1 s, is how long a [`StreamingContext`](crate::StreamingContext) polls for
    /// more input after it has read some. A core is busy meanwhile; after that time without input
    /// it sleeps. A batch with content is cut on time within microseconds, by polling the clock for
    /// up to 1.2 ms. Without this mode the event queue rounds up to whole milliseconds.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::time::Duration;
    /// use microtally::{Config, Engine, Rule};
    /// use microtally::time::BatchTime;
    ///
    /// let engine = Engine::builder(Rule::Split(b' '))
    ///     .config(Config::default().low_latency(Duration::ZERO))
    ///     .start(|batch| println!("{} keys", batch.len()))?;
    /// let mut input = engine.writer()?;
    /// input.write_all(b"the cat\nthe dog\n")?;
    /// engine.cut(BatchTime::from_millis(1))?; // Prints, on this thread.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn low_latency(mut self, spin: Duration) -> Self {
        self.low_latency = Some(LowLatency { spin });
        self
    }

    /// Sets the memory in bytes for everything whose size depends on the input: blocks, the keys of
    /// the batch that is counted and of the batch that is published, ranking all keys, windows,
    /// records longer than a block, and decoders of compressed input. No limit by default.
    ///
    /// The memory is divided when the engine starts. Too little for the fixed parts is refused
    /// then, with the number that is enough. Windows have half of the memory. Every batch of a
    /// window has its share in one half of that; the other half goes to the batches that need it
    /// first, so that a stream may be uneven. What happens when the memory for keys, or the share
    /// of a batch in a window, is used up is set by [`on_limit`](Self::on_limit).
    ///
    /// The limit does not include code, stacks and the allocator's overhead (at most about 64 MiB),
    /// nor what user-supplied functions keep. It also excludes streams whose records are copied out
    /// of the shards (`RddStream`, state by key): they hold the records, or their bytes where a
    /// function has failed.
    pub fn memory_bytes_max(mut self, memory_bytes_max: usize) -> Self {
        self.memory_bytes_max = Some(memory_bytes_max);
        self
    }

    /// Sets what happens when there is no more memory for keys; [`OnLimit::Approximate`] by
    /// default. It has no effect without [`memory_bytes_max`](Self::memory_bytes_max).
    ///
    /// ```
    /// use microtally::{Config, Rule, Tally};
    /// use microtally::config::OnLimit;
    /// use microtally::time::BatchTime;
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

    /// Sets the seed for hashing keys, so that equal runs give equal results. By default every run
    /// takes a seed from the operating system, so that nobody can send keys that collide. Choose a
    /// seed for tests and fuzzing, not for untrusted input.
    ///
    /// Below the memory limit results do not depend on the seed, except the order in which
    /// [`Batch::iter`](crate::Batch::iter) visits keys. Beyond the limit the seed decides, together
    /// with the order in which keys arrive, which keys are kept. Two runs with the same seed and
    /// input keep the same keys for
    ///
    /// - a [`Tally`](crate::Tally) that is pushed the same pieces;
    /// - an [`Engine`](crate::Engine) with one input and the same number of
    ///   [`workers`](Self::workers) that is written the same pieces and cut by the caller: then
    ///   blocks go to its shards in turn, and the writing thread counts none of them unless a
    ///   record is longer than a block;
    /// - uncompressed files that are counted by one worker.
    ///
    /// Otherwise timing decides which thread gets which block: all bounds on counts hold, but
    /// different keys may be kept.
    ///
    /// ```
    /// use microtally::{Config, Rule, Tally};
    /// use microtally::time::BatchTime;
    /// let order = || {
    ///     let mut tally = Tally::with_config(Rule::Split(b' '), &Config::default().seed(7))?;
    ///     tally.push(b"to be or not to be\n");
    ///     let batch = tally.cut(BatchTime::from_millis(1))?;
    ///     let words = batch.iter().map(|(word, _)| word.to_vec());
    ///     Ok::<Vec<_>, microtally::Error>(words.collect())
    /// };
    /// assert_eq!(order()?, order()?);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The memory limit in bytes, and what happens there.
    pub(crate) fn memory_limit(&self) -> Option<(usize, OnLimit)> {
        Some((self.memory_bytes_max?, self.on_limit))
    }

    /// Returns the actual size of blocks. Blocks larger than the record limit would accept tokens
    /// above the limit, depending on how reads happen to fill them.
    pub(crate) fn block_bytes_within_limit(&self) -> usize {
        self.block_bytes.min(self.record_bytes_max)
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) with the setting, its value and the
    /// range; see [`Error::setting`].
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

/// Checks a batch interval and returns it in milliseconds.
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

fn within(name: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let problem = format!("is outside {min} to {max}");
    Err(Setting::new(name, value, problem).into())
}

/// Which rules apply where Spark's Scala API and PySpark differ.
///
/// | | `Scala` | `PySpark` |
/// |---|---|---|
/// | `count` of an empty batch | `0` | nothing |
/// | inverse window below 5 slides | incremental: empty keys stay, as `0` | recomputed: they go |
/// | `update_state_by_key` without input | calls the function for every key | keeps the states |
/// | `transform_with`, joins: different slides | refused | a side without a batch is empty |
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
        let start = "kernel \"abacus\" is unknown or not supported by this CPU, which can run: scalar, portable";
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
