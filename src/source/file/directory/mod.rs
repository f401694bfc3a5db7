//! Which files in a directory belong to which batch: Spark's rule for file streams.
//!
//! Promise: a file belongs to at most one batch while it is remembered, and which one follows from its
//! name, its modification time and the batch times alone. Must not know: what is in a file, the clock.
//!
//! ```text
//!            older than the window        the window W           not yet
//!   ────────────────────────────────┤├──────────────────────┤├────────────▶ modification time
//!                               t − W                        t
//!   batch t takes what is in (t − W, t] and was not taken by a batch that is remembered
//! ```
//!
//! `Selection` is the rule, without a file system. `Directory` is the thin part that lists. `counted` knows what
//! the rule does not care about, and people do: files that were changed after they were counted.

mod counted;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use self::counted::Counted;
use crate::config::interval_ms;
use crate::error::{Error, Result, describe};
use crate::limits::REMEMBER_MS_DEFAULT;
use crate::notice::NoticeKind;
use crate::source::file::glob::{Matched, Pattern, here, is_absent, reason};
use crate::time::{BatchTime, as_ms};

/// Which files of a directory a file source takes.
///
/// A file is taken in the batch of time `t` if
///
/// - its name passes the filter: unless another was given, it does not begin with a dot;
/// - it was last modified after `t − W`, and no later than `t`. `W` is how long files are
///   [remembered](Self::remember): 60 s, rounded up to whole batch intervals, unless another was given;
/// - it was last modified after the source was started, unless [older ones](Self::new_files_only) are
///   wanted too, which reaches back one `W`;
/// - no file of this path was taken that is still remembered.
///
/// So put files into the directory whole: write them somewhere else on the same file system, or under a
/// name with a dot in front, and rename them. A file that is found while it is written is read as far as
/// it goes, and what is written later is never read, for its path has been taken. A file that is renamed
/// into place keeps its modification time and must not be older than `W`. A file that is renamed after it was
/// taken is another path, and is taken again. That a file grew, was replaced or is counted again is reported as a
/// [`Notice`](crate::Notice).
///
/// Modification times are those of the file system, in whole milliseconds, and are compared with the time
/// of the run's clock. Linux stamps a file with the time of the last tick, up to 10 ms ago: one that is
/// written at the very start may be taken for older. Where another machine stamps the files, its clock
/// counts. If that one is ahead, files come that much later. If it is behind, files are missed which are
/// from just after the start; if it is behind by `W` or more, all of them.
///
/// ```
/// use std::time::Duration;
/// use microtally::FileOptions;
///
/// let logs = FileOptions::default()
///     .new_files_only(false)
///     .remember(Duration::from_secs(3600))
///     .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
/// ```
#[derive(Clone)]
pub struct FileOptions {
    new_files_only: bool,
    remember: Duration,
    filter: Filter,
}

type Filter = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

impl Default for FileOptions {
    /// New files whose names do not begin with a dot, remembered for 60 s: as Spark does.
    fn default() -> Self {
        FileOptions {
            new_files_only: true,
            remember: Duration::from_millis(REMEMBER_MS_DEFAULT),
            filter: Arc::new(|path| {
                let name = path.file_name().unwrap_or_default();
                !name.as_bytes().starts_with(b".")
            }),
        }
    }
}

impl FileOptions {
    /// Whether files from before the start are left alone: `true` unless it is said otherwise.
    pub fn new_files_only(mut self, new_files_only: bool) -> Self {
        self.new_files_only = new_files_only;
        self
    }

    /// How long files are remembered, at least: 1 ms to 366 days, in whole milliseconds. A file that
    /// appears with an older modification time is never taken. Costs memory for the names of that time's
    /// files.
    pub fn remember(mut self, at_least: Duration) -> Self {
        self.remember = at_least;
        self
    }

    /// Takes the files for which `filter` says so, in place of those without a leading dot. It gets the
    /// path of the directory with the file's name behind it, and is asked often: for every file there is,
    /// in every batch.
    pub fn filter(mut self, filter: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Arc::new(filter);
        self
    }
}

impl fmt::Debug for FileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOptions")
            .field("new_files_only", &self.new_files_only)
            .field("remember", &self.remember)
            .finish_non_exhaustive()
    }
}

