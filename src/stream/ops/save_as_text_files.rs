//! `save_as_text_files`: a directory of text a batch.

use std::ffi::OsStr;

use crate::batch::Value;
use crate::error::Result;
use crate::repr::Repr;
use crate::sink::{KeyedTextFiles, TextFiles};
use crate::stream::plan::rdd::Record;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<T: Record + Repr> RddStream<'_, T> {
    /// Writes each batch into the directory `PREFIX-TIME.SUFFIX` (`PREFIX-TIME`, if the suffix is empty):
    /// Spark's `saveAsTextFiles`. TIME is the batch's in milliseconds; a partition is a file, a record a
    /// line, as [`TextFiles`] describes. A directory is seen only when it is complete and on disk.
    ///
    /// A batch that cannot be written ends the run.
    ///
    /// # Errors
    ///
    /// A prefix or suffix that cannot be one.
    pub fn save_as_text_files(&self, prefix: impl AsRef<OsStr>, suffix: &str) -> Result<()> {
        let mut files = TextFiles::new(prefix, suffix)?;
        self.register("save_as_text_files", move |rdd, time| {
            files.save_records(time, rdd.partitions())
        });
        Ok(())
    }
}

impl<V: Value> Reduced<'_, V> {
    /// Writes each batch into a directory of its own, as
    /// [`RddStream::save_as_text_files`] does: lines are `('key', value)`, highest value first, equal
    /// values in byte order.
    ///
    /// # Errors
    ///
    /// A prefix or suffix that cannot be one.
    pub fn save_as_text_files(&self, prefix: impl AsRef<OsStr>, suffix: &str) -> Result<()> {
        self.register("save_as_text_files", KeyedTextFiles::new(prefix, suffix)?);
        Ok(())
    }
}
