//! `files_stream` and `start_files`: files as a stream, or read all at once.

use std::sync::Arc;

use crate::engine;
use crate::engine::control::Control;
use crate::engine::scan::FilesOf;
use crate::error::{Error, Result};
use crate::ring::Wake;
use crate::shard::stage::LineRecords;
use crate::source::Source;
use crate::source::file::files::Files;
use crate::stream::program::context::StreamingContext;
use crate::stream::program::dstream::DStream;
use crate::stream::program::running::RunningContext;

impl StreamingContext {
    /// The lines of files, read one after another to their ends; then the stream ends. It is the
    /// stream that [`source_stream`](Self::source_stream) makes of them, and
    /// [`start_files`](Self::start_files) can read it on all cores.
    pub fn files_stream(&self, files: Files) -> DStream<LineRecords> {
        let lines = self.plan.lines("files_stream");
        self.plan.read_from(lines.node, [files.name().to_owned()]);
        let stream = lines.stream;
        self.draft().files.push(FilesOf { stream, files });
        lines
    }

    /// Starts a program whose only input is [files](Self::files_stream): the fastest way to count
    /// files.
    ///
    /// The files are read on all cores at once, without a reading thread, and published as one
    /// batch, however long that takes. Every core has a worker unless
    /// [`Config::workers`](crate::Config::workers) sets another number. Free workers read parts of
    /// large files, so the order of records is undefined. The batch has the time that it would have
    /// if all of its input had arrived at its end.
    ///
    /// A graceful [`stop`](RunningContext::stop) publishes what was counted by then, within
    /// milliseconds. Records that the stop cuts off are dropped and counted in
    /// [`truncated_records`](crate::batch::BatchStats::truncated_records).
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::sources::{Files, expand};
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let files = Files::open(expand(["src/*.rs"])?)?;
    /// ssc.files_stream(files).flat_map(split(b' ')).count_by_value().pprint(10);
    /// ssc.start_files()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No output was registered, there are no files, or there is other input; or the system refuses
    /// a thread or memory.
    pub fn start_files(self) -> Result<RunningContext> {
        let (mut draft, plan) = self.finish()?;
        let sets = std::mem::take(&mut draft.files);
        if sets.is_empty() || !draft.sources.is_empty() || plan.is_endless {
            return Err(Error::refused(
                "start_files: the program's only input must be files; use start instead",
            ));
        }
        // No thread sleeps, so none has to be woken.
        let control = Control::new(Arc::new(|| ()));
        draft.report_to(&control);
        let now = draft.clock.now();
        let (blueprint, _) = draft.blueprint(plan, Arc::clone(&control), Wake::new(|| ()), now)?;
        draft
            .bus
            .notify(|listener| listener.on_streaming_started(now));
        let runtime = engine::scan::start(blueprint, sets)?;
        Ok(RunningContext { runtime, control })
    }
}
