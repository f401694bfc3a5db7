//! Decides which files of a directory belong to which batch: Spark's rule for file streams.
//!
//! Promise: a file belongs to at most one batch while it is remembered; its name, its modification
//! time and the batch times alone decide which. Must not know: rings, what is in a file.
//!
//! ```text
//!            older than the window        the window W           not yet
//!   ────────────────────────────────┤├──────────────────────┤├────────────▶ modification time
//!                               t − W                        t
//!   batch t takes the files in (t − W, t] that no remembered batch has taken
//! ```
//!
//! `Selection` is the rule, without a file system. `Directory` lists the files. `counted` reports
//! files that were changed after they were counted.

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

use self::counted::CountedFiles;
use crate::config::interval_ms;
use crate::error::{Error, Result, describe};
use crate::limits::REMEMBER_MS_DEFAULT;
use crate::notice::NoticeKind;
use crate::source::file::glob::{Matched, PathPattern, here, is_absent, reason};
use crate::time::{BatchTime, as_ms};

/// The rule for the files of a directory that a file source takes.
///
/// A file is taken in the batch of time `t` if
///
/// - its name passes the filter; by default, it does not begin with a dot;
/// - it was last modified after `t − W`, and no later than `t`. `W` is how long files are
///   [remembered](Self::remember): by default 60 s, rounded up to whole batch intervals;
/// - it was last modified after the source was started, unless [older files](Self::new_files_only)
///   are requested too, up to one `W` back;
/// - no remembered batch has taken a file of this path.
///
/// Files should appear in the directory complete: write them elsewhere on the same file system, or
/// under a name that begins with a dot, and rename them. A file that is still being written is read
/// up to its current end; the rest is never read, because its path has been taken. A file renamed
/// into place keeps its modification time and must not be older than `W`. A file renamed after it
/// was taken has another path and is taken again. A [`Notice`](crate::notice::Notice) reports a
/// file that grew, was replaced or is counted again.
///
/// Modification times are those of the file system, in whole milliseconds. They are compared with
/// the run's clock. Linux stamps a file with the time of the last tick, up to 10 ms ago: a file
/// written at the very start may seem older. If another machine stamps the files, its clock counts.
/// If that clock is ahead, files are taken that much later. If it is behind, files from just after
/// the start are missed; if it is behind by `W` or more, all of them are missed.
///
/// ```
/// use std::time::Duration;
/// use microtally::sources::FileOptions;
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
    filter: PathFilter,
}

type PathFilter = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

impl Default for FileOptions {
    /// New files whose names do not begin with a dot, remembered for 60 s, as in Spark.
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
    /// Sets whether files from before the start are skipped; the default is `true`.
    pub fn new_files_only(mut self, new_files_only: bool) -> Self {
        self.new_files_only = new_files_only;
        self
    }

    /// Sets how long files are remembered, at least: 1 ms to 366 days, in whole milliseconds. A
    /// file that appears with an older modification time is never taken. Costs memory for the names
    /// of the files of that time.
    pub fn remember(mut self, at_least: Duration) -> Self {
        self.remember = at_least;
        self
    }

    /// Sets the filter of paths, in place of the one against a leading dot. It is called with the
    /// path of the directory joined with the file's name, for every file in every batch.
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

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Milliseconds since 1970, rounded down.
    pub(crate) modified_ms: u64,
    pub(crate) path: PathBuf,
}

/// The rule, applied to batch times in order.
pub(crate) struct Selection {
    /// A whole number of batch intervals.
    window_ms: u64,
    /// Files must be newer than this.
    after_ms: u64,
    filter: PathFilter,
    /// Remembered batch times with the files they took, oldest first.
    taken: VecDeque<(u64, Vec<PathBuf>)>,
    /// The same files.
    known: HashSet<PathBuf>,
}

