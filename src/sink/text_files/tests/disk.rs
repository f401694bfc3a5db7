//! A disk that forgets what was not flushed.
//!
//! Method: what [`Dir`](super::super::dir::Dir) does is written down as it happens. The model then
//! loses power after every single step, once for every choice of the changes that were not flushed
//! by then: each may be on the disk or not, independently of the others. A change of a directory is
//! flushed with that directory, the bytes of a file with the file; a rename between two directories
//! is a change of each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

#[derive(Clone, Debug)]
enum DiskStep {
    Made(PathBuf),
    Created(PathBuf),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
    Synced(PathBuf, Vec<u8>),
}

thread_local! {
    static STEPS: RefCell<Vec<DiskStep>> = const { RefCell::new(Vec::new()) };
}

fn push(step: DiskStep) {
    STEPS.with_borrow_mut(|steps| steps.push(step));
}

pub(in crate::sink::text_files) fn made(path: &Path) {
    push(DiskStep::Made(path.to_owned()));
}

pub(in crate::sink::text_files) fn created(path: &Path) {
    push(DiskStep::Created(path.to_owned()));
}

pub(in crate::sink::text_files) fn renamed(from: &Path, to: &Path) {
    push(DiskStep::Renamed(from.to_owned(), to.to_owned()));
}

pub(in crate::sink::text_files) fn removed(path: &Path) {
    push(DiskStep::Removed(path.to_owned()));
}

pub(in crate::sink::text_files) fn synced(path: &Path) {
    // A directory has no bytes.
    push(DiskStep::Synced(
        path.to_owned(),
        fs::read(path).unwrap_or_default(),
    ));
}

/// Number of a file or directory; 0 is the root.
type Inode = usize;

/// What a directory holds.
type DirEntries = BTreeMap<String, Inode>;

/// A change of a directory: names mean something else, or nothing, from then on.
#[derive(Clone)]
struct DirChange {
    dir: Inode,
    names: Vec<(String, Option<Inode>)>,
}

#[derive(Clone)]
enum Thing {
    Dir(DirEntries),
    /// The bytes that were flushed.
    File(Vec<u8>),
}

#[derive(Clone)]
struct Disk {
    root: PathBuf,
    /// As running programs see it.
    now: Vec<Thing>,
    /// As it is after a loss of power.
    flushed: Vec<Thing>,
    /// Changes that were not flushed, in their order.
    pending: Vec<DirChange>,
}

impl Disk {
    fn new(root: &Path) -> Self {
        let empty = || vec![Thing::Dir(DirEntries::new())];
        Disk {
            root: root.to_owned(),
            now: empty(),
            flushed: empty(),
            pending: Vec::new(),
        }
    }

    fn find(&self, path: &Path) -> Inode {
        let inside = path.strip_prefix(&self.root).expect("in the folder");
        inside.iter().fold(0, |at, name| match &self.now[at] {
            Thing::Dir(names) => names[name.to_str().unwrap()],
            Thing::File(_) => panic!("{path:?} is below a file"),
        })
    }

    /// The directory of a path, and its name there.
    fn place(&self, path: &Path) -> (Inode, String) {
        let name = path.file_name().unwrap().to_str().unwrap();
        (self.find(path.parent().unwrap()), name.to_owned())
    }

