//! `save_as_text_files`: each batch as a directory of text files.

use std::ffi::OsStr;

use crate::batch::Value;
use crate::error::Result;
use crate::repr::Repr;
use crate::sink::{KeyedTextFiles, TextFiles};
use crate::stream::plan::rdd::Record;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<T: Record + Repr> RddStream<T> {
    /// Writes each batch into the directory `PREFIX-TIME.SUFFIX`, or `PREFIX-TIME` if the suffix is
    /// empty: Spark's `saveAsTextFiles`.
    ///
    /// TIME is the batch time in milliseconds. Each partition is a file and each record a line; see
    /// [`TextFiles`]. Unlike Spark's, a directory appears only when it is complete and on disk. A
    /// batch that cannot be written ends the run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let prefix = folder.path().join("numbers");
    /// use microtally::stream::run_batches;
    /// run_batches([vec![1, 2]], |numbers| {
    ///     numbers.save_as_text_files(&prefix, "txt")?;
    ///     Ok(numbers)
    /// })?;
    /// let part = folder.path().join("numbers-1000.txt/part-00000");
    /// assert_eq!(std::fs::read_to_string(part).unwrap(), "1\n2\n");
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The prefix or suffix is not valid in a file name.
    pub fn save_as_text_files(&self, prefix: impl AsRef<OsStr>, suffix: &str) -> Result<()> {
        let mut files = TextFiles::new(prefix, suffix)?;
        self.register("save_as_text_files", move |rdd, time| {
            files.save_records(time, rdd.partitions())
        });
        Ok(())
    }
}

impl<V: Value> Reduced<V> {
    /// Writes each batch into a directory, as [`RddStream::save_as_text_files`] does. Lines are
    /// `('key', value)`, highest value first, equal values in byte order of the keys.
    ///
    /// # Errors
    ///
    /// The prefix or suffix is not valid in a file name.
    pub fn save_as_text_files(&self, prefix: impl AsRef<OsStr>, suffix: &str) -> Result<()> {
        self.register("save_as_text_files", KeyedTextFiles::new(prefix, suffix)?);
        Ok(())
    }
}
