//! The names that are followed: those that were given, and those that patterns have found.
//!
//! Promise: a file that fits a pattern is found once; what a name is told about is told once a change.
//! Must not know: open files.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reading::Id;
use crate::error::Result;
use crate::source::file::glob::{Matched, Pattern, here};

/// Names that are looked at in some milliseconds.
const NAMES_PER_WALK: usize = 10_000;

/// One name.
pub(super) struct Name {
    pub(super) path: PathBuf,
    /// What people were told last about its absence.
    pub(super) told: Option<String>,
    /// There is no descriptor for it.
    pub(super) is_crowded: bool,
    /// A pattern has found it: when nobody has the name any more, it is forgotten.
    pub(super) is_found: bool,
    /// What has the name may have been there at the start; nobody has looked yet.
    pub(super) is_old: bool,
    /// What had the name at the start, and how long it was.
    pub(super) at_start: Option<(Id, u64)>,
    /// Since when nobody has the name.
    pub(super) gone_since: Option<Duration>,
}

impl Name {
    /// A name that somebody wants to follow, whether or not there is a file.
    pub(super) fn given(path: PathBuf) -> Self {
        Name {
            path,
            told: None,
            is_crowded: false,
            is_found: false,
            is_old: true,
            at_start: None,
            gone_since: None,
        }
    }
}

struct Wanted {
    given: PathBuf,
    pattern: Pattern,
    /// What people were told last about finding nothing.
    told: Option<String>,
    /// All of what fits was found at least once: what comes later is new.
    is_complete: bool,
    listed: Vec<PathBuf>,
}

/// What patterns have found.
#[derive(Default)]
pub(super) struct Found {
    /// Numbers of new names, with the pattern that each fits.
    pub(super) new: Vec<(usize, PathBuf)>,
    /// Patterns of which there is something else to say than before.
    pub(super) trouble: Vec<(PathBuf, String)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    names: Vec<Name>,
    wanted: Vec<Wanted>,
    /// The paths of all names.
    known: HashSet<PathBuf>,
    /// There may be new names.
    is_stale: bool,
    walked_at: Option<Duration>,
    /// Names that were looked at then, one of a directory's counting as ten.
    cost: usize,
}

impl Names {
    pub(super) fn add(&mut self, name: Name) {
        self.known.insert(name.path.clone());
        self.names.push(name);
    }

    /// Adds a pattern, of which nothing is looked for yet.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(super) fn add_pattern(&mut self, given: PathBuf) -> Result<()> {
        let pattern = Pattern::new(&given)?;
        self.wanted.push(Wanted {
            given,
            pattern,
            told: None,
            is_complete: false,
            listed: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether a new name of this file or directory is a reason to look.
    pub(super) fn want(&self, name: &OsStr) -> bool {
        let is_it = |known: &Name| known.path.file_name() == Some(name);
        let fits = |wanted: &Wanted| wanted.pattern.has_part(name);
        self.names.iter().any(is_it) || self.wanted.iter().any(fits)
    }

    /// The next look looks for new names too.
    pub(super) fn look_for_new_ones(&mut self) {
        self.is_stale = true;
    }

    /// Whether to look for new names: it has been that long, or there are some, and not just now. Where there are
    /// very many names it is done less often: nobody else is served meanwhile.
    pub(super) fn is_due(&self, now: Duration, pause: Duration, every: Duration) -> bool {
        let times = u32::try_from(1 + self.cost / NAMES_PER_WALK).unwrap_or(u32::MAX);
        self.walked_at.is_none_or(|at| {
            let since = now.saturating_sub(at);
            since >= every.saturating_mul(times)
                || (self.is_stale && since >= pause.saturating_mul(times))
        })
    }

    /// Looks for files that fit the patterns.
    pub(super) fn walk(&mut self, now: Duration) -> Found {
        self.is_stale = false;
        self.walked_at = Some(now);
        self.cost = 0;
        let mut found = Found::default();
        for wanted in &mut self.wanted {
            let Matched {
                paths,
                trouble,
                is_cut,
                is_incomplete: _,
                listed,
                names,
            } = wanted.pattern.files();
            self.cost += names + 10 * listed.len();
            wanted.listed = listed;
            let is_complete = trouble.is_none() || is_cut;
            let nothing = || "no file has such a name".to_owned();
            let trouble = trouble.or_else(|| paths.is_empty().then(nothing));
            for path in paths {
                // A pipe or a device is read as it comes, by somebody else.
                let is_new = !self.known.contains(&path)
                    && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
                if is_new {
                    self.known.insert(path.clone());
                    found.new.push((self.names.len(), wanted.given.clone()));
                    self.names.push(Name {
                        is_found: true,
                        is_old: !wanted.is_complete,
                        ..Name::given(path)
                    });
                }
            }
            wanted.is_complete |= is_complete;
            if wanted.told != trouble {
                if let Some(trouble) = &trouble {
                    found.trouble.push((wanted.given.clone(), trouble.clone()));
                }
                wanted.told = trouble;
            }
        }
        found
    }

    /// The directories in which new names may appear.
    pub(super) fn directories(&self) -> HashSet<&Path> {
        let parents = self.names.iter().filter_map(|name| name.path.parent());
        let listed = self.wanted.iter().flat_map(|wanted| &wanted.listed);
        parents
            .chain(listed.map(PathBuf::as_path))
            .map(here)
            .collect()
    }

    /// Forgets a name that no file has. Those behind it have numbers that are one less.
    pub(super) fn forget(&mut self, number: usize) {
        let name = self.names.remove(number);
        self.known.remove(&name.path);
    }
}

impl Index<usize> for Names {
    type Output = Name;

    fn index(&self, number: usize) -> &Name {
        &self.names[number]
    }
}

impl IndexMut<usize> for Names {
    fn index_mut(&mut self, number: usize) -> &mut Name {
        &mut self.names[number]
    }
}
