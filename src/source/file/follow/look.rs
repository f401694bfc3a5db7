//! Checks names and files.
//!
//! Promise: a check of everything takes a few system calls per file; in between, a file with a
//! write that the kernel reports is checked alone. Must not know: what is done with the content of
//! a file.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::names::NewNames;
use super::tail_reader::Looked;
use super::watch::WatchEvent;
use super::*;
use crate::limits::{
    FOLLOW_EARLY_LOOKS_MAX, FOLLOW_GONE_MS, FOLLOW_PATTERN_MS, FOLLOW_QUIET_MS, FOLLOW_RETIRED_MAX,
};
use crate::notice::Others;
use crate::source::file::file_id;
use crate::source::file::files::open;
use crate::source::file::glob::is_absent;

/// The time between two checks caused by events, when there were very many.
const PAUSE: Duration = Duration::from_millis(1);
/// The time between two checks of all names because there are new ones.
const NAMES_PAUSE: Duration = Duration::from_millis(10);

impl Follow {
    /// Checks all names and all files.
    pub(super) fn look(&mut self, now: Duration) {
        let is_first = self.next_look.is_none();
        self.next_look = Some(now + self.options.poll);
        self.looked_at = now;
        self.early_looks = 0;
        let every = Duration::from_millis(FOLLOW_PATTERN_MS).max(self.options.poll);
        if self.names.is_due(now, self.options.poll, every) {
            self.find_new_names(now, is_first);
        }
        self.look_at_names(now);
        for index in 0..self.files.len() {
            self.look_at_file(index, now);
        }
        self.retire(now);
        self.report_more_truncations(now);
    }

    /// Finds new files that match the patterns.
    fn find_new_names(&mut self, now: Duration, is_first: bool) {
        let NewNames { new, trouble } = self.names.walk(now);
        for (pattern, reason) in trouble {
            let kind = NoticeKind::Message(format!("{reason}; waiting for it"));
            self.port.report_of(format!("{pattern:?}"), kind);
        }
        // Files that exist at the start are expected and not reported.
        if let Some((first, pattern)) = new.first().filter(|_| !is_first) {
            let Name { path, is_old, .. } = &self.names[*first];
            let place = match *is_old && self.options.from_end {
                true => "end",
                false => "beginning",
            };
            let others = Others(new.len() as u64);
            let kind = NoticeKind::Message(format!(
                "following a new file from its {place}: {path:?}{others}"
            ));
            self.port.report_of(format!("{pattern:?}"), kind);
        }
        let _ = self.watched(|watch, follow| {
            let mut outcome = Ok(());
            for path in follow.names.directories() {
                match watch.directory(path) {
                    Err(cause) if !is_absent(&cause) => outcome = Err(cause),
                    _ => {}
                }
            }
            outcome
        });
    }

    fn look_at_names(&mut self, now: Duration) {
        // Names without a descriptor left, and names that have one again: one notice for all of
        // them.
        let (mut crowded, mut relieved) = (Vec::new(), Vec::new());
        for name in 0..self.names.len() {
            let cause = self.look_at_name(name, now).err();
            let known = &mut self.names[name];
            let is_gone = cause.as_ref().is_some_and(is_absent);
            known.gone_since = is_gone.then(|| known.gone_since.unwrap_or(now));
            let is_crowded =
                (cause.as_ref()).is_some_and(|cause| cause.raw_os_error() == Some(libc::EMFILE));
            // A file that a pattern has found is not waited for when it is gone.
            let cause = cause.filter(|_| !(is_gone && known.is_found));
            let trouble = cause.map(|cause| describe(&cause));
            let was_crowded = std::mem::replace(&mut known.is_crowded, is_crowded);
            if known.reported == trouble {
                continue;
            }
            known.reported.clone_from(&trouble);
            match trouble {
                Some(_) if is_crowded => crowded.push(name),
                None if was_crowded => relieved.push(name),
                Some(reason) => self.report(name, format!("{reason}; waiting for it")),
                None if is_gone => {}
                None => self.report(name, "found; following it".to_owned()),
            }
        }
        self.report_all(
            &crowded,
            "no more files can be open (raise ulimit -n); waiting for",
        );
        self.report_all(&relieved, "following now:");
    }

    /// Reports one message for all these names, if there are any.
    fn report_all(&self, names: &[usize], what: &str) {
        let Some(&first) = names.first() else {
            return;
        };
        let (path, others) = (&self.names[first].path, Others(names.len() as u64));
        self.port
            .report(NoticeKind::Message(format!("{what} {path:?}{others}")));
    }

