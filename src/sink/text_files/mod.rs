//! Batches as directories of text files: Spark's `saveAsTextFiles`.
//!
//! Promise: a directory that can be seen is complete, also after a crash or a power failure; when
//! [`save`](TextFiles::save) has returned, the batch is on the disk. Must not know: what a line
//! means.
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
use crate::sink::Sink;
use crate::time::BatchTime;

/// What stands in a directory that is complete: an empty file, as Spark writes it.
const SUCCESS: &str = "_SUCCESS";

/// Bytes that are gathered before a file is written to.
const TEXT_BYTES: usize = 64 << 10;

/// Saves each batch as a directory of text files, as Spark's `saveAsTextFiles` does.
///
/// The batch of time `t` becomes `prefix-<t ms>`, or `prefix-<t ms>.<suffix>`, with a file
/// `part-00000`, `part-00001`, … for each partition, empty ones too, and an empty file `_SUCCESS`.
/// A batch without partitions becomes a directory with `_SUCCESS` alone. There are no checksum
/// files.
///
/// # What is promised
///
/// A directory is written aside, flushed, and renamed: it is there as a whole or not at all,
/// whenever the program or the machine stops. When saving returns, the batch survives a power
/// failure; that costs a flush of the disk for each part and three more, together some
/// milliseconds, so save few partitions. A batch that could not be saved leaves nothing.
///
/// The directory aside is a sibling with a name that begins with a dot, `.<prefix>-aside.<suffix>`.
/// It is one for all batches: a run that was killed leaves one, the next run with the same prefix
/// and suffix removes it **with all that is in it**. So no two programs may save under the same
/// prefix and suffix at the same time.
///
/// # A directory that is there already
///
/// A batch may be saved again, by a second run over the same input. The new files are complete
/// aside before the old ones are touched; then `_SUCCESS` is removed, every part is replaced by a
/// rename, parts beyond the new ones are removed, and `_SUCCESS` comes back last. So each file is
/// old or new and never half, and a directory with `_SUCCESS` is of one run. Other files there are
/// left alone. Spark leaves the old run's further parts, too; who reads the directory then reads
/// both runs.
///
/// # Symbolic links
///
/// A symbolic link where a batch's directory or the one aside goes is an error and is not followed,
/// because whoever can write to the directory above could have planted it, and files would be
/// written and removed where it leads. The directories above may be links.
///
/// ```
/// use microtally::BatchTime;
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
    /// Same parent as every target, so that a rename moves it there.
    aside: PathBuf,
    /// What was not yet written of a part; kept for its memory.
    text: Vec<u8>,
}

