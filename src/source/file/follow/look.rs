//! When files are looked at, and what comes of it.
//!
//! Promise: a look at everything costs a few calls of the system a file; between two of them, a file that the
//! kernel reports to be written to is looked at alone. Must not know: what is done with what a file holds.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::names::Found;
use super::reading::{Looked, id_of};
use super::watch::Heard;
use super::*;
use crate::limits::{
    FOLLOW_EARLY_LOOKS_MAX, FOLLOW_GONE_MS, FOLLOW_PATTERN_MS, FOLLOW_QUIET_MS, FOLLOW_RETIRED_MAX,
};
use crate::notice::{NoticeKind, Others};
use crate::source::file::files::open;
use crate::source::file::glob::is_absent;

/// Between two early looks when there were very many.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two looks at all names because there are new ones.
const NAMES_PAUSE: Duration = Duration::from_millis(10);

impl Follow {
    /// Looks at every name and at every file.
    pub(super) fn look(&mut self, now: Duration) {
        let is_first = self.next_look.is_none();
        self.next_look = Some(now + self.options.poll);
        self.looked_at = now;
        self.heard = 0;
        let every = Duration::from_millis(FOLLOW_PATTERN_MS).max(self.options.poll);
        if self.names.is_due(now, self.options.poll, every) {
            self.find(now, is_first);
        }
        self.look_at_names(now);
        for index in 0..self.files.len() {
            self.look_at_file(index, now);
        }
        self.retire(now);
        self.tell_more_truncations(now);
    }

