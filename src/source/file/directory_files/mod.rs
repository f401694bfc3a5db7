//! `text-files`: the lines of the files that are put into a directory, like Spark's
//! `textFileStream`.
//!
//! Promise: a batch holds the files that `directory` selects for it, each read once from beginning
//! to end; lines of two files never mix. Must not know: `glob`, records.
//!
//! The end of a file ends its last line. Files are read one after another on the reading thread,
//! straight into the blocks; their content is counted on all cores.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::intake::Intake;
use crate::notice::NoticeKind;
use crate::source::codec::decoder::FirstBytes;
use crate::source::codec::encoding::utf8_mark_bytes;
use crate::source::file::directory::{Directory, FileOptions};
use crate::source::file::files::has_shrunk;
use crate::source::{Fill, Port, ReadOutcome, Source, read_once, sniff};
use crate::time::BatchTime;

/// A source of the lines of files that are put into a directory.
///
/// [`text_file_stream`](crate::StreamingContext::text_file_stream) reads it. [`FileOptions`] has
/// the rule for which file belongs to which batch, whatever other sources there are: when a batch
/// is due, its files are read first, whole, while other sources wait; then the batch is cut.
///
/// A file that becomes shorter while it is read is reported with
/// [`NoticeKind::Shorter`](crate::notice::NoticeKind::Shorter), and the line that was cut is not
/// counted.
///
/// A UTF-8 mark at the beginning of a file is skipped, as in Hadoop's `TextInputFormat`; nothing is
/// decoded. A file that does not begin like text, such as a compressed one, is reported with
/// [`NoticeKind::NotText`](crate::notice::NoticeKind::NotText).
///
/// ```no_run
/// use microtally::prelude::*;
/// use microtally::sources::FileOptions;
/// use microtally::sources::{DirectoryFiles, Stdin};
///
/// let interval = Duration::from_secs(5);
/// let ssc = StreamingContext::new(interval)?;
/// let files = DirectoryFiles::new("/var/spool/lines", interval, FileOptions::default())?;
/// let lines = ssc.union_sources(vec![Box::new(files), Box::new(Stdin::open())])?;
/// lines.count_by_value().pprint(10);
/// ssc.start()?.await_termination()?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct DirectoryFiles {
    directory: Directory,
    port: Port,
    /// Files of the batch that were not begun.
    left: VecDeque<PathBuf>,
    open: Option<OpenFile>,
    /// The batch that is due is not complete.
    is_due: bool,
}

/// A file that is being read.
struct OpenFile {
    path: PathBuf,
    file: File,
    /// When it was opened.
    metadata: Option<Metadata>,
    /// Bytes of a mark that were not reported as skipped.
    mark_bytes: usize,
    /// Bytes read, including those of the mark.
    bytes: u64,
}

impl DirectoryFiles {
    /// Creates a source of the directories that `path` names, with wildcards as in
    /// [`text_file_stream`](crate::StreamingContext::text_file_stream). `interval` is the batch
    /// interval of the context; files are remembered for a whole number of intervals.
    ///
    /// # Errors
    ///
    /// A path that is empty, or has an unclosed bracket or brace; an interval, or a time to
    /// remember files, that is not whole milliseconds from 1 ms to 366 days.
    pub fn new(path: impl AsRef<Path>, interval: Duration, options: FileOptions) -> Result<Self> {
        Ok(DirectoryFiles {
            directory: Directory::new(path.as_ref(), interval, options)?,
            port: Port::detached(),
            left: VecDeque::new(),
            open: None,
            is_due: false,
        })
    }

    /// Opens the next readable file.
    fn open_next(&mut self) -> Option<OpenFile> {
        while let Some(path) = self.left.pop_front() {
            match open(&path) {
                Ok((file, first)) => {
                    if let Some(looks_like) = sniff::of_file(first.bytes()) {
                        self.port.report(NoticeKind::NotText {
                            path: path.clone(),
                            looks_like,
                        });
                    }
                    let mark_bytes = utf8_mark_bytes(first.bytes());
                    let metadata = file.metadata().ok();
                    if let Some(metadata) = &metadata {
                        let report = |kind| self.port.report(kind);
                        self.directory.begins(&path, metadata, report);
                    }
                    return Some(OpenFile {
                        path,
                        file,
                        metadata,
                        mark_bytes,
                        bytes: mark_bytes as u64,
                    });
                }
                Err(cause) => self.port.report(self.directory.unreadable(&path, &cause)),
            }
        }
        None
    }
}

/// Opens a file, positioned behind a mark, and returns its first bytes as well.
fn open(path: &Path) -> io::Result<(File, FirstBytes)> {
    let mut file = File::open(path)?;
    // The first read reports an error.
    let first = FirstBytes::of(&file).unwrap_or_default();
    let mark_bytes = utf8_mark_bytes(first.bytes());
    if mark_bytes > 0 {
        file.seek(SeekFrom::Start(mark_bytes as u64))?;
    }
    Ok((file, first))
}

impl DirectoryFiles {
    /// Reads once, if that does not block.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> ReadOutcome {
        if !self.is_due {
            return ReadOutcome::Nothing(Fill::Pending(None));
        }
        if self.open.is_none() {
            self.open = self.open_next();
        }
        let Some(open) = &mut self.open else {
            self.is_due = false;
            return ReadOutcome::Nothing(Fill::Complete);
        };
        if let mark_bytes @ 1.. = std::mem::take(&mut open.mark_bytes) {
            return ReadOutcome::Skipped(mark_bytes);
        }
        loop {
            match open.file.read(buf) {
                Ok(0) => {
                    let file_bytes = open.metadata.as_ref().map_or(0, Metadata::len);
                    let is_cut = open.bytes < file_bytes && has_shrunk(&open.file, file_bytes);
                    if is_cut {
                        self.port.report(NoticeKind::Shorter {
                            path: open.path.clone(),
                            bytes: open.file.metadata().map_or(0, |metadata| metadata.len()),
                        });
                    }
                    if let Some(metadata) = &open.metadata {
                        self.directory.ends(metadata, open.bytes);
                    }
                    self.open = None;
                    return ReadOutcome::Break { clean: !is_cut };
                }
                Ok(count) => {
                    open.bytes += count as u64;
                    return ReadOutcome::Bytes(count);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    self.port
                        .report(self.directory.unreadable(&open.path, &cause));
                    self.open = None;
                    // The line it stopped in is not a record; the lines before it are.
                    return ReadOutcome::Break { clean: false };
                }
            }
        }
    }
}

debug_fields!([] DirectoryFiles, "DirectoryFiles", left);

impl Source for DirectoryFiles {
    fn start(&mut self, port: Port, now: Duration) {
        self.directory.start(now);
        self.directory.report_start(|kind| port.report(kind));
        self.port = port;
    }

    fn batch_due(&mut self, time: BatchTime) -> bool {
        let port = &self.port;
        self.left = self
            .directory
            .files_for(time, |kind| port.report(kind))
            .into();
        self.is_due = !self.left.is_empty();
        self.is_due
    }

    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |space| self.read(space))
    }

    fn drain(&mut self) -> usize {
        self.directory.finish();
        // The last batch asks for its files like any other.
        0
    }

    fn name(&self) -> &str {
        self.directory.name()
    }
}
