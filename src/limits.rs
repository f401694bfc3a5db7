//! Every bound and default of the engine, with the unit in the name, and the proofs of how they fit
//! together.
//!
//! Promise: a number that bounds memory, time or length is here and nowhere else. Must not know:
//! everything. This module imports nothing of the crate.

/// One kibibyte.
pub(crate) const KIB: usize = 1024;
/// One mebibyte.
pub(crate) const MIB: usize = 1024 * KIB;

/// Bytes of one ring block. A read fills a block in one system call, and the block is still in the
/// second-level cache when a shard splits it: 256 KiB is a quarter of a 1 MiB L2.
pub const BLOCK_BYTES_DEFAULT: usize = 256 * KIB;

/// The smallest block a caller may ask for. Tests use it to make every boundary happen often.
pub(crate) const BLOCK_BYTES_MIN: usize = 64;

/// The largest block a caller may ask for.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 * MIB;

/// Readable, initialised bytes behind the last byte of every block. A key may be loaded with one
/// 16-byte load wherever in the block it ends.
pub(crate) const GUARD_BYTES: usize = 64;

/// The most blocks on their way to one shard. At 1 GB/s eight blocks of 256 KiB hide a stall of 2
/// ms.
pub const BLOCKS_PER_RING: usize = 8;

/// The most bytes of all blocks together: a setting that asks for more is a mistake, not a need.
pub(crate) const RING_BYTES_MAX: usize = 4096 * MIB;

/// Epochs that may be cut and not published yet. Beyond that the reactor stops reading, which the
/// sender feels: a run that is this far behind has lost nothing, it is late.
pub(crate) const EPOCHS_IN_FLIGHT_MAX: usize = 64;

/// A block is handed over once less than this share of it is free, so that reads stay large.
pub(crate) const READ_SHARE_MIN: usize = 4;

/// Complete bytes that are worth waking a shard for while the input pauses. Less waits for the
/// barrier: counting 32 KiB then costs some 40 us.
pub(crate) const EAGER_BYTES_MIN: usize = 32 * KIB;

/// Complete bytes of a small batch that the reading thread counts itself, when the batch is cut and
/// no shard is at work: counting them takes about as long as waking a parked shard, some 50 us.
pub(crate) const COUNT_HERE_BYTES_MAX: usize = 64 * KIB;

/// Complete bytes that are counted at once in low-latency mode while the input pauses. For less,
/// the cost of a call shows beside the counting.
pub(crate) const COUNT_NOW_BYTES_MIN: usize = 4 * KIB;

/// The longest time a thread may spin for work in low-latency mode, in milliseconds.
pub(crate) const SPIN_MS_MAX: u64 = 1000;

/// Blocks one source may fill before the next source and the clock get their turn.
pub(crate) const FILLS_PER_TURN: usize = 4;

/// Bytes of a file that one of several workers takes at once. Finding where its records begin and
/// end costs some microseconds, counting them some milliseconds, and a stop waits for no more than
/// that.
pub(crate) const PIECE_BYTES: usize = 4 * MIB;

/// The most names that the braces of a pattern may stand for.
pub const PATTERN_NAMES_MAX: usize = 1024;

/// The most bytes that are read to expand the braces of a pattern; the resulting names together
/// have fewer.
pub(crate) const PATTERN_BYTES_MAX: usize = 256 * KIB;

/// The most directories that are listed to find what matches a pattern. Links that lead back make
/// an endless tree.
pub const PATTERN_DIRECTORIES_MAX: usize = 1 << 16;

/// The most paths that may match a pattern, or the front of it up to some name.
pub const PATTERN_PATHS_MAX: usize = 1 << 20;

/// Time between two looks at a followed file, in milliseconds.
pub(crate) const FOLLOW_POLL_MS_DEFAULT: u64 = 100;

/// How often followed files are looked at early, because the kernel reported that they were written
/// to, between two looks at all of them. After that there is a pause of a millisecond between such
/// looks: whoever writes ten thousand times a second should not occupy a processor.
pub(crate) const FOLLOW_EARLY_LOOKS_MAX: u32 = 1000;

/// Time between two looks for new files that match a pattern, in milliseconds, if the kernel
/// reports none.
pub(crate) const FOLLOW_PATTERN_MS: u64 = 1000;

