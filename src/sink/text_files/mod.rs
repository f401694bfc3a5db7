//! Batches as directories of text files: Spark's `saveAsTextFiles`.
//!
//! Promise: a directory that appears is complete, even after a crash or a power failure; once
//! [`save`](TextFiles::save) has returned, the batch is on disk.
//! Must not know: `table`, `epoch`, `window`.
//!
//! ```text
//!   out/.words-aside.txt/part-00000   written, flushed to the disk
//!   out/.words-aside.txt/_SUCCESS
//!          │ the directory is flushed, then renamed, then its parent is flushed
//!          ▼
//!   out/words-1763830345000.txt/part-00000
//!   out/words-1763830345000.txt/_SUCCESS
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

mod dir;

use self::dir::Dir;
use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::{Error, Result};
use crate::repr::Repr;
use crate::sink::{Sink, Undelivered};
use crate::time::BatchTime;

/// The empty file in a complete directory, as in Spark.
const SUCCESS: &str = "_SUCCESS";

/// Bytes that are buffered before a file is written to.
const TEXT_BYTES: usize = 64 << 10;

/// Saves each batch as a directory of text files, as Spark's `saveAsTextFiles` does.
///
/// The batch of time `t` becomes `prefix-<t ms>`, or `prefix-<t ms>.<suffix>`. It has a file
/// `part-00000`, `part-00001`, … for each partition, empty ones too, and an empty file `_SUCCESS`.
/// A batch without partitions has `_SUCCESS` only. There are no checksum files.
///
/// # Durability
///
/// A directory is written aside, flushed and renamed. So it appears as a whole or not at all,
/// whenever the program or the machine stops. Once saving returns, the batch survives a power
/// failure. That costs a flush of the disk for each part and three more, together some
/// milliseconds, so save few partitions. A batch that could not be saved leaves nothing.
///
/// The directory aside is a hidden sibling, `.<prefix>-aside.<suffix>`, used for all batches. A
/// killed run leaves it; the next run with the same prefix and suffix removes it **with all its
/// content**. So no two programs may save under the same prefix and suffix at the same time.
///
/// # Directories that exist
///
/// A second run over the same input may save a batch again. The new files are complete aside before
/// the old ones are touched. Then `_SUCCESS` is removed, every part is replaced by a rename,
/// further parts are removed, and `_SUCCESS` comes back last. So each file is either old or new,
/// and a directory with `_SUCCESS` is of one run. Other files stay. Spark also leaves the old run's
/// further parts, so a reader of the directory reads both runs.
///
/// # Symbolic links
///
/// A symbolic link in place of a batch's directory or of the one aside is an error and is not
/// followed. Anyone who can write to the directory above could have planted it, and files would be
/// written and removed where it leads. The directories above may be links.
///
/// ```
/// use microtally::time::BatchTime;
/// use microtally::sink::TextFiles;
/// # let folder = tempfile::tempdir().unwrap();
/// # let prefix = folder.path().join("words");
/// let mut files = TextFiles::new(&prefix, "txt")?;
/// let partitions = [vec![("the", 3), ("cat", 1)], vec![("dog", 1)]];
/// files.save_records(BatchTime::from_millis(5000), partitions)?;
/// let part = folder.path().join("words-5000.txt/part-00000");
/// assert_eq!(std::fs::read_to_string(part).unwrap(), "('the', 3)\n('cat', 1)\n");
/// # Ok::<(), microtally::Error>(())
/// ```
#[derive(Debug)]
pub struct TextFiles {
    prefix: OsString,
    suffix: String,
    /// In the same directory as every target, so that a rename moves it there.
    aside: PathBuf,
    /// The buffered text of a part; kept for its memory.
    text: Vec<u8>,
}

impl TextFiles {
    /// Creates a saver under `prefix`, a path whose last part begins the directories' names.
    ///
    /// Missing directories above are made when the first batch is saved. As in Spark, an empty
    /// `suffix` leaves no dot after the time, and with an empty `prefix` the name is the time.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::error::ErrorKind::Config): `suffix` contains a slash, or either contains a
    /// zero byte.
    pub fn new(prefix: impl AsRef<OsStr>, suffix: &str) -> Result<Self> {
        let prefix = prefix.as_ref();
        if suffix.contains(std::path::is_separator) {
            return Err(Error::refused(format!(
                "text files: suffix {suffix:?} contains a slash"
            )));
        }
        if suffix.contains('\0') || prefix.as_encoded_bytes().contains(&0) {
            return Err(Error::refused(format!(
                "text files: prefix {prefix:?} or suffix {suffix:?} contains a zero byte"
            )));
        }
        let name = directory(prefix, "aside", suffix);
        let mut hidden = OsString::from(".");
        hidden.push(name.file_name().expect("it ends in `aside` and more"));
        Ok(TextFiles {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            aside: name.with_file_name(hidden),
            text: Vec::with_capacity(TEXT_BYTES),
        })
    }

