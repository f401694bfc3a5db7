//! Divides the memory among tables, blocks, decoders and windows.
//!
//! Promise: the terms of [`MemoryPlan::fixed`], and all tables of the size
//! [`MemoryPlan::table_cap`], are together at most what was asked for. Must not know: shards,
//! sources, what a table does at its cap.
//!
//! Windows, if there are any, have one half, and keep to it themselves (`window`). In the other
//! half the fixed parts come first, then the tables, all of one size. A batch may be far larger
//! than the one before, in any shard. Tables that make room when they are full keep to their parts.
//! The others cannot. So most of their memory is shared (see `pool`), and keys are lost only when
//! it is used up; a part of it each table has for itself.

use std::sync::Arc;

use crate::config::{Config, OnLimit};
use crate::error::{Error, Result, Setting};
use crate::limits::{
    COUNTER_BYTES, DECODER_BLOCKS_BYTES, DECODER_BYTES, GROUP_KEYS, GROUPS_LOG2, GUARD_BYTES, MIB,
    QUEUES_BYTES, SHARDS_MAX, WINDOW_LOG_MAX, WINDOW_LOG_MIN, WINDOWS_SHARE,
};
use crate::table::KeyTable;
use crate::table::bound::{MemoryCap, own_share};
use crate::table::pool::Pool;

/// The memory that a pipeline asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PipelineNeeds {
    /// Tables that a stage has for itself, besides the one that is handed over.
    pub(crate) own_tables: usize,
    /// The least bytes of one of its tables; 0 if it has none.
    pub(crate) table_bytes_min: usize,
    /// Whether its values are counts that are added up.
    pub(crate) is_counting: bool,
    /// What a table of results and the rows of their ranking take, in tables of states.
    pub(crate) result_tables: usize,
}

impl PipelineNeeds {
    /// The needs of a pipeline that counts tokens as they are.
    pub(crate) fn counting() -> Self {
        PipelineNeeds {
            own_tables: 0,
            table_bytes_min: KeyTable::<u64>::bytes_min(),
            is_counting: true,
            result_tables: 0,
        }
    }
}

/// How many decoders of compressed input run at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderCounts {
    /// All of them.
    pub count: usize,
    /// How many of them may need a window: those of zstd and xz, and those with an unknown format.
    pub windows: usize,
    /// How many of them hold whole blocks: those of bzip2 and lz4.
    pub blocks: usize,
}

// A decoder whose format is not known yet may become one that holds blocks.
const _: () = assert!(DECODER_BLOCKS_BYTES <= 1 << WINDOW_LOG_MIN);

impl DecoderCounts {
    /// One decoder that needs neither a window nor blocks.
    pub(crate) fn of_one() -> Self {
        DecoderCounts {
            count: 1,
            ..DecoderCounts::default()
        }
    }

    /// These decoders, but no more than `count` at a time.
    pub(crate) fn at_most(self, count: usize) -> Self {
        // The ones that take most come first: a window is no smaller than blocks.
        let windows = self.windows.min(count);
        DecoderCounts {
            count: self.count.min(count),
            windows,
            blocks: self.blocks.min(count - windows),
        }
    }

    /// log2 of the largest window that each of them may have.
    ///
    /// A window takes memory only once a frame asks for it, but it reduces what the tables get.
    pub(crate) fn window_log_max(self, memory_bytes_max: Option<usize>) -> u32 {
        let Some(bytes_max) = memory_bytes_max else {
            return WINDOW_LOG_MAX;
        };
        // A file may have become a compressed one since it was named.
        let each = (bytes_max / WINDOWS_SHARE).checked_div(self.windows);
        let log = each.and_then(usize::checked_ilog2).unwrap_or(0);
        log.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
    }

    /// The memory of all decoders within a limit.
    fn bytes(self, memory_bytes_max: usize) -> usize {
        let window = 1usize << self.window_log_max(Some(memory_bytes_max));
        let windows = self.windows.saturating_mul(window);
        let blocks = self.blocks.saturating_mul(DECODER_BLOCKS_BYTES);
        let states = self.count.saturating_mul(DECODER_BYTES);
        windows.saturating_add(blocks).saturating_add(states)
    }
}

