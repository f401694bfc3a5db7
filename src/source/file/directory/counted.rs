//! What becomes of files after they were counted: they should stay as they are, and some do not.
//!
//! Promise: changes nothing about which files are counted; a file that grows, is replaced or is counted a second
//! time is reported once each, together with others. Bounded memory. Must not know: which batch a file belongs to.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::limits::{DIRECTORY_CHECKS_MAX, DIRECTORY_FILES_KNOWN_MAX, NOTICE_PAUSE_MS};
use crate::notice::Others;

/// What tells a file from others, as long as it exists.
type Id = (u64, u64);

/// See the module.
#[derive(Default)]
pub(super) struct Counted {
    files: HashMap<Id, Known>,
    /// The same files, the one that was counted first in front.
    order: VecDeque<Id>,
    /// The file that is looked at first.
    turn: usize,
    grown: Pending,
    replaced: Pending,
    again: Pending,
}

/// A file that was counted.
struct Known {
    path: PathBuf,
    /// When it was made, where the file system says so; an inode's number may be used again.
    born: Option<SystemTime>,
    modified: Option<SystemTime>,
    /// Bytes that were read. Absent before the end, and when reading failed.
    bytes: Option<u64>,
    is_told: bool,
}

/// What is to be said of some files, the first of which is named.
#[derive(Default)]
struct Pending {
    first: Option<String>,
    files: u64,
    bytes: u64,
    /// When it may be said again.
    next_ms: u64,
}

impl Pending {
    fn add(&mut self, first: impl FnOnce() -> String, bytes: u64) {
        self.first.get_or_insert_with(first);
        self.files += 1;
        self.bytes += bytes;
    }

    /// The files and their bytes, if it is time.
    fn take(&mut self, now_ms: u64, is_ending: bool) -> Option<(String, u64)> {
        if now_ms < self.next_ms && !is_ending {
            return None;
        }
        let first = self.first.take()?;
        let files = format!("{first}{}", Others(self.files));
        let bytes = self.bytes;
        *self = Pending {
            next_ms: now_ms.saturating_add(NOTICE_PAUSE_MS),
            ..Pending::default()
        };
        Some((files, bytes))
    }
}

impl Counted {
    /// The file of this name is counted now, from its beginning.
    pub(super) fn begin(&mut self, path: &Path, metadata: &Metadata) {
        let id = (metadata.dev(), metadata.ino());
        let (born, modified) = (metadata.created().ok(), metadata.modified().ok());
        if let Some(known) = self.files.get(&id) {
            let is_it = match (known.born, born) {
                (Some(then), Some(now)) => then == now,
                _ => known.modified == modified && known.bytes == Some(metadata.len()),
            };
            if is_it {
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
        let known = Known {
            path: path.to_owned(),
            born,
            modified,
            bytes: None,
            is_told: false,
        };
        self.files.insert(id, known);
    }

    /// So many bytes of that file were read, and then its end came.
    pub(super) fn end(&mut self, metadata: &Metadata, bytes: u64) {
        if let Some(known) = self.files.get_mut(&(metadata.dev(), metadata.ino())) {
            known.bytes = Some(bytes);
        }
    }

    /// Looks at some of the files, at all of them when it `is_ending`. `is_taken` says of a path that no file of
    /// this name is counted now.
    pub(super) fn look(&mut self, is_ending: bool, is_taken: impl Fn(&Path) -> bool) {
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
            if known.is_told || !is_taken(&known.path) {
                continue;
            }
            checks_left -= 1;
            // One that is gone was counted, and nothing is lost.
            let Ok(metadata) = fs::metadata(&known.path) else {
                continue;
            };
            let path = &known.path;
            if (metadata.dev(), metadata.ino()) != id {
                self.replaced.add(|| format!("{path:?}"), 0);
                known.is_told = true;
            } else if metadata.len() > bytes {
                self.grown
                    .add(|| format!("{path:?}"), metadata.len() - bytes);
                known.is_told = true;
            } else {
                // One that was emptied may be filled again.
                known.bytes = Some(metadata.len());
            }
        }
    }

    /// What there is to say.
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