    /// Saves the batch of `time`. Each of `partitions` is called once, in order, with its file,
    /// which is buffered.
    ///
    /// # Errors
    ///
    /// The error of the file system or of a partition, of kind
    /// [`Sink`](crate::error::ErrorKind::Sink), with the path in its message. Nothing of the batch
    /// appears then, except that an existing directory that was being replaced may be left with
    /// files of both runs and without `_SUCCESS`.
    ///
    /// # Panics
    ///
    /// Panics if a partition does; nothing of the batch appears then.
    pub fn save<F>(
        &mut self,
        time: BatchTime,
        partitions: impl IntoIterator<Item = F>,
    ) -> Result<()>
    where
        F: FnOnce(&mut dyn Write) -> io::Result<()>,
    {
        let parts = partitions
            .into_iter()
            .map(|write| |part: &mut PartFile<'_>| write(part));
        self.save_parts(time, parts)
    }

    /// Saves the batch of `time`: a file for each of `partitions`, a line for each record, its
    /// [`write_str`](Repr::write_str). As in Spark, a record is written as it is: one with a line
    /// end becomes two lines.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    ///
    /// # Panics
    ///
    /// Panics if an iterator or a record does; nothing of the batch appears then.
    pub fn save_records<P>(
        &mut self,
        time: BatchTime,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<()>
    where
        P: IntoIterator<Item: Repr>,
    {
        let parts = partitions.into_iter().map(|records| {
            |part: &mut PartFile<'_>| {
                for record in records {
                    part.line(&record)?;
                }
                Ok(())
            }
        });
        self.save_parts(time, parts)
    }

    fn save_parts<F>(&mut self, time: BatchTime, parts: impl Iterator<Item = F>) -> Result<()>
    where
        F: FnOnce(&mut PartFile<'_>) -> io::Result<()>,
    {
        let target = directory(&self.prefix, &time.as_millis().to_string(), &self.suffix);
        let names = (last(&self.aside), last(&target));
        let above = open_durably(parent(&target)).map_err(|cause| cannot(&target, cause))?;
        let aside = make_anew(&above, names.0).map_err(|cause| cannot(&self.aside, cause))?;
        // Also if a partition panics.
        let mut leftover = RemoveOnDrop(Some((&above, names.0, &aside)));
        let mut count = 0;
        for write in parts {
            let name = part_name(count);
            let written = write_file(&aside, &name, &mut self.text, write);
            written.map_err(|cause| cannot(&self.aside.join(name), cause))?;
            count += 1;
        }
        let written = write_file(&aside, SUCCESS, &mut self.text, |_| Ok(()));
        written.map_err(|cause| cannot(&self.aside.join(SUCCESS), cause))?;
        aside.sync().map_err(|cause| cannot(&self.aside, cause))?;
        match above.rename(names.0, &above, names.1) {
            Ok(()) => {
                // What has this name from now on is not ours.
                leftover.0 = None;
                above.sync()
            }
            // A rename does not replace a directory with files.
            Err(cause) => match above.open_in(names.1) {
                Ok(target) => replace(&target, &aside, count),
                Err(there) if there.kind() == ErrorKind::NotFound => Err(cause),
                Err(there) => Err(there),
            },
        }
        .map_err(|cause| cannot(&target, cause))
    }
}

/// The last part of a path that ends in a name.
fn last(path: &Path) -> &OsStr {
    path.file_name().expect("it ends in a name")
}

/// `prefix-<name>.<suffix>`, without what is empty.
fn directory(prefix: &OsStr, name: &str, suffix: &str) -> PathBuf {
    let mut path = prefix.to_owned();
    if !path.is_empty() {
        path.push("-");
    }
    path.push(name);
    if !suffix.is_empty() {
        path.push(".");
        path.push(suffix);
    }
    path.into()
}

fn part_name(index: u64) -> String {
    format!("part-{index:05}")
}

/// The number of the part `name`, if it is one.
fn part_index(name: &OsStr) -> Option<u64> {
    let index = name.to_str()?.strip_prefix("part-")?.parse().ok()?;
    (name == &*part_name(index)).then_some(index)
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The error of a batch that cannot be written to `path`. The kind is always `Sink`: a broken pipe
/// of a partition does not mean that our reader went away.
fn cannot(path: &Path, cause: io::Error) -> Error {
    let cause = match cause.kind() {
        ErrorKind::BrokenPipe => io::Error::other(cause),
        _ => cause,
    };
    Error::output(&path.display().to_string(), &cause)
}

/// Makes the directory `name` in `above`, empty, whatever was there before.
fn make_anew(above: &Dir, name: &OsStr) -> io::Result<Dir> {
    match above.make(name) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
            // A file or a link was not left by a run of ours. What is removed is what was opened,
            // even if its path now leads elsewhere.
            above.open_in(name)?.clear()?;
            above.remove_dir(name)?;
            above.make(name)?;
        }
        made => made?,
    }
    above.open_in(name)
}

/// Opens the directory. If missing, it and those above it are made, durably.
fn open_durably(path: &Path) -> io::Result<Dir> {
    match (Dir::open(path), path.file_name()) {
        (Err(cause), Some(name)) if cause.kind() == ErrorKind::NotFound => {
            let above = open_durably(parent(path))?;
            match above.make(name) {
                // Another process was faster.
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
            above.sync()?;
            Dir::open(path)
        }
        (opened, _) => opened,
    }
}

/// Writes a new file and flushes it to the disk.
fn write_file(
    dir: &Dir,
    name: &str,
    text: &mut Vec<u8>,
    write: impl FnOnce(&mut PartFile<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let file = dir.create(name.as_ref())?;
    text.clear(); // A partition that panicked may have left text.
    let mut part = PartFile {
        file: &file,
        text,
        failed: None,
    };
    write(&mut part)?;
    part.flush()?;
    match part.failed {
        Some(kind) => Err(kind.into()),
        None => dir.sync_file(name.as_ref(), &file),
    }
}

/// Replaces the files in `target` by those in `aside`, which has `count` parts.
fn replace(target: &Dir, aside: &Dir, count: u64) -> io::Result<()> {
    let success = OsStr::new(SUCCESS);
    remove_if_any(target, success)?;
    // It has to be gone from the disk, too, before the first part is replaced.
    target.sync()?;
    for index in 0..count {
        let name = part_name(index);
        aside.rename(name.as_ref(), target, name.as_ref())?;
    }
    for name in target.names()? {
        if part_index(&name).is_some_and(|index| index >= count) {
            remove_if_any(target, &name)?;
        }
    }
    target.sync()?;
    aside.rename(success, target, success)?;
    target.sync()
}

fn remove_if_any(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match dir.remove(name) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a directory by its name in the first one, if it still exists when the batch ends,
/// however it ends.
struct RemoveOnDrop<'a>(Option<(&'a Dir, &'a OsStr, &'a Dir)>);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // If it cannot be removed, the next batch tries again and reports it. If another directory
        // has its name by now, that one stays: only an empty directory is removed by its name.
        if let Some((above, name, aside)) = self.0 {
            let _ = aside.clear().and_then(|()| above.remove_dir(name));
        }
    }
}

