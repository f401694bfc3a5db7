//! The names that are followed: those given, and those found by patterns.
//!
//! Promise: a file that matches a pattern is found once; a change of a name is reported once.
//! Must not know: open files.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::source::file::FileId;
use crate::source::file::glob::{Matched, PathPattern, here};

/// Names that are read in some milliseconds.
const NAMES_PER_WALK: usize = 10_000;

/// One name.
pub(super) struct Name {
    pub(super) path: PathBuf,
    /// The last report of its absence.
    pub(super) reported: Option<String>,
    /// No descriptor is left for it.
    pub(super) is_crowded: bool,
    /// A pattern has found it: it is forgotten when no file has it any more.
    pub(super) is_found: bool,
    /// Its file may have existed at the start; it was not checked yet.
    pub(super) is_old: bool,
    /// The file that had the name at the start, and its size.
    pub(super) at_start: Option<(FileId, u64)>,
    /// Since when no file has the name.
    pub(super) gone_since: Option<Duration>,
}

impl Name {
    /// A name that was given, whether or not there is a file.
    pub(super) fn given(path: PathBuf) -> Self {
        Name {
            path,
            reported: None,
            is_crowded: false,
            is_found: false,
            is_old: true,
            at_start: None,
            gone_since: None,
        }
    }
}

struct FollowedPattern {
    given: PathBuf,
    pattern: PathPattern,
    /// The last report of finding nothing.
    reported: Option<String>,
    /// All matching files were found at least once: later ones are new.
    is_complete: bool,
    listed: Vec<PathBuf>,
}

/// New names that patterns have found.
#[derive(Default)]
pub(super) struct NewNames {
    /// The numbers of new names, with the pattern that each matches.
    pub(super) new: Vec<(usize, PathBuf)>,
    /// Patterns with another report than before.
    pub(super) trouble: Vec<(PathBuf, String)>,
}

/// All names that are followed, by number.
#[derive(Default)]
pub(super) struct FollowedNames {
    names: Vec<Name>,
    patterns: Vec<FollowedPattern>,
    /// The paths of all names.
    known: HashSet<PathBuf>,
    /// There may be new names.
    is_stale: bool,
    walked_at: Option<Duration>,
    /// Names that were read then; a directory counts as ten.
    cost: usize,
}

impl FollowedNames {
    pub(super) fn add(&mut self, name: Name) {
        self.known.insert(name.path.clone());
        self.names.push(name);
    }

    /// Adds a pattern, without searching yet.
    ///
    /// # Errors
    ///
    /// It is invalid or too wide.
    pub(super) fn add_pattern(&mut self, given: PathBuf) -> Result<()> {
        let pattern = PathPattern::new(&given)?;
        self.patterns.push(FollowedPattern {
            given,
            pattern,
            reported: None,
            is_complete: false,
            listed: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns `true` if a new file or directory of this name is a reason to check.
    pub(super) fn concerns(&self, name: &OsStr) -> bool {
        let is_it = |known: &Name| known.path.file_name() == Some(name);
        let fits = |pattern: &FollowedPattern| pattern.pattern.has_part(name);
        self.names.iter().any(is_it) || self.patterns.iter().any(fits)
    }

    /// Has the next check search for new names too.
    pub(super) fn search_soon(&mut self) {
        self.is_stale = true;
    }

    /// Returns `true` if it is time to search for new names: after `every`, or after `pause` if
    /// there are some. With very many names it is done less often, because nothing else is served
    /// meanwhile.
    pub(super) fn is_due(&self, now: Duration, pause: Duration, every: Duration) -> bool {
        let times = u32::try_from(1 + self.cost / NAMES_PER_WALK).unwrap_or(u32::MAX);
        self.walked_at.is_none_or(|at| {
            let since = now.saturating_sub(at);
            since >= every.saturating_mul(times)
                || (self.is_stale && since >= pause.saturating_mul(times))
        })
    }

    /// Searches for files that match the patterns.
    pub(super) fn walk(&mut self, now: Duration) -> NewNames {
        self.is_stale = false;
        self.walked_at = Some(now);
        self.cost = 0;
        let mut found = NewNames::default();
        for pattern in &mut self.patterns {
            let Matched {
                paths,
                trouble,
                is_cut,
                is_incomplete: _,
                listed,
                names,
            } = pattern.pattern.files();
            self.cost += names + 10 * listed.len();
            pattern.listed = listed;
            let is_complete = trouble.is_none() || is_cut;
            let nothing = || "no file matches".to_owned();
            let trouble = trouble.or_else(|| paths.is_empty().then(nothing));
            for path in paths {
                // Pipes and devices are not followed.
                let is_new = !self.known.contains(&path)
                    && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
                if is_new {
                    self.known.insert(path.clone());
                    found.new.push((self.names.len(), pattern.given.clone()));
                    self.names.push(Name {
                        is_found: true,
                        is_old: !pattern.is_complete,
                        ..Name::given(path)
                    });
                }
            }
            pattern.is_complete |= is_complete;
            if pattern.reported != trouble {
                if let Some(trouble) = &trouble {
                    found.trouble.push((pattern.given.clone(), trouble.clone()));
                }
                pattern.reported = trouble;
            }
        }
        found
    }

    /// Returns the directories in which new names may appear.
    pub(super) fn directories(&self) -> HashSet<&Path> {
        let parents = self.names.iter().filter_map(|name| name.path.parent());
        let listed = self.patterns.iter().flat_map(|pattern| &pattern.listed);
        parents
            .chain(listed.map(PathBuf::as_path))
            .map(here)
            .collect()
    }

    /// Forgets a name that no file has. The numbers of later names decrease by one.
    pub(super) fn forget(&mut self, number: usize) {
        let name = self.names.remove(number);
        self.known.remove(&name.path);
    }
}

impl Index<usize> for FollowedNames {
    type Output = Name;

    fn index(&self, number: usize) -> &Name {
        &self.names[number]
    }
}

impl IndexMut<usize> for FollowedNames {
    fn index_mut(&mut self, number: usize) -> &mut Name {
        &mut self.names[number]
    }
}