    /// Looks for new files that fit the patterns.
    fn find(&mut self, now: Duration, is_first: bool) {
        let Found { new, trouble } = self.names.walk(now);
        for (pattern, reason) in trouble {
            self.port.report_of(
                format!("{pattern:?}"),
                NoticeKind::Message(format!("waiting for it: {reason}")),
            );
        }
        // What was there at the start is what was asked for, and nothing to report.
        if let Some((first, pattern)) = new.first().filter(|_| !is_first) {
            let Name { path, is_old, .. } = &self.names[*first];
            let place = match *is_old && self.options.from_end {
                true => "end",
                false => "beginning",
            };
            let others = Others(new.len() as u64);
            self.port.report_of(
                format!("{pattern:?}"),
                NoticeKind::Message(format!(
                    "new file, followed from its {place}: {path:?}{others}"
                )),
            );
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
        // Those that no descriptor is left for, and those for which there is one again: of names that are
        // all in the same case one notice is enough.
        let (mut crowded, mut relieved) = (Vec::new(), Vec::new());
        for name in 0..self.names.len() {
            let cause = self.look_at_name(name, now).err();
            let known = &mut self.names[name];
            let is_gone = cause.as_ref().is_some_and(is_absent);
            known.gone_since = is_gone.then(|| known.gone_since.unwrap_or(now));
            let is_crowded =
                (cause.as_ref()).is_some_and(|cause| cause.raw_os_error() == Some(libc::EMFILE));
            // Who has asked for a pattern does not wait for a file that is gone.
            let cause = cause.filter(|_| !(is_gone && known.is_found));
            let trouble = cause.map(|cause| describe(&cause));
            let was_crowded = std::mem::replace(&mut known.is_crowded, is_crowded);
            if known.told == trouble {
                continue;
            }
            known.told.clone_from(&trouble);
            match trouble {
                Some(_) if is_crowded => crowded.push(name),
                None if was_crowded => relieved.push(name),
                Some(reason) => self.tell(name, format!("waiting for it: {reason}")),
                None if is_gone => {}
                None => self.tell(name, "it is there".to_owned()),
            }
        }
        self.tell_of_all(
            &crowded,
            "no more files can be open (raise ulimit -n): waiting for",
        );
        self.tell_of_all(&relieved, "followed now:");
    }

    /// The same of all these, if there are any.
    fn tell_of_all(&self, names: &[usize], what: &str) {
        let Some(&first) = names.first() else {
            return;
        };
        let (path, others) = (&self.names[first].path, Others(names.len() as u64));
        self.port
            .report(NoticeKind::Message(format!("{what} {path:?}{others}")));
    }

    /// Finds out whose name it is now.
    fn look_at_name(&mut self, number: usize, now: Duration) -> io::Result<()> {
        let name = &mut self.names[number];
        let metadata = match fs::metadata(&name.path) {
            Ok(metadata) if metadata.is_file() => metadata,
            outcome => {
                // Whatever has the name later is new, unless it only could not be seen.
                name.is_old &= outcome.as_ref().is_err_and(|cause| !is_absent(cause));
                return outcome.and(Err(io::Error::other("not a regular file")));
            }
        };
        let id = id_of(&metadata);
        if std::mem::take(&mut name.is_old) && self.options.from_end {
            name.at_start = Some((id, metadata.len()));
        }
        // One that is open keeps its id.
        if let Some(known) = self.files.iter().position(|file| file.reading.id == id) {
            self.give_name(known, number, now);
            return Ok(());
        }
        let file = open(&self.names[number].path)?;
        // What was opened counts, if the name has gone from hand to hand meanwhile.
        let id = id_of(&file.metadata()?);
        if let Some(known) = self.files.iter().position(|file| file.reading.id == id) {
            self.give_name(known, number, now);
            return Ok(());
        }
        let mut reading = Reading::new(file, id, self.port.line_ends());
        match self.names[number].at_start {
            Some((old, bytes)) if old == id => reading.skip_to_end(bytes)?,
            _ => {}
        }
        self.names[number].at_start = None;
        self.take_name(number, now);
        self.add(reading, number, now);
        Ok(())
    }

    /// The numbered file has this name now. One that has its old name too stays with that.
    fn give_name(&mut self, known: usize, name: usize, now: Duration) {
        let file = &self.files[known];
        if file.is_current && file.name == name {
            return;
        }
        self.take_name(name, now);
        let file = &mut self.files[known];
        // It was renamed, and goes on under this name.
        if !file.is_current || self.names[file.name].gone_since.is_some() {
            file.name = name;
            file.is_current = true;
            file.is_last = false;
            // A copy that the rest was read from was not watched: nobody was to write to it any more.
            if file.watch.is_none() {
                let watched = self.watched(|watch, follow| {
                    watch.file(&follow.files[known].reading.file, &follow.names[name].path)
                });
                self.files[known].watch = watched;
            }
        }
    }

    /// The file that had this name, if there is one, has it no more.
    fn take_name(&mut self, name: usize, now: Duration) {
        let is_it = |file: &&mut Followed| file.name == name && file.is_current;
        if let Some(file) = self.files.iter_mut().find(is_it) {
            file.is_current = false;
            file.changed_at = now;
            self.tell(name, "it is another file now, which is followed".to_owned());
        }
    }

    /// Looks whether the numbered file has something to take.
    fn look_at_file(&mut self, index: usize, now: Duration) {
        let file = &mut self.files[index];
        if file.trouble.is_some() {
            // On some file systems a descriptor can be what is wrong.
            if file.is_current
                && let Ok(again) = open(&self.names[file.name].path)
                && again
                    .metadata()
                    .is_ok_and(|is| id_of(&is) == file.reading.id)
            {
                file.reading.file = again;
            }
            file.has_news = true;
        }
        let mut looked = file.reading.look();
        if matches!(looked, Ok(Looked::Changed)) && self.is_copied_over(index) {
            looked = Ok(Looked::Replaced);
        }
        let file = &mut self.files[index];
        match looked {
            Ok(Looked::AsBefore) => file.looked_at = now,
            Ok(Looked::Changed) => {
                file.looked_at = now;
                file.changed_at = now;
                file.has_news = true;
            }
            // Taking from it finds that out as well, and knows what to do.
            Ok(Looked::Replaced) => {
                file.changed_at = now;
                file.has_news = true;
                file.is_replaced = true;
            }
            Err(cause) => self.trouble(index, &cause),
        }
    }

    /// Looks at a file that was reported to be written to, and of which all that it had was taken: it may have
    /// been truncated, its size and time may be as before and its content another one.
    pub(super) fn look_behind(&mut self, index: usize, now: Duration) {
        self.files[index].reading.forget_look();
        self.look_at_file(index, now);
        let file = &mut self.files[index];
        // Of what else it has, that it may have, the kernel reports again.
        file.has_news = file.is_replaced || file.is_last || file.reading.bytes_left() > 0;
    }

    /// Looks at what the kernel reports to have changed. Gives whether something was reported.
    pub(super) fn hear(&mut self, now: Duration) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        if self.heard >= FOLLOW_EARLY_LOOKS_MAX && now < self.heard_at + PAUSE {
            return false;
        }
        let mut written = std::mem::take(&mut self.written);
        let (mut has_new_names, mut has_all) = (false, false);
        watch.hear(|event| match event {
            Heard::Written(id) if !written.contains(&id) => written.push(id),
            Heard::Written(_) => {}
            Heard::Named(name) => has_new_names = has_new_names || self.names.want(name),
            Heard::Everything => has_all = true,
        });
        let has_heard = has_all || has_new_names || !written.is_empty();
        if has_heard {
            self.heard += 1;
            self.heard_at = now;
        } else if self.heard >= FOLLOW_EARLY_LOOKS_MAX {
            // The pause is over and nothing came: the next write is reported again, and there is nothing to wait for.
            self.heard = FOLLOW_EARLY_LOOKS_MAX - 1;
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
                // What it has is taken first, for it may be truncated soon; then it is looked at.
                file.has_news = true;
                file.was_written = true;
                file.changed_at = now;
            }
        }
        self.written = written;
        if has_new_names || has_all {
            self.names.look_for_new_ones();
            let soon = match has_all {
                true => now,
                false => now.max(self.looked_at + NAMES_PAUSE),
            };
            self.next_look = self.next_look.map(|at| at.min(soon));
            if soon <= now {
                self.look(now);
            }
        }
        has_heard
    }

    /// When the source has to be called, whatever is heard.
    pub(super) fn next_call(&self) -> Option<Duration> {
        let next_look = self.next_look.filter(|_| !self.is_draining)?;
        if self.watch.is_some() && self.heard >= FOLLOW_EARLY_LOOKS_MAX {
            return Some(next_look.min(self.heard_at + PAUSE));
        }
        Some(next_look)
    }

    /// Finds the files that are done with, and the names that nobody has.
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
                .any(|file| file.name == name && file.is_current && file.reading.has_data());
            let retired = |file: &&Followed| file.name == name && !file.is_current;
            let retired_count = self.files.iter().filter(retired).count();
            let mut surplus = retired_count.saturating_sub(FOLLOW_RETIRED_MAX);
            // In the order in which they were opened.
            for file in self.files.iter_mut().filter(|file| file.name == name) {
                let quiet_for = now.saturating_sub(file.changed_at);
                // One that cannot be read is tried at every look, and for as long as any other.
                let has_news = file.has_news && file.trouble.is_none();
                let is_quiet = !has_news && quiet_for >= quiet;
                let is_done = match gone_for {
                    // Nobody will have the name again, and a new name would have been found.
                    Some(gone_for) => {
                        is_quiet && gone_for.min(quiet_for) >= gone_quiet(&file.reading)
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

/// How long a file whose name is gone has to be quiet: somebody who does not know yet may still write.
fn gone_quiet(reading: &Reading) -> Duration {
    let is_deleted = |metadata: fs::Metadata| metadata.nlink() == 0;
    Duration::from_millis(match reading.file.metadata().map(is_deleted) {
        Ok(true) => FOLLOW_QUIET_MS,
        _ => FOLLOW_GONE_MS,
    })
}