/// A file as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Milliseconds since 1970, rounded down.
    pub(crate) modified_ms: u64,
    pub(crate) path: PathBuf,
}

/// The rule. Batch times are asked for in order.
pub(crate) struct Selection {
    /// A whole number of batch intervals.
    window_ms: u64,
    /// Files must be newer than this.
    after_ms: u64,
    filter: Filter,
    /// Batch times with the files they took, oldest first, as far as they are remembered.
    taken: VecDeque<(u64, Vec<PathBuf>)>,
    /// The same files.
    known: HashSet<PathBuf>,
}

impl Selection {
    /// The rule for batches `interval_ms` apart and files newer than `after_ms`.
    pub(crate) fn new(interval_ms: u64, remember_ms: u64, after_ms: u64, filter: Filter) -> Self {
        Selection {
            window_ms: remember_ms.next_multiple_of(interval_ms),
            after_ms,
            filter,
            taken: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Whether the modification time matters: some batch may take the path.
    pub(crate) fn is_open_to(&self, path: &Path) -> bool {
        !self.known.contains(path) && (self.filter)(path)
    }

    /// The files of `listing` that belong to the batch of this time, by modification time and then by
    /// path. They are remembered.
    pub(crate) fn select(&mut self, time: BatchTime, mut listing: Vec<Listed>) -> Vec<PathBuf> {
        let time_ms = time.as_millis();
        let horizon_ms = time_ms.saturating_sub(self.window_ms);
        let after_ms = self.after_ms.max(horizon_ms);
        listing.retain(|file| {
            after_ms < file.modified_ms
                && file.modified_ms <= time_ms
                && self.is_open_to(&file.path)
        });
        listing.sort_by(|one, two| (one.modified_ms, &one.path).cmp(&(two.modified_ms, &two.path)));
        // Directories that a pattern names twice list a file twice.
        let files: Vec<PathBuf> = listing
            .into_iter()
            .map(|file| file.path)
            .filter(|path| self.known.insert(path.clone()))
            .collect();
        if !files.is_empty() {
            self.taken.push_back((time_ms, files.clone()));
        }
        // Spark forgets when the batch is over: one exactly a window ago is still remembered by the next.
        while let Some((taken_ms, _)) = self.taken.front()
            && *taken_ms < horizon_ms
            && let Some((_, old)) = self.taken.pop_front()
        {
            for path in old {
                self.known.remove(&path);
            }
        }
        files
    }
}

/// The files that are put into one directory, or into several that a pattern names.
///
/// Looking costs a listing of the directories and a look at each file that is not remembered, so a
/// directory should not keep more than some ten thousand old files.
pub(crate) struct Directory {
    name: String,
    pattern: Pattern,
    options: FileOptions,
    interval_ms: u64,
    remember_ms: u64,
    selection: Selection,
    /// What people were told last about a listing that did not work.
    told: Option<String>,
    counted: Counted,
    /// The time of the batch that was asked for last.
    now_ms: u64,
    /// No batch but one more comes.
    is_ending: bool,
}

impl Directory {
    /// The files in the directories that `path` names, whose names may have wildcards in them (see the
    /// module `pattern`), for batches `interval` apart.
    ///
    /// # Errors
    ///
    /// A path that is empty or no pattern, a time to remember that is out of range.
    pub(crate) fn new(path: &Path, interval: Duration, options: FileOptions) -> Result<Self> {
        if path.as_os_str().is_empty() {
            return Err(Error::refused("the path of a directory is empty"));
        }
        let remember_ms = interval_ms(options.remember).map_err(|_| {
            Error::refused(format!(
                "remembering files for {:?} is outside 1 ms to 366 days, or no whole number of milliseconds",
                options.remember
            ))
        })?;
        let interval_ms = interval_ms(interval)?;
        let filter = Arc::clone(&options.filter);
        Ok(Directory {
            name: format!("files in {path:?}"),
            pattern: Pattern::new(path)?,
            options,
            interval_ms,
            remember_ms,
            selection: Selection::new(interval_ms, remember_ms, 0, filter),
            told: None,
            counted: Counted::default(),
            now_ms: 0,
            is_ending: false,
        })
    }

    /// The run starts at the time `now`, since 1970.
    pub(crate) fn start(&mut self, now: Duration) {
        let after_ms = if self.options.new_files_only {
            as_ms(now)
        } else {
            0
        };
        let filter = Arc::clone(&self.options.filter);
        self.selection = Selection::new(self.interval_ms, self.remember_ms, after_ms, filter);
    }

    /// Lists, and gives the files that belong to the batch of this time, oldest first. Each time is asked
    /// for once, in order. A directory that is not there gives none.
    pub(crate) fn files_for(
        &mut self,
        time: BatchTime,
        mut tell: impl FnMut(NoticeKind),
    ) -> Vec<PathBuf> {
        self.now_ms = time.as_millis();
        let selection = &self.selection;
        self.counted
            .look(self.is_ending, |path| selection.known.contains(path));
        self.tell_of_counted(&mut tell);
        let Matched {
            paths, mut trouble, ..
        } = self.pattern.directories();
        let mut listing = Vec::new();
        for directory in &paths {
            if let Err(why) = list(directory, &self.selection, &mut listing) {
                trouble.get_or_insert(why);
            }
        }
        self.tell_of(trouble, tell);
        self.selection.select(time, listing)
    }

    /// The file of this name is read now. `Counted again` is what there may be to say.
    pub(crate) fn begins(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        mut tell: impl FnMut(NoticeKind),
    ) {
        self.counted.begin(path, metadata);
        self.tell_of_counted(&mut tell);
    }

    /// That file was read to its end, which came after so many bytes.
    pub(crate) fn ends(&mut self, metadata: &Metadata, bytes: u64) {
        self.counted.end(metadata, bytes);
    }

    /// The next batch is the last one: nothing can be said later.
    pub(crate) fn finish(&mut self) {
        self.is_ending = true;
    }

    fn tell_of_counted(&mut self, tell: &mut impl FnMut(NoticeKind)) {
        for message in self.counted.messages(self.now_ms, self.is_ending) {
            tell(NoticeKind::Message(message));
        }
    }

    /// Tells at once what the first batch would tell, which may be long in coming, or that files are waited for.
    pub(crate) fn look(&mut self, tell: impl FnOnce(NoticeKind)) {
        let Matched { paths, trouble, .. } = self.pattern.directories();
        let mut failures = paths.iter().filter_map(|directory| {
            let outcome = fs::read_dir(here(directory));
            outcome.err().map(|cause| reason(directory, &cause))
        });
        match trouble.or_else(|| failures.next()) {
            // Files may be a long time coming, and who waits for them should not have to guess it.
            None => tell(NoticeKind::Listed),
            trouble => self.tell_of(trouble, tell),
        }
    }

    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What to tell of one of its files that cannot be read.
    pub(crate) fn unreadable(&self, path: &Path, cause: &io::Error) -> NoticeKind {
        NoticeKind::Unreadable {
            path: path.to_owned(),
            reason: describe(cause),
        }
    }

    fn tell_of(&mut self, trouble: Option<String>, tell: impl FnOnce(NoticeKind)) {
        if trouble == self.told {
            return;
        }
        tell(match trouble.clone() {
            Some(reason) => NoticeKind::Unlisted { reason },
            None => NoticeKind::Listed,
        });
        self.told = trouble;
    }
}

/// Adds the files of a directory that may be taken. What vanishes meanwhile is not there; what cannot be
/// looked at is the error, and the others are added all the same.
fn list(
    directory: &Path,
    selection: &Selection,
    listing: &mut Vec<Listed>,
) -> std::result::Result<(), String> {
    let failed = |cause: &io::Error| reason(directory, cause);
    let entries = fs::read_dir(here(directory)).map_err(|cause| failed(&cause))?;
    let mut outcome = Ok(());
    for entry in entries {
        let path = match entry {
            Ok(entry) => directory.join(entry.file_name()),
            Err(cause) => return Err(failed(&cause)),
        };
        if !selection.is_open_to(&path) {
            continue;
        }
        // Links are followed: what counts is the file behind one.
        match fs::metadata(&path) {
            // A pipe among them would be waited for, for ever.
            Ok(metadata) if metadata.is_file() => {
                let modified = metadata.modified().ok();
                let since_1970 = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                listing.push(Listed {
                    modified_ms: since_1970.map_or(0, as_ms),
                    path,
                });
            }
            Ok(_) => {}
            Err(cause) if is_absent(&cause) => {}
            Err(cause) => outcome = Err(failed(&cause)),
        }
    }
    outcome
}