impl Selection {
    /// Creates the rule for batches `interval_ms` apart and files newer than `after_ms`.
    pub(crate) fn new(
        interval_ms: u64,
        remember_ms: u64,
        after_ms: u64,
        filter: PathFilter,
    ) -> Self {
        Selection {
            window_ms: remember_ms.next_multiple_of(interval_ms),
            after_ms,
            filter,
            taken: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Returns `true` if some batch may take the path, depending on its modification time.
    pub(crate) fn is_open_to(&self, path: &Path) -> bool {
        !self.known.contains(path) && (self.filter)(path)
    }

    /// Returns the files of `listing` that belong to the batch of this time, by modification time
    /// and then by path, and remembers them.
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
        // Spark forgets after the batch: the next batch still remembers one from exactly a window
        // ago.
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

/// The files in one directory, or in several that a pattern names.
///
/// Each batch lists the directories and looks at each file that is not remembered, so a directory
/// should not keep more than some ten thousand old files.
pub(crate) struct Directory {
    name: String,
    pattern: PathPattern,
    options: FileOptions,
    interval_ms: u64,
    remember_ms: u64,
    selection: Selection,
    /// The last reported failure of a listing.
    reported: Option<String>,
    counted: CountedFiles,
    /// The time of the batch that was asked for last.
    now_ms: u64,
    /// No batch but one more comes.
    is_ending: bool,
}

impl Directory {
    /// The files in the directories that `path` names, whose names may have wildcards in them (see
    /// the module `pattern`), for batches `interval` apart.
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
            pattern: PathPattern::new(path)?,
            options,
            interval_ms,
            remember_ms,
            selection: Selection::new(interval_ms, remember_ms, 0, filter),
            reported: None,
            counted: CountedFiles::default(),
            now_ms: 0,
            is_ending: false,
        })
    }

    /// Starts the run at the time `now`, since 1970.
    pub(crate) fn start(&mut self, now: Duration) {
        let after_ms = if self.options.new_files_only {
            as_ms(now)
        } else {
            0
        };
        let filter = Arc::clone(&self.options.filter);
        self.selection = Selection::new(self.interval_ms, self.remember_ms, after_ms, filter);
    }

    /// Returns the files that belong to the batch of this time, oldest first. Called once for each
    /// time, in order. A missing directory has no files.
    pub(crate) fn files_for(
        &mut self,
        time: BatchTime,
        mut tell: impl FnMut(NoticeKind),
    ) -> Vec<PathBuf> {
        self.now_ms = time.as_millis();
        let selection = &self.selection;
        self.counted
            .check(self.is_ending, |path| selection.known.contains(path));
        self.report_counted(&mut tell);
        let Matched {
            paths, mut trouble, ..
        } = self.pattern.directories();
        let mut listing = Vec::new();
        for directory in &paths {
            if let Err(why) = list(directory, &self.selection, &mut listing) {
                trouble.get_or_insert(why);
            }
        }
        self.report(trouble, tell);
        self.selection.select(time, listing)
    }

    /// Called when a file is read from its beginning.
    pub(crate) fn begins(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        mut tell: impl FnMut(NoticeKind),
    ) {
        self.counted.begin(path, metadata);
        self.report_counted(&mut tell);
    }

    /// Called when a file was read to its end, after that many bytes.
    pub(crate) fn ends(&mut self, metadata: &Metadata, bytes: u64) {
        self.counted.end(metadata, bytes);
    }

    /// The next batch is the last one, and the last chance to report anything.
    pub(crate) fn finish(&mut self) {
        self.is_ending = true;
    }

    fn report_counted(&mut self, tell: &mut impl FnMut(NoticeKind)) {
        for message in self.counted.messages(self.now_ms, self.is_ending) {
            tell(NoticeKind::Message(message));
        }
    }

    /// Reports at the start what the first batch, perhaps much later, would report; or that it
    /// waits for files.
    pub(crate) fn report_start(&mut self, tell: impl FnOnce(NoticeKind)) {
        let Matched { paths, trouble, .. } = self.pattern.directories();
        let mut failures = paths.iter().filter_map(|directory| {
            let outcome = fs::read_dir(here(directory));
            outcome.err().map(|cause| reason(directory, &cause))
        });
        match trouble.or_else(|| failures.next()) {
            None => tell(NoticeKind::Listed),
            trouble => self.report(trouble, tell),
        }
    }

    /// Returns its name for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The notice that one of its files cannot be read.
    pub(crate) fn unreadable(&self, path: &Path, cause: &io::Error) -> NoticeKind {
        NoticeKind::Unreadable {
            path: path.to_owned(),
            reason: describe(cause),
            cause: cause.kind(),
        }
    }

    fn report(&mut self, trouble: Option<String>, tell: impl FnOnce(NoticeKind)) {
        if trouble == self.reported {
            return;
        }
        tell(match trouble.clone() {
            Some(reason) => NoticeKind::Unlisted { reason },
            None => NoticeKind::Listed,
        });
        self.reported = trouble;
    }
}

/// Adds the files of a directory that may be taken. Files that vanish meanwhile are skipped. If a
/// file cannot be looked at, the others are added all the same.
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
        // Links are followed.
        match fs::metadata(&path) {
            // Reading a pipe could block for ever.
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
