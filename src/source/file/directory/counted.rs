//! Watches files after they were counted: they should not change any more, and some do.
//!
//! Promise: does not affect which files are counted; a file that grows, is replaced or is counted
//! again is reported once each, together with others. Bounded memory. Must not know: batches.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::limits::{DIRECTORY_CHECKS_MAX, DIRECTORY_FILES_KNOWN_MAX, NOTICE_PAUSE_MS};
use crate::notice::Others;
use crate::source::file::{FileId, file_id};

/// Files that were counted, and what has to be reported of them.
#[derive(Default)]
pub(super) struct CountedFiles {
    files: HashMap<FileId, CountedFile>,
    /// The same files in the order in which they were counted.
    order: VecDeque<FileId>,
    /// The file that is checked next.
    turn: usize,
    grown: PendingReport,
    replaced: PendingReport,
    again: PendingReport,
}

/// A file that was counted.
struct CountedFile {
    path: PathBuf,
    /// Its creation time, where the file system has it; an inode number may be used again.
    born: Option<SystemTime>,
    modified: Option<SystemTime>,
    /// Bytes that were read. Absent before the end, and when reading failed.
    bytes: Option<u64>,
    is_reported: bool,
}

/// Files to be reported in one message, which names the first of them.
#[derive(Default)]
struct PendingReport {
    first: Option<String>,
    files: u64,
    bytes: u64,
    /// The earliest time of the next message.
    next_ms: u64,
}

impl PendingReport {
    fn add(&mut self, first: impl FnOnce() -> String, bytes: u64) {
        self.first.get_or_insert_with(first);
        self.files += 1;
        self.bytes += bytes;
    }

    /// Returns the files and their bytes, if it is time to report them.
    fn take(&mut self, now_ms: u64, is_ending: bool) -> Option<(String, u64)> {
        if now_ms < self.next_ms && !is_ending {
            return None;
        }
        let first = self.first.take()?;
        let files = format!("{first}{}", Others(self.files));
        let bytes = self.bytes;
        *self = PendingReport {
            next_ms: now_ms.saturating_add(NOTICE_PAUSE_MS),
            ..PendingReport::default()
        };
        Some((files, bytes))
    }
}

impl CountedFiles {
    /// Adds a file that is counted now, from its beginning.
    pub(super) fn begin(&mut self, path: &Path, metadata: &Metadata) {
        let id = file_id(metadata);
        let (born, modified) = (metadata.created().ok(), metadata.modified().ok());
        if let Some(known) = self.files.get(&id) {
            let is_same = match (known.born, born) {
                (Some(then), Some(now)) => then == now,
                _ => known.modified == modified && known.bytes == Some(metadata.len()),
            };
            if is_same {
                let earlier = (known.path != path).then(|| known.path.clone());
                self.again.add(
                    || match earlier {
                        Some(earlier) => format!("{path:?}, counted before as {earlier:?},"),
                        None => format!("{path:?}"),
                    },
                    0,
                );
            }
        } else {
            if self.order.len() == DIRECTORY_FILES_KNOWN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.files.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let known = CountedFile {
            path: path.to_owned(),
            born,
            modified,
            bytes: None,
            is_reported: false,
        };
        self.files.insert(id, known);
    }

    /// Sets the bytes that were read of a file up to its end.
    pub(super) fn end(&mut self, metadata: &Metadata, bytes: u64) {
        if let Some(known) = self.files.get_mut(&file_id(metadata)) {
            known.bytes = Some(bytes);
        }
    }

    /// Checks some of the files, or all of them if it `is_ending`. `is_taken` returns `true` for a
    /// path that is not counted any more.
    pub(super) fn check(&mut self, is_ending: bool, is_taken: impl Fn(&Path) -> bool) {
        let mut checks_left = match is_ending {
            true => usize::MAX,
            false => DIRECTORY_CHECKS_MAX,
        };
        for _ in 0..self.order.len() {
            if checks_left == 0 {
                return;
            }
            let id = self.order[self.turn % self.order.len()];
            self.turn = (self.turn + 1) % self.order.len();
            let Some(known) = self.files.get_mut(&id) else {
                continue;
            };
            let Some(bytes) = known.bytes else { continue };
            if known.is_reported || !is_taken(&known.path) {
                continue;
            }
            checks_left -= 1;
            // A file that was deleted has been counted: nothing is lost.
            let Ok(metadata) = fs::metadata(&known.path) else {
                continue;
            };
            let path = &known.path;
            if file_id(&metadata) != id {
                self.replaced.add(|| format!("{path:?}"), 0);
                known.is_reported = true;
            } else if metadata.len() > bytes {
                self.grown
                    .add(|| format!("{path:?}"), metadata.len() - bytes);
                known.is_reported = true;
            } else {
                // A file that was emptied may be filled again.
                known.bytes = Some(metadata.len());
            }
        }
    }

    /// Returns the messages that are due.
    pub(super) fn messages(&mut self, now_ms: u64, is_ending: bool) -> Vec<String> {
        let mut messages = Vec::new();
        if let Some((files, bytes)) = self.grown.take(now_ms, is_ending) {
            let s = if bytes == 1 { "" } else { "s" };
            messages.push(format!(
                "{files} grew after being counted; {bytes} byte{s} not counted, so write files elsewhere and \
                 move them in when they are complete"
            ));
        }
        if let Some((files, _)) = self.replaced.take(now_ms, is_ending) {
            messages.push(format!(
                "{files} replaced after being counted; what is there now is not counted, so give each file a \
                 name of its own"
            ));
        }
        if let Some((files, _)) = self.again.take(now_ms, is_ending) {
            messages.push(format!(
                "{files} counted again from the beginning; a new name or a later change makes a new file of it"
            ));
        }
        messages
    }
}