/// How long a file found by a pattern must have been quiet to be closed when its name is gone but
/// it has another one, in milliseconds. A deleted file is closed after [`FOLLOW_QUIET_MS`].
pub(crate) const FOLLOW_GONE_MS: u64 = 60_000;

/// Truncations of followed files that are reported one by one within [`NOTICE_PAUSE_MS`].
pub(crate) const FOLLOW_TRUNCATIONS_REPORTED: u32 = 10;

/// How long a followed file must have been quiet to be closed when its name has become another
/// file's, in milliseconds. Whoever writes has to learn of the new file, and may write more before.
pub(crate) const FOLLOW_QUIET_MS: u64 = 5000;

/// Files of one name that are still read although the name is another file's. The oldest is closed
/// when there are more.
pub(crate) const FOLLOW_RETIRED_MAX: usize = 8;

/// The longest record that is kept whole before it is cut into tokens as it streams. Semantics: see
/// [`Config::record_bytes_max`](crate::Config).
pub(crate) const RECORD_BYTES_DEFAULT: usize = 16 * MIB;
/// The smallest record limit a caller may ask for.
pub(crate) const RECORD_BYTES_MIN: usize = 64;
/// The largest record limit a caller may ask for.
pub(crate) const RECORD_BYTES_MAX: usize = 1024 * MIB;

/// The most shard threads.
pub(crate) const SHARDS_MAX: usize = 256;

/// The shortest batch interval, in milliseconds.
pub(crate) const INTERVAL_MS_MIN: u64 = 1;

/// The longest batch interval, in milliseconds: 366 days.
pub(crate) const INTERVAL_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// Failed batches in a row that a state may miss before it is lost. Until then their records are
/// kept, to be folded in later.
pub(crate) const FAILED_BATCHES_MAX: usize = 128;

/// Pause between two attempts to connect, in milliseconds; Spark's
/// `spark.streaming.receiverRestartDelay`.
pub(crate) const RECONNECT_MS_DEFAULT: u64 = 2000;

/// How long a file source remembers which files it has read, at least, in milliseconds; Spark's
/// `spark.streaming.fileStream.minRememberDuration`.
pub(crate) const REMEMBER_MS_DEFAULT: u64 = 60_000;

/// The most files that were put into a directory and counted, and are remembered well enough to
/// report that they changed or are counted a second time. The oldest is forgotten when there are
/// more.
pub(crate) const DIRECTORY_FILES_KNOWN_MAX: usize = 10_000;

/// Counted files that are looked at again when a batch is due. The others are looked at in turn.
pub(crate) const DIRECTORY_CHECKS_MAX: usize = 256;

/// How long one attempt to connect may take, in milliseconds. Spark sets no limit; the kernel's own
/// is about two minutes, too long to leave a user without a word.
pub(crate) const CONNECT_MS_MAX: u64 = 10_000;

/// Keys of at most 8 bytes that a new table holds before it grows: with 16-byte entries 64 KiB,
/// which fits the second-level cache.
pub(crate) const TABLE_SHORT_KEYS_INITIAL: usize = 3584;
/// Keys of 9 to 16 bytes that a new table holds before it grows.
pub(crate) const TABLE_MEDIUM_KEYS_INITIAL: usize = 1792;
/// Longer keys that a new table holds before it grows.
pub(crate) const TABLE_LONG_KEYS_INITIAL: usize = 448;
/// Bytes of long keys that a new table holds before its arena grows.
pub(crate) const KEY_ARENA_BYTES_INITIAL: usize = 64 * KIB;

/// Places of a segment, one of the small hash tables that make a large one. It holds 7/8 as many
/// keys and is then split. With the shortest keys a segment is 136 KiB, and splitting it takes
/// about 0.1 ms.
pub(crate) const SEGMENT_BUCKETS: usize = 1 << 13;
/// The most bits of a segment directory: 2^20 segments hold some five billion keys. Segments of
/// that depth grow.
pub(crate) const SEGMENT_DEPTH_MAX: u32 = 20;
/// The most new seeds that a table takes when keys collide.
pub(crate) const RESEEDS_MAX: u64 = 64;

/// log2 of the hot words of a shard and pipeline: 256 KiB of keys, 128 KiB of counts, 128 KiB of
/// floors.
pub(crate) const HOT_SLOTS_LOG2: u32 = 15;

