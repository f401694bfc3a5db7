//! What there is to read, for whichever worker asks next.
//!
//! Promise: every byte of every file is in one chunk; a file is opened once, whoever reads it. Must
//! not know: threads, records.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::engine::scan::FilesOf;
use crate::engine::scan::steal::{ReaderGuard, StealQueue};
use crate::error::lock;
use crate::id::StreamId;
use crate::limits::WINDOW_LOG_MAX;
use crate::source::file::files::{NamedFile, Opened, Progress, Regular};

/// The files and pieces that no worker has taken.
pub(super) struct ScanQueue {
    pub(super) sets: Vec<InputSet>,
    /// log2 of the largest window of a decoder.
    pub(super) window_log_max: u32,
    cursor: Mutex<Cursor>,
}

/// What all files of a stream have in common.
pub(super) struct InputSet {
    pub(super) stream: StreamId,
    pub(super) name: String,
    pub(super) progress: Progress,
    piece_bytes: u64,
}

/// What no worker has begun.
struct Cursor {
    /// Each with the number of its set.
    entries: VecDeque<(usize, NamedFile)>,
    /// The file that is being taken in pieces, and where the next one begins.
    current: Option<(usize, Arc<SharedFile>, u64)>,
}

/// A regular file that several workers read.
pub(super) struct SharedFile {
    pub(super) entry: NamedFile,
    pub(super) file: File,
    pub(super) bytes: u64,
    /// Bytes of the byte order mark before the text.
    pub(super) mark_bytes: usize,
    /// It could not be read, which was reported.
    pub(super) has_failed: AtomicBool,
    /// It became shorter, which was reported.
    pub(super) is_shorter: AtomicBool,
}

/// Work for one worker.
pub(super) enum Chunk<'a> {
    /// A file that was not opened: opening it concerns nobody else.
    Entry(usize, NamedFile, ReaderGuard<'a>),
    /// A file that can only be read from beginning to end, or cannot be opened.
    Whole(usize, NamedFile, io::Result<Opened>, ReaderGuard<'a>),
    Piece(usize, Arc<SharedFile>, Range<u64>),
}

impl ScanQueue {
    /// Returns the queue and about how many chunks it holds: that many workers have something to
    /// do.
    pub(super) fn new(sets: Vec<FilesOf>) -> (Self, usize) {
        let (mut all, mut entries) = (Vec::new(), VecDeque::new());
        let mut piece_count = 0;
        for (number, FilesOf { stream, files }) in sets.into_iter().enumerate() {
            let progress = files.progress();
            let (of_set, name, piece_bytes) = files.into_parts();
            let piece_bytes = piece_bytes as u64;
            let pieces = of_set.iter().map(|entry| match entry.content_bytes() {
                Some(bytes) => 1 + bytes / piece_bytes,
                None => u64::from(u32::MAX),
            });
            piece_count += pieces.sum::<u64>();
            entries.extend(of_set.into_iter().map(|entry| (number, entry)));
            all.push(InputSet {
                stream,
                name,
                progress,
                piece_bytes,
            });
        }
        let cursor = Mutex::new(Cursor {
            entries,
            current: None,
        });
        let piece_count = usize::try_from(piece_count).unwrap_or(usize::MAX);
        let work = ScanQueue {
            sets: all,
            window_log_max: WINDOW_LOG_MAX,
            cursor,
        };
        (work, piece_count)
    }

    /// Returns the name of the set of a stream.
    pub(super) fn name_of(&self, stream: StreamId) -> &str {
        let mut sets = self.sets.iter();
        let set = sets.find(|set| set.stream == stream);
        set.map_or("", |set| &set.name)
    }

    /// Limits the windows of decoders to 2 to the power of `window_log_max`.
    pub(super) fn limit_windows(&mut self, window_log_max: u32) {
        self.window_log_max = window_log_max;
    }

    /// Returns the next chunk, if there is one. What only one worker can read is announced in
    /// `share` before another worker finds the queue empty.
    pub(super) fn take<'a>(&self, share: &'a StealQueue) -> Option<Chunk<'a>> {
        let mut cursor = lock(&self.cursor);
        if let Some((set, shared, at)) = &mut cursor.current {
            let (set, begin) = (*set, *at);
            let end = shared
                .bytes
                .min(begin.saturating_add(self.sets[set].piece_bytes));
            *at = end;
            let task = Chunk::Piece(set, Arc::clone(shared), begin..end);
            if end == shared.bytes {
                cursor.current = None;
            }
            return Some(task);
        }
        let (set, mut entry) = cursor.entries.pop_front()?;
        let InputSet {
            progress,
            piece_bytes,
            ..
        } = &self.sets[set];
        if entry.bytes <= *piece_bytes {
            return Some(Chunk::Entry(set, entry, share.begin()));
        }
        // Opened under the lock, so that the others find its pieces.
        match entry.open(self.window_log_max) {
            Ok(Opened::Regular(Regular {
                file,
                bytes: Some(bytes),
                mark_bytes,
            })) => {
                progress.begin(entry.bytes, bytes);
                let end = bytes.min(*piece_bytes);
                let shared = Arc::new(SharedFile {
                    entry,
                    file,
                    bytes,
                    mark_bytes,
                    has_failed: AtomicBool::new(false),
                    is_shorter: AtomicBool::new(false),
                });
                if end < bytes {
                    cursor.current = Some((set, Arc::clone(&shared), end));
                }
                Some(Chunk::Piece(set, shared, 0..end))
            }
            opened => Some(Chunk::Whole(set, entry, opened, share.begin())),
        }
    }
}