    /// Finds the file that has the numbered name now.
    fn look_at_name(&mut self, number: usize, now: Duration) -> io::Result<()> {
        let name = &mut self.names[number];
        let metadata = match fs::metadata(&name.path) {
            Ok(metadata) if metadata.is_file() => metadata,
            outcome => {
                // A file that has the name later is new, unless this one only could not be looked
                // at.
                name.is_old &= outcome.as_ref().is_err_and(|cause| !is_absent(cause));
                return outcome.and(Err(io::Error::other("not a regular file")));
            }
        };
        let id = file_id(&metadata);
        if std::mem::take(&mut name.is_old) && self.options.from_end {
            name.at_start = Some((id, metadata.len()));
        }
        // An open file keeps its identity.
        if let Some(known) = self.files.iter().position(|file| file.reader.id == id) {
            self.give_name(known, number, now);
            return Ok(());
        }
        let file = open(&self.names[number].path)?;
        // The opened file counts, if the name has another one meanwhile.
        let id = file_id(&file.metadata()?);
        if let Some(known) = self.files.iter().position(|file| file.reader.id == id) {
            self.give_name(known, number, now);
            return Ok(());
        }
        let mut reader = TailReader::new(file, id, self.port.line_ends());
        match self.names[number].at_start {
            Some((old, bytes)) if old == id => reader.skip_to_end(bytes)?,
            _ => {}
        }
        self.names[number].at_start = None;
        self.take_name(number, now);
        self.add(reader, number, now);
        Ok(())
    }

    /// Gives the numbered file this name. A file that still has its old name too keeps that one.
    fn give_name(&mut self, known: usize, name: usize, now: Duration) {
        let file = &self.files[known];
        if file.is_current && file.name == name {
            return;
        }
        self.take_name(name, now);
        let file = &mut self.files[known];
        // It was renamed, and continues under this name.
        if !file.is_current || self.names[file.name].gone_since.is_some() {
            file.name = name;
            file.is_current = true;
            file.is_last = false;
            // A copy that the rest was read from was not watched: no writes to it were expected.
            if file.watch.is_none() {
                let watched = self.watched(|watch, follow| {
                    watch.file(&follow.files[known].reader.file, &follow.names[name].path)
                });
                self.files[known].watch = watched;
            }
        }
    }

    /// Takes the name from the file that had it, if there is one.
    fn take_name(&mut self, name: usize, now: Duration) {
        let is_it = |file: &&mut Followed| file.name == name && file.is_current;
        if let Some(file) = self.files.iter_mut().find(is_it) {
            file.is_current = false;
            file.changed_at = now;
            self.report(name, "file was replaced; following the new one".to_owned());
        }
    }

    /// Checks whether the numbered file has something to read.
    fn look_at_file(&mut self, index: usize, now: Duration) {
        let file = &mut self.files[index];
        if file.trouble.is_some() {
            // On some file systems the descriptor can be the problem.
            if file.is_current
                && let Ok(again) = open(&self.names[file.name].path)
                && again
                    .metadata()
                    .is_ok_and(|is| file_id(&is) == file.reader.id)
            {
                file.reader.file = again;
            }
            file.has_news = true;
        }
        let mut looked = file.reader.look();
        if matches!(looked, Ok(Looked::Changed)) && self.is_copied_over(index) {
            looked = Ok(Looked::Replaced);
        }
        let file = &mut self.files[index];
        match looked {
            Ok(Looked::Unchanged) => file.looked_at = now,
            Ok(Looked::Changed) => {
                file.looked_at = now;
                file.changed_at = now;
                file.has_news = true;
            }
            // Reading from it finds that out as well, and handles it.
            Ok(Looked::Replaced) => {
                file.changed_at = now;
                file.has_news = true;
                file.is_replaced = true;
            }
            Err(cause) => self.read_failed(index, &cause),
        }
    }

    /// Checks a file with a reported write whose bytes were all read. It may have been truncated:
    /// its size and time may be the same and its content different.
    pub(super) fn look_behind(&mut self, index: usize, now: Duration) {
        self.files[index].reader.forget_look();
        self.look_at_file(index, now);
        let file = &mut self.files[index];
        // The kernel reports further writes again.
        file.has_news = file.is_replaced || file.is_last || file.reader.bytes_left() > 0;
    }