/// log2 of the groups in which keys wait for a look-up in a large table. With ten million keys,
/// which is two thousand segments, a group's segments are 540 KB.
pub(crate) const GROUPS_LOG2: u32 = 9;
/// Waiting keys of a group: 16 KiB of the shortest ones, 8 MiB in all groups, and twice that for
/// keys of 9 to 16 bytes. With more, the walk through a group's segments pays better, but they all
/// come out at once and delay a batch: the log in `PERF.md` has the numbers.
pub(crate) const GROUP_KEYS: usize = 2048;

/// Bytes that a shard holds for each pipeline besides its tables: the hot words (512 KiB and
/// counters of at most 256 KiB), the lists of a chunk's tokens (some 480 KiB), the ends of its
/// tokens.
pub(crate) const COUNTER_BYTES: usize = 3 * MIB / 2;

/// Bytes of a key's row in a ranking.
pub(crate) const RANKED_KEY_BYTES: usize = 32;

/// The least share of memory for one batch of a window, in bytes: room for its few most frequent
/// keys.
pub(crate) const PANE_BYTES_MIN: usize = KIB;

/// Bytes of the queues between threads and of the output of a batch, within reason.
pub(crate) const QUEUES_BYTES: usize = 4 * MIB;

/// Bytes of a decoder of compressed input besides its window: 64 KiB of input, and for zstd a state
/// of some 160 KiB and three blocks of 128 KiB.
pub(crate) const DECODER_BYTES: usize = 768 * KIB;

/// Bytes that a decoder of lz4 takes besides that: a block of 4 MiB and its content. One of bzip2
/// takes 3.7 MB.
pub(crate) const DECODER_BLOCKS_BYTES: usize = 8 * MIB;

/// log2 of the largest window of a zstd decoder and of the largest dictionary of an xz decoder: 128
/// MiB. That is the reference decoder's own limit for zstd, and twice what `xz -9` asks for.
pub(crate) const WINDOW_LOG_MAX: u32 = 27;
/// log2 of the window that every such decoder may have, whatever the memory limit: 8 MiB, which RFC
/// 8878 recommends every zstd decoder to support, and which is the default of `xz`.
pub(crate) const WINDOW_LOG_MIN: u32 = 23;
/// The largest share of the memory limit that the windows of all decoders may take, unless they are
/// the smallest.
pub(crate) const WINDOWS_SHARE: usize = 8;

/// Turns of a shard's waiting loop before it parks: some 10 us, about what waking a parked thread
/// costs.
pub const SPINS_BEFORE_PARK: u32 = 256;

/// Time between two looks at a source that waits for an edge, in milliseconds: a lost edge costs no
/// more than that. A look is a system call or two for each source.
pub(crate) const LOOK_AGAIN_MS: u64 = 1000;

/// The most clients of a listening source that one such look covers, in turn.
pub(crate) const LOOK_CLIENTS_MAX: usize = 1024;

/// The most bytes that are read after a graceful stop was requested, per source: what a kernel's
/// receive buffer may hold. A sender that never pauses cannot keep a run alive with it.
pub const DRAIN_BYTES_MAX: usize = 64 * MIB;

/// Address space of a thread's stack, in bytes: the standard library's default.
pub(crate) const STACK_BYTES: usize = 2 * MIB;
/// Bytes that starting a thread takes besides its stack, within reason: without them the process
/// aborts.
pub(crate) const THREAD_BYTES: usize = 128 * KIB;

/// How long a graceful stop waits for sources that are still reading, in milliseconds. Time in
/// which a batch is published does not count.
pub(crate) const STOP_DRAIN_MS_MAX: u64 = 30_000;

/// How long a stop waits for the engine's threads after it told them to end, in milliseconds. One
/// that is in a user-supplied function for longer is left behind.
pub(crate) const STOP_THREADS_MS_MAX: u64 = 10_000;

/// The most bytes that are read from one of many clients before the next one gets its turn.
pub(crate) const CLIENT_READ_BYTES_MAX: usize = 256 * KIB;

/// Memory for the unfinished lines of all clients of a listening source together. A line without
/// room is dropped and reported.
pub(crate) const HELD_BYTES_DEFAULT: usize = 32 * MIB;