impl std::iter::Sum for DecoderCounts {
    fn sum<I: Iterator<Item = DecoderCounts>>(all: I) -> DecoderCounts {
        all.fold(DecoderCounts::default(), |sum, one| DecoderCounts {
            count: sum.count + one.count,
            windows: sum.windows + one.windows,
            blocks: sum.blocks + one.blocks,
        })
    }
}

/// Everything that shares the memory.
#[derive(Clone, Debug)]
pub(crate) struct MemoryPlan<'a> {
    pub(crate) config: &'a Config,
    /// Threads that count, the reading one included.
    pub(crate) shards: usize,
    /// Sets of tables a shard has: one is filled while the other is published.
    pub(crate) sets: usize,
    pub(crate) blocks: usize,
    pub(crate) framers: usize,
    pub(crate) decoders: DecoderCounts,
    /// One entry for each pipeline.
    pub(crate) pipelines: &'a [PipelineNeeds],
    pub(crate) retained: RetainedTables,
}

/// What is kept from batch to batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetainedTables {
    /// Tables of the size of a batch.
    pub(crate) tables: usize,
    pub(crate) windows: usize,
}

impl RetainedTables {
    /// The part of `bytes_max` that all windows may take.
    fn windows_bytes(self, bytes_max: usize) -> usize {
        if self.windows == 0 { 0 } else { bytes_max / 2 }
    }

    /// The part of `bytes_max` that one of the windows may take.
    pub(crate) fn window_bytes(self, bytes_max: usize) -> usize {
        self.windows_bytes(bytes_max) / self.windows.max(1)
    }
}

