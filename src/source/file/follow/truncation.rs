//! Files whose content was replaced: where the rest of the old content may be, and what is said of what is not.
//!
//! Promise: what was not read is read from a copy if there is one, and otherwise reported as lost or perhaps lost.
//! Must not know: how a replaced content is found out.

use std::fs;

use super::reading::{Id, id_of};
use super::*;
use crate::limits::{FOLLOW_TRUNCATIONS_TOLD, NOTICE_PAUSE_MS};
use crate::notice::{NoticeKind, Throttled};
use crate::source::file::files::open;
use crate::source::file::glob::here;

/// Truncations that were reported one by one, and those that were not because there were too many.
#[derive(Default)]
pub(super) struct Truncations {
    told: u32,
    /// When they are counted anew.
    until: Duration,
    untold: Throttled,
}

impl Follow {
    /// The content of the numbered file is not what was taken from it: it begins again, and what was not
    /// taken is looked for in a copy.
    pub(super) fn replaced(&mut self, index: usize, now: Duration) -> Option<Fill> {
        let file = &self.files[index];
        let (was_mid, lost) = (file.reading.is_mid, file.reading.bytes_left());
        let is_untouched = file.is_untouched();
        if !file.is_current {
            // Its name was given away, and whoever has written over it since is none of those who are
            // followed: `cp log log.1`, for one.
            let name = file.name;
            self.close(index);
            if lost > 0 && !is_untouched {
                self.lost();
                self.tell(
                    name,
                    format!("overwritten after it was renamed; {lost} bytes of it were not read and are lost"),
                );
            }
            let must_break = was_mid || self.after_return.take().is_some();
            return must_break.then_some(Fill::Break { clean: !was_mid });
        }
        let copy = self.copy_of(index);
        let file = &mut self.files[index];
        let (name, changed_at, is_last) = (file.name, file.changed_at, file.is_last);
        let unseen = now.saturating_sub(file.looked_at);
        let is_copied = copy.is_some();
        if let Some(copy) = copy {
            // In its place, for it goes on with the same record; nobody writes to it any more.
            let original = std::mem::replace(&mut file.reading, copy);
            file.is_current = false;
            file.is_last = true;
            // The watch is the original's.
            file.watch = None;
            self.add(original, name, changed_at);
            let added = self.files.last_mut().expect("it was added");
            added.is_last = is_last;
            added.reading.restart();
        } else {
            file.looked_at = now;
            file.reading.restart();
        }
        if lost > 0 && !is_copied {
            self.lost();
        }
        self.tell_truncated(name, is_copied, lost, unseen, now);
        // The line that it broke off in, or the `\n` that may follow a `\r`, is not in the new content.
        let must_break = !is_copied && (was_mid || self.after_return.take().is_some());
        must_break.then_some(Fill::Break { clean: !was_mid })
    }

    /// Bytes that are known to have been in a file, and were not read, are lost: at least one record for the
    /// statistics. They were not received, so they are none of the ledger's bytes.
    pub(super) fn lost(&self) {
        self.port.lost(1, 0);
    }

    /// Says that a file was truncated and what may be lost, but not thousands of times.
    fn tell_truncated(
        &mut self,
        name: usize,
        is_copied: bool,
        lost: u64,
        unseen: Duration,
        now: Duration,
    ) {
        let truncations = &mut self.truncations;
        if now >= truncations.until {
            truncations.told = 0;
            truncations.until = now + Duration::from_millis(NOTICE_PAUSE_MS);
        }
        if truncations.told == FOLLOW_TRUNCATIONS_TOLD {
            truncations.untold.add(lost);
            return;
        }
        truncations.told += 1;
        // Less than what can be measured is not nothing.
        let ms = unseen.as_millis().max(1);
        let what = match (is_copied, lost) {
            (true, _) => "the rest of it is read from its copy".to_owned(),
            (false, 0) => format!("lines written in the {ms} ms before may be lost"),
            (false, _) => format!(
                "at least {lost} bytes of it were not read and are lost, and lines written in the {ms} ms before may be"
            ),
        };
        self.tell(
            name,
            format!("it was truncated; reading it from its beginning, and {what}"),
        );
    }

    /// Says how many truncations were not reported one by one, when it is time.
    pub(super) fn tell_more_truncations(&mut self, now: Duration) {
        if now < self.truncations.until && !self.is_draining {
            return;
        }
        if let Some((times, bytes)) = self.truncations.untold.take(now) {
            self.port.report(NoticeKind::Message(format!(
                    "truncated {times} more times; lines written just before may be lost, and {bytes} bytes \
                     that were seen are"
                )));
        }
    }

    /// Whether a file that has lost its name before anything was taken from it now holds what was taken from the
    /// file of that name, which was copied over it: `cp log log.1`.
    pub(super) fn is_copied_over(&self, index: usize) -> bool {
        let file = &self.files[index];
        let is_it = |other: &&Followed| other.is_current && other.name == file.name;
        let current = self.files.iter().find(is_it);
        file.is_untouched()
            && current.is_some_and(|current| current.reading.begins_like(&file.reading.file))
    }

    fn is_current(&self, id: Id) -> bool {
        let mut current = self.files.iter().filter(|file| file.is_current);
        current.any(|file| file.reading.id == id)
    }

    /// The copy of what the numbered file was, made beside it by whoever has truncated it then.
    fn copy_of(&self, index: usize) -> Option<Reading> {
        let Followed { reading, name, .. } = &self.files[index];
        let path = &self.names[*name].path;
        let stem = path.file_name()?.as_encoded_bytes();
        let folder = here(path.parent()?);
        let mut copies = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.as_encoded_bytes().strip_prefix(stem) else {
                continue;
            };
            // What cannot be looked at is no copy that could be read.
            if !rest.is_empty()
                && let Ok(metadata) = entry.metadata()
                && metadata.is_file()
                && !self.is_current(id_of(&metadata))
            {
                copies.push((metadata.modified().ok(), entry.path()));
            }
        }
        // The newest first: older ones are those of earlier rotations.
        copies.sort();
        let copies = copies.iter().rev();
        copies
            .filter_map(|(_, path)| reading.in_copy(open(path).ok()?).ok()?)
            .next()
    }
}
