//! `binary_records_stream`: files of records that are all of one length.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::notice::{Notice, Notices};
use crate::source::file::directory::{Directory, FileOptions};
use crate::stream::plan::batch_cache::{BatchCache, CachedBatch, Failure};
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator, StartContext};
use crate::stream::plan::rdd::Rdd;
use crate::stream::program::context::StreamingContext;
use crate::stream::program::listener::StreamInputInfo;
use crate::stream::program::rdd_stream::RddStream;

impl StreamingContext {
    /// The fixed-length records of new files in a directory: Spark's `binaryRecordsStream`.
    ///
    /// Each record has `record_bytes` bytes. A batch has a partition for each new file; the
    /// publisher reads the files. [`FileOptions`] says which files belong to which batch. `path`
    /// may have wildcards. A file whose length is not a multiple of `record_bytes` fails its batch.
    ///
    /// # Errors
    ///
    /// `record_bytes` is 0, or the path is invalid, as for
    /// [`text_file_stream`](StreamingContext::text_file_stream).
    pub fn binary_records_stream(
        &self,
        path: impl AsRef<Path>,
        record_bytes: usize,
    ) -> Result<RddStream<Vec<u8>>> {
        self.binary_records_stream_with(path, record_bytes, FileOptions::default())
    }

    /// As [`binary_records_stream`](Self::binary_records_stream), with options for the choice of
    /// files.
    ///
    /// # Errors
    ///
    /// As [`binary_records_stream`](Self::binary_records_stream); or the time to remember files is
    /// not whole milliseconds from 1 ms to 366 days.
    pub fn binary_records_stream_with(
        &self,
        path: impl AsRef<Path>,
        record_bytes: usize,
        options: FileOptions,
    ) -> Result<RddStream<Vec<u8>>> {
        if record_bytes == 0 {
            return Err(Error::refused("record length 0 is below 1"));
        }
        let directory = Directory::new(path.as_ref(), self.interval(), options)?;
        let (cache, name) = (BatchCache::new(), directory.name().to_owned());
        let operator = ReadFiles {
            directory,
            record_bytes,
            cache: cache.clone(),
            notices: Notices::default(),
            input_stream_id: self.plan.add_endless_input(),
        };
        let (plan, operator) = (&self.plan, Box::new(operator));
        let records = plan.stream_of(
            "binary_records_stream",
            cache,
            Vec::new(),
            plan.interval_ms(),
            operator,
        );
        plan.read_from(records.id, [name]);
        Ok(records)
    }
}

struct ReadFiles {
    directory: Directory,
    record_bytes: usize,
    cache: BatchCache<Vec<u8>>,
    notices: Notices,
    input_stream_id: usize,
}

impl ReadFiles {
    fn records(&self, bytes: &[u8]) -> std::result::Result<Vec<Vec<u8>>, Failure> {
        let records = bytes.chunks_exact(self.record_bytes);
        if let rest @ 1.. = records.remainder().len() {
            return Err(Failure::of_records(format!(
                "requirement failed: Byte array does not have correct length. {rest} did not equal \
                 recordLength: {}",
                self.record_bytes
            )));
        }
        Ok(records.map(<[u8]>::to_vec).collect())
    }
}

impl Operator for ReadFiles {
    fn kept(&self) -> &dyn KeptBatches {
        &self.cache
    }

    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.cache.start(context);
        self.directory.start(context.now);
        self.notices = context.notices.clone();
        Ok(())
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let name = self.directory.name().to_owned();
        let tell = |kind| self.notices.report(Notice::new(&name, kind));
        let mut partitions = Vec::new();
        for path in self.directory.files_for(now.time, tell) {
            match fs::read(&path) {
                Ok(bytes) => {
                    if let Ok(metadata) = fs::metadata(&path) {
                        self.directory.begins(&path, &metadata, tell);
                        self.directory.ends(&metadata, bytes.len() as u64);
                    }
                    partitions.push(self.records(&bytes)?);
                }
                Err(cause) => tell(self.directory.unreadable(&path, &cause)),
            }
        }
        let rdd = Rdd::new(partitions);
        now.inputs.push(StreamInputInfo {
            input_stream_id: self.input_stream_id,
            num_records: rdd.len() as u64,
        });
        self.cache.put(now.time, CachedBatch::Produced(Some(rdd)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::control::Stop;
    use crate::time::Clock;
    use std::fs::File;
    use std::sync::mpsc;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn files_become_records_and_a_torn_one_fails_its_batch() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8], modified_ms| {
            let path = root.path().join(name);
            fs::write(&path, bytes).unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            let modified = UNIX_EPOCH + Duration::from_millis(modified_ms);
            file.set_modified(modified).unwrap();
        };
        let ssc = StreamingContext::new(Duration::from_secs(2)).unwrap();
        let clock = Clock::manual(Duration::from_secs(12));
        ssc.set_clock(clock.clone());
        let (out, batches) = mpsc::channel();
        let records = ssc.binary_records_stream(root.path(), 2).unwrap();
        records.for_each_batch(move |rdd, time| {
            let _ = out.send((time.as_millis(), rdd.to_vec()));
        });
        put("old", b"xx", 12_000);
        put("one", &[0, 10, 13, 255], 12_001);
        put("two", &[7, 8], 14_000);
        put("torn", &[1, 2, 3], 15_000);
        put("four", &[9, 9], 17_000);
        let running = ssc.start().unwrap();
        let next = || {
            clock.advance(Duration::from_secs(2));
            batches.recv().unwrap()
        };
        assert_eq!(
            next(),
            (14_000, vec![vec![0, 10], vec![13, 255], vec![7, 8]])
        );
        assert_eq!(
            {
                clock.advance(Duration::from_secs(2));
                next()
            },
            (18_000, vec![vec![9, 9]])
        );
        let error = running.stop(Stop::Immediate).unwrap_err().to_string();
        assert!(error.contains("1 did not equal recordLength: 2"), "{error}");
    }
}
