//! Handles files whose content was replaced.
//!
//! Promise: the unread rest is read from a copy if there is one, otherwise reported as lost or
//! perhaps lost. Must not know: how replaced content is detected.

use std::fs;

use super::*;
use crate::limits::{FOLLOW_TRUNCATIONS_REPORTED, NOTICE_PAUSE_MS};
use crate::notice::{NoticeKind, Throttled};
use crate::source::file::files::open;
use crate::source::file::glob::here;
use crate::source::file::{FileId, file_id};

/// The number of truncations reported one by one, and those to be reported together.
#[derive(Default)]
pub(super) struct Truncations {
    reported: u32,
    /// When the count restarts.
    until: Duration,
    unreported: Throttled,
}

impl Follow {
    /// Handles replaced content of the numbered file: it is read from the beginning, and the unread
    /// rest of the old content is read from a copy.
    pub(super) fn replaced(&mut self, index: usize, out: &mut Intake<'_>, now: Duration) {
        let file = &self.files[index];
        let lost = file.reader.bytes_left();
        let is_untouched = file.is_untouched();
        if !file.is_current {
            // It has lost its name, and whoever overwrote it is not a followed writer: `cp log
            // log.1`.
            let name = file.name;
            self.close(index, false, out);
            if lost > 0 && !is_untouched {
                self.lost();
                self.report(
                    name,
                    format!("overwritten after it was renamed; {lost} unread bytes are lost"),
                );
            }
            return;
        }
        let copy = self.copy_of(index);
        let file = &mut self.files[index];
        let (name, changed_at, is_last) = (file.name, file.changed_at, file.is_last);
        let unseen = now.saturating_sub(file.looked_at);
        let is_copied = copy.is_some();
        if let Some(copy) = copy {
            // In its place and channel, because it continues the same record; no more writes are
            // expected.
            let original = std::mem::replace(&mut file.reader, copy);
            file.is_current = false;
            file.is_last = true;
            // The watch belongs to the original.
            file.watch = None;
            self.add(original, name, changed_at);
            let added = self.files.last_mut().expect("it was added");
            added.is_last = is_last;
            added.reader.restart();
        } else {
            file.looked_at = now;
            file.reader.restart();
            // The rest of the line, or the `\n` behind a `\r`, is not in the new content.
            self.end_line(index, false, out);
        }
        if lost > 0 && !is_copied {
            self.lost();
        }
        self.report_truncated(name, is_copied, lost, unseen, now);
    }

    /// Counts unread bytes that are lost as one record in the statistics. They were not received,
    /// so they are not in the ledger.
    pub(super) fn lost(&self) {
        self.port.lost(1, 0);
    }

    /// Reports that a file was truncated and what may be lost, but not thousands of times.
    fn report_truncated(
        &mut self,
        name: usize,
        is_copied: bool,
        lost: u64,
        unseen: Duration,
        now: Duration,
    ) {
        let truncations = &mut self.truncations;
        if now >= truncations.until {
            truncations.reported = 0;
            truncations.until = now + Duration::from_millis(NOTICE_PAUSE_MS);
        }
        if truncations.reported == FOLLOW_TRUNCATIONS_REPORTED {
            truncations.unreported.add(lost);
            return;
        }
        truncations.reported += 1;
        // Less than a millisecond is not zero.
        let ms = unseen.as_millis().max(1);
        let what = match (is_copied, lost) {
            (true, _) => "the rest is read from its copy".to_owned(),
            (false, 0) => format!("lines written in the {ms} ms before may be lost"),
            (false, _) => format!(
                "at least {lost} unread bytes are lost, and lines written in the {ms} ms before may be lost"
            ),
        };
        self.report(
            name,
            format!("truncated; reading it from its beginning, and {what}"),
        );
    }

    /// Reports the truncations that were not reported one by one, when it is time.
    pub(super) fn report_more_truncations(&mut self, now: Duration) {
        if now < self.truncations.until && !self.is_draining {
            return;
        }
        if let Some((times, bytes)) = self.truncations.unreported.take(now) {
            self.port.report(NoticeKind::Message(format!(
                    "truncated {times} more times; {bytes} unread bytes are lost, and lines written just before \
                     may be lost"
                )));
        }
    }

    /// Returns `true` if the current file was copied over the numbered one, from which nothing was
    /// taken yet: `cp log log.1`.
    pub(super) fn is_copied_over(&self, index: usize) -> bool {
        let file = &self.files[index];
        let is_it = |other: &&Followed| other.is_current && other.name == file.name;
        let current = self.files.iter().find(is_it);
        file.is_untouched()
            && current.is_some_and(|current| current.reader.begins_like(&file.reader.file))
    }

    fn is_current(&self, id: FileId) -> bool {
        let mut current = self.files.iter().filter(|file| file.is_current);
        current.any(|file| file.reader.id == id)
    }

    /// Finds the copy of the numbered file that a rotator made beside it before truncating it.
    fn copy_of(&self, index: usize) -> Option<TailReader> {
        let Followed { reader, name, .. } = &self.files[index];
        let path = &self.names[*name].path;
        let stem = path.file_name()?.as_encoded_bytes();
        let folder = here(path.parent()?);
        let mut copies = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.as_encoded_bytes().strip_prefix(stem) else {
                continue;
            };
            // A file that cannot be looked at cannot be read either.
            if !rest.is_empty()
                && let Ok(metadata) = entry.metadata()
                && metadata.is_file()
                && !self.is_current(file_id(&metadata))
            {
                copies.push((metadata.modified().ok(), entry.path()));
            }
        }
        // The newest first: older ones are of earlier rotations.
        copies.sort();
        let copies = copies.iter().rev();
        copies
            .filter_map(|(_, path)| reader.in_copy(open(path).ok()?).ok()?)
            .next()
    }
}