impl TextFiles {
    /// Files under `prefix`, a path whose last part begins the directories' names; missing
    /// directories above are made when the first batch is saved. As in Spark, with an empty
    /// `suffix` there is no dot behind the time, and with an empty `prefix` the name is the time.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config): a `suffix` with a slash, or either with a zero byte.
    pub fn new(prefix: impl AsRef<OsStr>, suffix: &str) -> Result<Self> {
        let prefix = prefix.as_ref();
        if suffix.contains(std::path::is_separator) {
            return Err(Error::refused(format!(
                "suffix {suffix:?} of text files holds a slash"
            )));
        }
        if suffix.contains('\0') || prefix.as_encoded_bytes().contains(&0) {
            return Err(Error::refused(format!(
                "prefix {prefix:?} or suffix {suffix:?} of text files holds a zero byte"
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

    /// Saves the batch of `time`. Each of `partitions` is called once, in order, with the file to
    /// write to; writing is buffered.
    ///
    /// # Errors
    ///
    /// An error of the file system's or of a partition's, of kind [`Sink`](crate::ErrorKind::Sink),
    /// with the path in its message. Nothing of the batch can be seen then; only if a directory is
    /// replaced that was there already, it may be left with files of both runs and without
    /// `_SUCCESS`.
    ///
    /// # Panics
    ///
    /// When a partition does; nothing can be seen then either.
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
            .map(|write| |part: &mut Part<'_>| write(part));
        self.save_parts(time, parts)
    }

    /// Saves the batch of `time`: each of `partitions` becomes a file, each record in it a line,
    /// its [`write_str`](Repr::write_str). What a record holds is written as it is, as Spark does:
    /// one with a line end in it becomes two lines.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    ///
    /// # Panics
    ///
    /// When an iterator or a record does; nothing can be seen then.
    pub fn save_records<P>(
        &mut self,
        time: BatchTime,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<()>
    where
        P: IntoIterator<Item: Repr>,
    {
        let parts = partitions.into_iter().map(|records| {
            |part: &mut Part<'_>| {
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
        F: FnOnce(&mut Part<'_>) -> io::Result<()>,
    {
        let target = directory(&self.prefix, &time.as_millis().to_string(), &self.suffix);
        let names = (last(&self.aside), last(&target));
        let above = open_durably(parent(&target)).map_err(|cause| cannot(&target, cause))?;
        let aside = make_anew(&above, names.0).map_err(|cause| cannot(&self.aside, cause))?;
        // Also on a panic of a partition's.
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
                // What has that name from now on is not ours.
                leftover.0 = None;
                above.sync()
            }
            // A directory with files is not replaced by a rename.
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

/// The number of a part, if `name` is one's.
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

/// An error of a batch that cannot be written to `path`. A pipe of the partition's that broke is no
/// reader of ours that went away, so the kind is `Sink` whatever the cause.
fn cannot(path: &Path, cause: io::Error) -> Error {
    let cause = match cause.kind() {
        ErrorKind::BrokenPipe => io::Error::other(cause),
        _ => cause,
    };
    Error::output(&path.display().to_string(), &cause)
}

/// Makes the directory `name` in `above`, empty whatever was there before.
fn make_anew(above: &Dir, name: &OsStr) -> io::Result<Dir> {
    match above.make(name) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
            // Neither a file nor a link is a directory that a run of ours has left. What is removed
            // is what was opened, whatever has that path by now.
            above.open_in(name)?.clear()?;
            above.remove_dir(name)?;
            above.make(name)?;
        }
        made => made?,
    }
    above.open_in(name)
}

/// Opens the directory. If it is missing, it is made, and those above it, so that a power failure
/// does not take them away again.
fn open_durably(path: &Path) -> io::Result<Dir> {
    match (Dir::open(path), path.file_name()) {
        (Err(cause), Some(name)) if cause.kind() == ErrorKind::NotFound => {
            let above = open_durably(parent(path))?;
            match above.make(name) {
                // Somebody else was faster.
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
    write: impl FnOnce(&mut Part<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let file = dir.create(name.as_ref())?;
    text.clear(); // A partition that panicked may have left something.
    let mut part = Part {
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

/// Puts the files of `aside`, `count` parts, in the place of those in `target`.
fn replace(target: &Dir, aside: &Dir, count: u64) -> io::Result<()> {
    let success = OsStr::new(SUCCESS);
    remove_if_any(target, success)?;
    // On the disk, too, it has to be gone before the first part is replaced.
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

/// Removes a directory, which has this name in the first one, if it is still there when the batch
/// is done, however it ended.
struct RemoveOnDrop<'a>(Option<(&'a Dir, &'a OsStr, &'a Dir)>);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // If it cannot be removed, the next batch tries again and says so. What has its name by now
        // is another one's and stays: only an empty directory is removed by its name.
        if let Some((above, name, aside)) = self.0 {
            let _ = aside.clear().and_then(|()| above.remove_dir(name));
        }
    }
}

/// A file that is being written, behind a buffer that outlives it.
struct Part<'a> {
    file: &'a File,
    text: &'a mut Vec<u8>,
    /// The file is not what it should be, even if a partition goes on as if it was.
    failed: Option<ErrorKind>,
}

impl Part<'_> {
    /// Writes past the buffer.
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

impl Write for Part<'_> {
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

    /// Hands the text to the operating system, not yet to the disk.
    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(self.text);
        let written = self.put(&text);
        *self.text = text;
        self.text.clear();
        written
    }
}

/// Saves batches of keys and values as text files; see [`TextFiles`] for where and how.
///
/// The lines are `('word', 3)`: Python's `str` of the tuple, what PySpark writes. All are in one
/// file, `part-00000`, highest value first and equal values in byte order of the key, whatever the
/// number of threads, so that two runs over the same input write the same bytes. Spark leaves the
/// order open and writes a file for each of its partitions. A batch without keys has no part.
///
/// Ranking takes 24 bytes and the size of a value for each key of the largest batch.
#[derive(Debug)]
pub struct KeyedTextFiles<V: 'static> {
    files: TextFiles,
    ranking: Ranking<V>,
}

impl<V: Value> KeyedTextFiles<V> {
    /// Files under `prefix`, with `suffix` behind the batch time, as for [`TextFiles::new`].
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
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let files = &mut self.files;
        self.ranking.top(batch, usize::MAX, |rows| {
            let partition = (rows.len() > 0).then_some(rows);
            files.save_records(batch.time(), partition)
        })
    }
}

#[cfg(test)]
mod tests;