    /// Checks what the kernel reports to have changed. Returns `true` if there were events.
    pub(super) fn read_events(&mut self, now: Duration) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        if self.early_looks >= FOLLOW_EARLY_LOOKS_MAX && now < self.early_look_at + PAUSE {
            return false;
        }
        let mut written = std::mem::take(&mut self.written);
        let (mut has_new_names, mut has_all) = (false, false);
        watch.read_events(|event| match event {
            WatchEvent::Written(id) if !written.contains(&id) => written.push(id),
            WatchEvent::Written(_) => {}
            WatchEvent::Named(name) => has_new_names = has_new_names || self.names.concerns(name),
            WatchEvent::Everything => has_all = true,
        });
        let has_events = has_all || has_new_names || !written.is_empty();
        if has_events {
            self.early_looks += 1;
            self.early_look_at = now;
        } else if self.early_looks >= FOLLOW_EARLY_LOOKS_MAX {
            // After a pause without events, the next write is reported again, and there is nothing
            // to wait for.
            self.early_looks = FOLLOW_EARLY_LOOKS_MAX - 1;
        }
        for id in written.drain(..) {
            let is_it = |file: &Followed| file.watch == Some(id);
            let Some(index) = self.files.iter().position(is_it) else {
                continue;
            };
            let file = &mut self.files[index];
            if file.is_untouched() {
                self.look_at_file(index, now);
            } else {
                // Its content is read first, because it may be truncated soon; then it is checked.
                file.has_news = true;
                file.was_written = true;
                file.changed_at = now;
            }
        }
        self.written = written;
        if has_new_names || has_all {
            self.names.search_soon();
            let soon = match has_all {
                true => now,
                false => now.max(self.looked_at + NAMES_PAUSE),
            };
            self.next_look = self.next_look.map(|at| at.min(soon));
            if soon <= now {
                self.look(now);
            }
        }
        has_events
    }

    /// Returns when the source has to be called without any event.
    pub(super) fn next_call(&self) -> Option<Duration> {
        let next_look = self.next_look.filter(|_| !self.is_draining)?;
        if self.watch.is_some() && self.early_looks >= FOLLOW_EARLY_LOOKS_MAX {
            return Some(next_look.min(self.early_look_at + PAUSE));
        }
        Some(next_look)
    }

    /// Retires files that are finished, and forgets names without a file.
    fn retire(&mut self, now: Duration) {
        let quiet = Duration::from_millis(FOLLOW_QUIET_MS);
        for name in (0..self.names.len()).rev() {
            let gone_for = self.names[name]
                .gone_since
                .filter(|_| self.names[name].is_found);
            let gone_for = gone_for.map(|since| now.saturating_sub(since));
            let has_successor = self
                .files
                .iter()
                .any(|file| file.name == name && file.is_current && file.reader.has_data());
            let retired = |file: &&Followed| file.name == name && !file.is_current;
            let retired_count = self.files.iter().filter(retired).count();
            let mut surplus = retired_count.saturating_sub(FOLLOW_RETIRED_MAX);
            // In the order of opening.
            for file in self.files.iter_mut().filter(|file| file.name == name) {
                let quiet_for = now.saturating_sub(file.changed_at);
                // A file that cannot be read is retried at every check, for as long as any other.
                let has_news = file.has_news && file.trouble.is_none();
                let is_quiet = !has_news && quiet_for >= quiet;
                let is_done = match gone_for {
                    // The name does not come back, and a new name would have been found.
                    Some(gone_for) => {
                        is_quiet && gone_for.min(quiet_for) >= gone_quiet(&file.reader)
                    }
                    None => !file.is_current && is_quiet && has_successor,
                };
                let is_surplus = !file.is_current && surplus > 0;
                if is_done || is_surplus {
                    surplus = surplus.saturating_sub(1);
                    file.is_last = true;
                    file.has_news = true;
                }
            }
            if gone_for.is_some() && !self.files.iter().any(|file| file.name == name) {
                self.names.forget(name);
                let behind = self.files.iter_mut().filter(|file| file.name > name);
                behind.for_each(|file| file.name -= 1);
            }
        }
    }
}

/// How long a file whose name is gone has to be quiet: its writer may still have it open.
fn gone_quiet(reader: &TailReader) -> Duration {
    let is_deleted = |metadata: fs::Metadata| metadata.nlink() == 0;
    Duration::from_millis(match reader.file.metadata().map(is_deleted) {
        Ok(true) => FOLLOW_QUIET_MS,
        _ => FOLLOW_GONE_MS,
    })
}