impl MemoryPlan<'_> {
    /// The memory cap of every table.
    ///
    /// # Errors
    ///
    /// The cap would be less than what the smallest tables take.
    pub(crate) fn table_cap(&self) -> Result<MemoryCap> {
        let on_limit = self.config.on_limit;
        let Some(bytes_max) = self.config.memory_bytes_max else {
            return Ok(MemoryCap {
                on_limit,
                ..MemoryCap::NONE
            });
        };
        let tables = self.tables().max(1);
        let windows = self.retained.windows_bytes(bytes_max);
        let cap = |may_partition| MemoryCap {
            bytes: (bytes_max - windows).saturating_sub(self.fixed(may_partition, bytes_max))
                / tables,
            on_limit,
            may_partition,
            pool: None,
        };
        // Keys may wait beside large tables; where memory is short, it is of more use in the
        // tables.
        let waiting = cap(true);
        let mut cap = if waiting.bytes >= GROUPS_BYTES {
            waiting
        } else {
            cap(false)
        };
        let least = self.pipelines.iter().map(|needs| needs.table_bytes_min);
        let least = least.max().unwrap_or(0);
        if cap.bytes < least {
            let halves = if self.retained.windows == 0 { 1 } else { 2 };
            let (mut bytes_min, mut fixed) = (bytes_max, 0);
            // More memory may mean larger windows of decoders, up to a point.
            loop {
                fixed = self.fixed(false, bytes_min).max(fixed);
                let enough = fixed.saturating_add(least.saturating_mul(tables));
                let enough = enough.saturating_mul(halves);
                if enough == bytes_min {
                    break;
                }
                bytes_min = enough;
            }
            let mib = |bytes: usize| bytes.div_ceil(MIB);
            let fixed_parts = match self.decoders.count {
                0 => "blocks and long records",
                _ => "blocks, long records and decoders of compressed input",
            };
            let windows = if halves == 1 { "" } else { " and windows" };
            let (min_mib, fixed_mib) = (mib(bytes_min), mib(fixed));
            let problem = format!(
                "is too small: {bytes_min} bytes ({min_mib} MiB) are needed, {fixed_mib} MiB of them for \
                 {fixed_parts}, and the rest for {tables} tables{windows}"
            );
            return Err(Error::from(Setting {
                enough: Some(bytes_min),
                // One counting thread is the minimum.
                lower_instead: match self.config.workers {
                    Some(1) => vec!["record_bytes_max"],
                    _ => vec!["workers", "record_bytes_max"],
                },
                ..Setting::new("memory_bytes_max", bytes_max, problem)
            }));
        }
        let shared = self.pool_bytes(cap.bytes);
        cap.pool = (shared > 0).then(|| Arc::new(Pool::new(shared)));
        Ok(cap)
    }

    /// Bytes that tables share, besides what each has for itself of its `bytes`.
    fn pool_bytes(&self, bytes: usize) -> usize {
        let sharing = self
            .pipelines
            .iter()
            .filter(|needs| !self.is_thinned(needs));
        let shared = sharing.map(|needs| {
            let own = own_share(bytes, needs.table_bytes_min);
            self.tables_of(needs) * bytes.saturating_sub(own)
        });
        shared.sum()
    }

    /// Returns `true` if full tables of the pipeline make room: then each keeps to its part.
    fn is_thinned(&self, needs: &PipelineNeeds) -> bool {
        needs.is_counting && self.config.on_limit == OnLimit::Approximate
    }

    /// Bytes of everything except the tables, within `bytes_max`.
    fn fixed(&self, may_partition: bool, bytes_max: usize) -> usize {
        let block = self.config.block_bytes_within_limit() + GUARD_BYTES;
        let record = self.config.record_bytes_max + 1 + GUARD_BYTES;
        let lanes = self.shards * self.pipelines.len();
        [
            // Every place in a ring, and one for each framer to fill.
            self.blocks.saturating_mul(block),
            // A record that outgrew its block: it is copied when it grows, and the beginning of the
            // next one waits.
            self.framers.saturating_mul(record).saturating_mul(3),
            self.decoders.bytes(bytes_max),
            // Hot words and lists of every pipeline in every shard.
            lanes * COUNTER_BYTES,
            // Keys that wait for others of the same part of the table.
            if may_partition {
                lanes * GROUPS_BYTES
            } else {
                0
            },
            // The empty table that replaces one that is lent to an output.
            self.pipelines
                .iter()
                .map(|needs| needs.table_bytes_min)
                .sum(),
            QUEUES_BYTES,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// The number of tables, including what takes as much as a table.
    fn tables(&self) -> usize {
        let pipelines = self.pipelines.iter();
        pipelines.map(|needs| self.tables_of(needs)).sum()
    }

    fn tables_of(&self, needs: &PipelineNeeds) -> usize {
        if needs.table_bytes_min == 0 {
            return 0;
        }
        // One is filled; the other is merged and published. The largest of these is the one merged
        // into.
        let filled = self.shards * (self.sets + needs.own_tables);
        // A row of a ranking is 32 bytes, a key in a table at least 19: ranking all takes 1.7
        // tables.
        let ranking = 2;
        if self.is_thinned(needs) {
            return filled + ranking + self.retained.tables;
        }
        // All keys of all tables come into one, none of them too many. It is twice as large as all
        // of them if its segments were just split.
        let parts = self.shards * (1 + needs.own_tables);
        let handed_over = if needs.own_tables > 0 {
            2 * parts * self.sets
        } else {
            0
        };
        let kept = ranking + self.retained.tables + needs.result_tables;
        filled + handed_over + (2 + kept).saturating_mul(parts)
    }
}

/// Bytes of all groups of waiting keys of 8 and of 16 bytes.
const GROUPS_BYTES: usize = (GROUP_KEYS << GROUPS_LOG2) * (8 + 16);

const _: () = assert!(SHARDS_MAX * GROUPS_BYTES < usize::MAX / 2);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan<'a>(
        config: &'a Config,
        pipelines: &'a [PipelineNeeds],
        tables: usize,
        windows: usize,
    ) -> MemoryPlan<'a> {
        MemoryPlan {
            config,
            shards: 3,
            sets: 2,
            blocks: 17,
            framers: 1,
            decoders: DecoderCounts::default(),
            pipelines,
            retained: RetainedTables { tables, windows },
        }
    }

    fn decoders(count: usize, windows: usize) -> DecoderCounts {
        DecoderCounts {
            count,
            windows,
            blocks: 0,
        }
    }

    #[test]
    fn the_parts_are_together_no_more_than_the_limit() {
        let mut keyed = PipelineNeeds::counting();
        (keyed.own_tables, keyed.is_counting) = (1, false);
        let aggregated = PipelineNeeds {
            own_tables: 0,
            result_tables: 3,
            ..keyed
        };
        for pipelines in [
            vec![PipelineNeeds::counting()],
            vec![PipelineNeeds::counting(), keyed],
            vec![aggregated],
            vec![],
        ] {
            for on_limit in [OnLimit::Approximate, OnLimit::Other, OnLimit::Fail] {
                for (mib, windows, decoders) in [
                    (256, 0, decoders(0, 0)),
                    (512, 1, decoders(2, 0)),
                    (512, 0, decoders(1, 1)),
                    (1024, 0, decoders(3, 2)),
                    (8192, 3, decoders(9, 9)),
                ] {
                    let config = Config::default().memory_bytes_max(mib << 20);
                    let config = config.on_limit(on_limit);
                    let mut plan = plan(&config, &pipelines, 3, windows);
                    plan.decoders = decoders;
                    let cap = plan.table_cap().unwrap();
                    let windows = windows * plan.retained.window_bytes(mib << 20);
                    let fixed = plan.fixed(cap.may_partition, mib << 20);
                    let pool = cap.pool.as_ref().map_or(0, |pool| pool.bytes());
                    let own = |needs: &PipelineNeeds| {
                        let own = own_share(cap.bytes, needs.table_bytes_min);
                        let own = if plan.is_thinned(needs) {
                            cap.bytes
                        } else {
                            own
                        };
                        own * plan.tables_of(needs)
                    };
                    let tables: usize = pipelines.iter().map(own).sum();
                    let unused = if pipelines.is_empty() { cap.bytes } else { 0 };
                    let all = fixed + pool + tables + windows + unused;
                    assert!(all <= mib << 20);
                    assert!(all + plan.tables().max(1) + 3 > mib << 20 || pipelines.is_empty());
                    let window = decoders.windows << decoders.window_log_max(Some(mib << 20));
                    assert!(fixed > window + decoders.count * DECODER_BYTES);
                }
            }
        }
    }

    #[test]
    fn windows_are_an_eighth_of_the_limit_within_8_and_128_mib() {
        for (mib, windows, window_mib) in [
            (64, 1, 8),
            (127, 1, 8),
            (128, 1, 16),
            (512, 1, 64),
            (1023, 1, 64),
            (1024, 1, 128),
            (1 << 20, 1, 128),
            (1024, 2, 64),
            (1024, 3, 32),
            (1024, 64, 8),
            // Files that became compressed after they were named.
            (1024, 0, 8),
        ] {
            let log = decoders(windows, windows).window_log_max(Some(mib << 20));
            assert_eq!(1 << log >> 20, window_mib, "{mib} {windows}");
        }
        assert_eq!(decoders(9, 9).window_log_max(None), WINDOW_LOG_MAX);
        assert_eq!(decoders(5, 4).at_most(4), decoders(4, 4));
        let with_blocks = |count, windows, blocks| DecoderCounts {
            blocks,
            ..decoders(count, windows)
        };
        assert_eq!(with_blocks(7, 1, 5).at_most(4), with_blocks(4, 1, 3));
        assert_eq!(with_blocks(7, 5, 2).at_most(4), with_blocks(4, 4, 0));
        assert_eq!(
            with_blocks(2, 0, 2).bytes(64 << 20),
            2 * (DECODER_BYTES + DECODER_BLOCKS_BYTES)
        );
        let sum: DecoderCounts = [decoders(1, 0), decoders(2, 2)].into_iter().sum();
        assert_eq!(sum, decoders(3, 2));
    }

    #[test]
    fn too_little_is_refused_with_what_would_do() {
        let pipelines = [PipelineNeeds::counting()];
        // With decoders, more memory also means larger windows.
        for (shards, windows, decoders) in [
            (3, 0, decoders(0, 0)),
            (3, 2, decoders(0, 0)),
            (3, 0, decoders(1, 1)),
            (3, 1, decoders(1, 1)),
            (200, 0, decoders(2, 1)),
        ] {
            let cap = |bytes: usize, retained: usize| {
                let config = Config::default().memory_bytes_max(bytes);
                let mut plan = plan(&config, &pipelines, retained, windows);
                (plan.shards, plan.decoders) = (shards, decoders);
                plan.table_cap()
            };
            let error = cap(1 << 20, 0).unwrap_err().to_string();
            let says = error.contains("decoders of compressed input, and the rest");
            assert_eq!(says, decoders.count > 0, "{error}");
            let start = "memory_bytes_max 1048576 is too small: ";
            let number = error.strip_prefix(start).unwrap().split(' ').next();
            let least: usize = number.unwrap().parse().unwrap();
            assert!(cap(least, 0).is_ok());
            // Half of an odd number is rounded.
            assert!(cap(least - 2, 0).is_err());
            // What is kept needs its share.
            assert!(cap(least, 300).is_err());
        }
    }

    /// The sum computed independently, from numbers written here: what the budget leaves out is
    /// missing there.
    #[test]
    fn the_limit_holds_all_there_is_in_the_worst_case() {
        const MIB: usize = 1 << 20;
        // Keys of 8 and of 16 bytes, 2048 in each of 512 groups.
        const WAITING: usize = 512 * 2048 * (8 + 16);
        let (blocks, framers, retained) = (17, 2, 1);
        let config = Config::default()
            .record_bytes_max(4 * MIB)
            .memory_bytes_max(1024 * MIB);
        let table_min = 700_000;
        let counting = PipelineNeeds {
            own_tables: 0,
            table_bytes_min: table_min,
            is_counting: true,
            result_tables: 0,
        };
        let tallying = PipelineNeeds {
            own_tables: 1,
            is_counting: false,
            ..counting
        };
        for (shards, needs, on_limit, thinned) in [
            (3, counting, OnLimit::Approximate, true),
            (3, counting, OnLimit::Other, false),
            (3, counting, OnLimit::Fail, false),
            (3, tallying, OnLimit::Approximate, false),
            (8, counting, OnLimit::Approximate, true),
            (8, counting, OnLimit::Other, false),
            (8, tallying, OnLimit::Other, false),
        ] {
            let config = config.clone().on_limit(on_limit);
            let pipelines = [needs];
            let mut plan = plan(&config, &pipelines, retained, 0);
            (plan.blocks, plan.framers) = (blocks, framers);
            plan.shards = shards;
            let cap = plan.table_cap().unwrap();
            // Keys wait beside tables that are as large as all groups of them.
            let waiting = if cap.bytes >= WAITING { WAITING } else { 0 };
            assert_eq!(cap.may_partition, waiting > 0);
            let fixed = blocks * (256 * 1024 + 64)
                // A record that grows: the old memory, the new one, and what comes behind it.
                + framers * 3 * (4 * MIB + 1 + 64)
                + shards * (3 * MIB / 2 + waiting)
                // What replaces a table that is lent to an output.
                + table_min
                + 4 * MIB;
            // Being filled and being published.
            let filled = 2 * shards;
            if thinned {
                assert!(cap.pool.is_none());
                // One replaces the table that is merged into. Rows of 32 bytes for keys that take
                // at least 19.
                assert!(cap.bytes * 32 / 19 <= 2 * cap.bytes);
                let all = fixed + (filled + 2 + retained) * cap.bytes;
                assert!(all <= 1024 * MIB, "{all}");
                assert!(all > 1024 * MIB - 20, "{all} is all that is used");
                continue;
            }
            let own = (cap.bytes / 8).max(table_min);
            let pool = cap.pool.as_ref().map_or(0, |pool| pool.bytes());
            let tallies = needs.own_tables * shards;
            // What a table has for itself is what all its keys need: in tables of values those that
            // were tallied, of each set; in the merged one those of one set. It is 2.19 times as
            // large just after a split.
            let tables = (filled + tallies) as f64;
            let flushed = (needs.own_tables * filled) as f64 * (2.0 * 2.19 - 1.0);
            let merged = (shards + tallies) as f64 * (2.19 + 1.65);
            let own_all = ((tables + flushed + merged) * own as f64) as usize + retained * own;
            assert!(
                fixed + own_all + pool <= 1024 * MIB,
                "{fixed} {own_all} {pool}"
            );
            assert!(pool > 450 * MIB, "{pool}: most of the memory is shared");
        }
    }
}