/// The most clients of a listening source at a time, unless the limit of descriptors is lower.
pub(crate) const CONNECTIONS_DEFAULT: usize = 1024;
/// The share of them that one address of another machine may have unless a limit is set: it takes
/// several to keep the others out.
pub(crate) const CONNECTIONS_PEER_SHARE: usize = 4;
/// The least number of clients that one address may have unless a limit is set.
pub(crate) const CONNECTIONS_PEER_MIN: usize = 16;
/// Descriptors of the process that a listening source leaves to others: files, pipes, event queues.
/// If there are few, a quarter of them, or those that are open and [`DESCRIPTORS_FREE`] more.
pub(crate) const DESCRIPTORS_SPARED: usize = 64;
/// The least number of descriptors that stay free for later, if there are that many.
pub(crate) const DESCRIPTORS_FREE: usize = 8;

/// How long a client of another machine may be silent unless a limit is set, in milliseconds.
/// Streams are idle for long, and a sender that is closed may lose a line before it notices; a
/// sender that died silently is noticed earlier, by keepalive.
pub(crate) const IDLE_MS_DEFAULT: u64 = 3_600_000;

/// Bytes at the beginning of a connection from which its content is guessed if it is no text.
pub(crate) const FIRST_BYTES: usize = 16;

/// How often silent clients are looked for in the time after which one is closed: silence is
/// noticed late by at most one such part, and looking costs nothing in between.
pub(crate) const IDLE_LOOKS: u32 = 16;

/// Connections that may wait to be accepted. The kernel may allow fewer (`net.core.somaxconn`).
pub(crate) const BACKLOG: i32 = 1024;

/// Pause before clients are accepted again after the system ran out of descriptors, in
/// milliseconds.
pub(crate) const ACCEPT_AGAIN_MS: u64 = 100;

/// How long a graceful stop waits for clients to end after it told them to, in milliseconds.
pub(crate) const DRAIN_WAIT_MS_DEFAULT: u64 = 1000;

/// The shortest time between two notices of the same kind from a source whose clients cause them,
/// in milliseconds. What happens in between is reported as a sum.
pub(crate) const NOTICE_PAUSE_MS: u64 = 5000;

/// The shortest wait before a sink is called again with the same batch, in milliseconds.
pub(crate) const RETRY_MS_MIN: u64 = 1;

/// The most batches that may wait for a sink on a thread of its own.
pub(crate) const SINK_QUEUE_MAX: usize = 1024;

/// The longest datagram, with some to spare: 16 bits have no more.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 64 * KIB;

/// The requested receive buffer of a datagram socket: some ten milliseconds at 1 GB/s.
pub(crate) const UDP_BUFFER_BYTES_DEFAULT: usize = 8 * MIB;

/// Receive calls that may fail in a row before there is a pause of [`RECEIVE_AGAIN_MS`].
pub(crate) const RECEIVE_FAILURES_MAX: u32 = 64;
/// That pause, in milliseconds: a receive buffer of some size holds what comes meanwhile.
pub(crate) const RECEIVE_AGAIN_MS: u64 = 100;

/// The most datagrams that are counted of those that a graceful stop left unread. A receive buffer
/// of 8 MiB holds some ten thousand.
pub(crate) const UNREAD_DATAGRAMS_MAX: usize = 1 << 16;

/// The shortest time between two looks at how many datagrams the kernel dropped, in milliseconds.
pub(crate) const DROPS_LOOK_MS: u64 = 1000;

const _: () = {
    assert!(GUARD_BYTES >= 16); // The longest packed key is loaded whole.
    assert!(BLOCK_BYTES_MIN <= BLOCK_BYTES_DEFAULT && BLOCK_BYTES_DEFAULT <= BLOCK_BYTES_MAX);
    assert!(BLOCK_BYTES_MIN / READ_SHARE_MIN > 0); // Even the smallest block is read into.
    assert!(RECORD_BYTES_MIN <= RECORD_BYTES_DEFAULT && RECORD_BYTES_DEFAULT <= RECORD_BYTES_MAX);
    assert!(EAGER_BYTES_MIN <= BLOCK_BYTES_DEFAULT / 2);
    assert!(BLOCKS_PER_RING >= 2 && EPOCHS_IN_FLIGHT_MAX >= 2);
    assert!(COUNTER_BYTES > 16 * (1 << HOT_SLOTS_LOG2) + 640 * KIB);
};