/// A file that is being written, with a buffer that outlives it.
struct PartFile<'a> {
    file: &'a File,
    text: &'a mut Vec<u8>,
    /// Writing failed. The file is incomplete, even if the partition ignores that.
    failed: Option<ErrorKind>,
}

impl PartFile<'_> {
    /// Writes without the buffer.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        if let Err(cause) = &written {
            self.failed = Some(cause.kind());
        }
        written
    }

    /// Writes a record and a line end.
    fn line(&mut self, record: &impl Repr) -> io::Result<()> {
        record.write_str(self.text);
        self.text.push(b'\n');
        if self.text.len() >= TEXT_BYTES {
            self.flush()?;
        }
        Ok(())
    }
}

impl Write for PartFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > TEXT_BYTES {
            self.flush()?;
        }
        if bytes.len() >= TEXT_BYTES {
            self.put(bytes)?;
            return Ok(bytes.len());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Hands the text to the operating system, but not yet to the disk.
    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(self.text);
        let written = self.put(&text);
        *self.text = text;
        self.text.clear();
        written
    }
}

/// Saves batches of keys and values as text files, in the way of [`TextFiles`].
///
/// A line is `('word', 3)`, Python's `str` of the tuple, as in PySpark. All lines are in one file,
/// `part-00000`: highest value first, equal values in byte order of the keys. So two runs over the
/// same input write the same bytes, whatever the number of threads. Spark leaves the order open and
/// writes a file for each partition. A batch without keys has no part.
///
/// Ranking takes 24 bytes and the size of a value for each key of the largest batch.
#[derive(Debug)]
pub struct KeyedTextFiles<V: 'static> {
    files: TextFiles,
    ranking: Ranking<V>,
}

impl<V: Value> KeyedTextFiles<V> {
    /// Creates a saver under `prefix` with `suffix`, as [`TextFiles::new`] does.
    ///
    /// # Errors
    ///
    /// As for [`TextFiles::new`].
    pub fn new(prefix: impl AsRef<OsStr>, suffix: &str) -> Result<Self> {
        Ok(KeyedTextFiles {
            files: TextFiles::new(prefix, suffix)?,
            ranking: Ranking::with_capacity(0),
        })
    }
}

impl<V: Value> Sink<V> for KeyedTextFiles<V> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let files = &mut self.files;
        self.ranking.top(batch, usize::MAX, |rows| {
            let partition = (rows.len() > 0).then_some(rows);
            files.save_records(batch.time(), partition)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