    fn change(&mut self, dir: Inode, names: Vec<(String, Option<Inode>)>) {
        let change = DirChange { dir, names };
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    fn step(&mut self, step: &DiskStep) {
        match step {
            DiskStep::Made(path) | DiskStep::Created(path) => {
                let (dir, name) = self.place(path);
                let thing = match step {
                    DiskStep::Made(_) => Thing::Dir(DirEntries::new()),
                    _ => Thing::File(b"lost".to_vec()),
                };
                self.now.push(thing.clone());
                self.flushed.push(thing);
                self.change(dir, vec![(name, Some(self.now.len() - 1))]);
            }
            DiskStep::Removed(path) => {
                let (dir, name) = self.place(path);
                self.change(dir, vec![(name, None)]);
            }
            DiskStep::Renamed(from, to) => {
                let moved = Some(self.find(from));
                let ((old_dir, old), (dir, name)) = (self.place(from), self.place(to));
                if old_dir == dir {
                    self.change(dir, vec![(old, None), (name, moved)]);
                } else {
                    self.change(dir, vec![(name, moved)]);
                    self.change(old_dir, vec![(old, None)]);
                }
            }
            DiskStep::Synced(path, bytes) => {
                let number = self.find(path);
                for things in [&mut self.now, &mut self.flushed] {
                    if let Thing::File(flushed) = &mut things[number] {
                        flushed.clone_from(bytes);
                    }
                }
                for change in &self.pending {
                    if change.dir == number {
                        apply(&mut self.flushed, change);
                    }
                }
                self.pending.retain(|change| change.dir != number);
            }
        }
    }

    /// Everything that may be there after a loss of power.
    fn losses(&self) -> impl Iterator<Item = Tree> {
        assert!(self.pending.len() < 16, "few enough to try all");
        (0..1u32 << self.pending.len()).map(|kept| {
            let mut things = self.flushed.clone();
            for (index, change) in self.pending.iter().enumerate() {
                if kept >> index & 1 == 1 {
                    apply(&mut things, change);
                }
            }
            tree_of(&things)
        })
    }
}

fn apply(things: &mut [Thing], change: &DirChange) {
    let Thing::Dir(names) = &mut things[change.dir] else {
        panic!("only directories hold names");
    };
    for (name, is) in &change.names {
        match is {
            Some(number) => names.insert(name.clone(), *number),
            None => names.remove(name),
        };
    }
}

fn tree_of(things: &[Thing]) -> Tree {
    let mut tree = Tree::new();
    walk(things, 0, "", &mut tree);
    tree
}

fn walk(things: &[Thing], at: Inode, path: &str, tree: &mut Tree) {
    match &things[at] {
        Thing::File(bytes) => drop(tree.insert(path.to_owned(), bytes.clone())),
        Thing::Dir(names) => {
            if names.is_empty() {
                tree.insert(format!("{path}/"), Vec::new());
            }
            for (name, number) in names {
                let slash = if path.is_empty() { "" } else { "/" };
                walk(things, *number, &format!("{path}{slash}{name}"), tree);
            }
        }
    }
}

/// What of a tree is in the batch's directory; an empty one is an entry without a name.
fn batch(tree: &Tree) -> Tree {
    let files = tree.iter();
    let inside = files.filter_map(|(path, bytes)| {
        let name = path.strip_prefix("deep/er/words-5000.txt/")?;
        Some((name.to_owned(), bytes.clone()))
    });
    inside.collect()
}

/// What a run did, and what the batch's directory holds when it has returned.
type SavedRun = (Vec<DiskStep>, Tree);

/// Three runs that save the same batch: the first one, one with fewer parts, one with more.
fn runs(folder: &TempDir) -> Vec<SavedRun> {
    STEPS.take();
    let mut files = TextFiles::new(folder.path().join("deep/er/words"), "txt").unwrap();
    let counts = [2u64, 1, 3].into_iter().enumerate();
    let run = |(run, parts): (usize, u64)| {
        let text = format!("run {run}");
        let records = vec![[&text]; parts as usize];
        files.save_records(time(), records).unwrap();
        let part = |index| (part_name(index), format!("{text}\n").into_bytes());
        let mut after: Tree = (0..parts).map(part).collect();
        after.insert(SUCCESS.to_owned(), Vec::new());
        assert_eq!(batch(&tree(folder.path())), after);
        (STEPS.take(), after)
    };
    counts.map(run).collect()
}

/// Loses power after every step of every run.
///
/// # Errors
///
/// Something is broken then.
fn lose_power(root: &Path, runs: &[SavedRun]) -> std::result::Result<(), String> {
    let mut disk = Disk::new(root);
    let mut before = Tree::new();
    for (run, (steps, after)) in runs.iter().enumerate() {
        for step in steps {
            disk.step(step);
            for tree in disk.losses() {
                let seen = batch(&tree);
                if seen == before || seen == *after {
                    continue;
                }
                // A directory that is being replaced has no mark, and whole files of both runs.
                let is_whole = |(name, bytes): (&String, &Vec<u8>)| {
                    [&before, after]
                        .iter()
                        .any(|run| run.get(name) == Some(bytes))
                };
                let is_marked = seen.contains_key(SUCCESS);
                if run == 0 || is_marked || !seen.iter().all(is_whole) {
                    return Err(format!("run {run}, {step:?}: {seen:?}"));
                }
            }
        }
        if let Some(tree) = disk.losses().find(|tree| batch(tree) != *after) {
            return Err(format!("run {run} was saved: {:?}", batch(&tree)));
        }
        before.clone_from(after);
    }
    Ok(())
}

#[test]
fn a_loss_of_power_leaves_a_batch_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    lose_power(folder.path(), &runs(&folder)).unwrap();
}

#[test]
fn every_flush_is_needed() {
    let folder = TempDir::new().unwrap();
    let runs = runs(&folder);
    let is_flush = |step: &DiskStep| matches!(step, DiskStep::Synced(..));
    for run in 0..runs.len() {
        for index in 0..runs[run].0.len() {
            // Of a directory that is not renamed as a whole, only the files are needed.
            let aside = folder.path().join("deep/er/.words-aside.txt");
            let is_spare =
                matches!(&runs[run].0[index], DiskStep::Synced(path, _) if *path == aside);
            if is_flush(&runs[run].0[index]) && !(run > 0 && is_spare) {
                let mut fewer = runs.clone();
                let left_out = fewer[run].0.remove(index);
                let lost = lose_power(folder.path(), &fewer);
                assert!(lost.is_err(), "run {run} without {left_out:?}");
            }
        }
    }
}
