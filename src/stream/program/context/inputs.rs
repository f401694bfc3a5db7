//! Input streams of bytes: lines from sockets, standard input, directories and custom sources.
//!
//! Promise: each call makes one stream, whatever the number of its sources; nothing is opened
//! before the context starts.
//! Must not know: `ops`, `plan`, `engine`.

use std::path::Path;

use crate::config::interval_ms;
use crate::error::{Error, Result};
use crate::shard::stage::LineRecords;
use crate::source::Source;
use crate::source::file::directory::FileOptions;
use crate::source::file::directory_files::DirectoryFiles;
use crate::source::file::stdin::Stdin;
use crate::source::net::connector::Reconnect;
use crate::source::net::tcp_client::TcpClient;
use crate::stream::program::context::StreamingContext;
use crate::stream::program::dstream::DStream;

impl StreamingContext {
    /// The lines received from a host and port: Spark's `socketTextStream`.
    ///
    /// The context connects as a client, and tries again every 2 seconds while there is no
    /// connection. `start` does not wait for the connection; until then batches are empty.
    ///
    /// ```no_run
    /// use microtally::prelude::*;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.count().pprint(1);
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The host is empty, or the port is 0.
    pub fn socket_text_stream(&self, host: &str, port: u16) -> Result<DStream<LineRecords>> {
        self.socket_text_stream_with(host, port, Reconnect::default())
    }

    /// As [`socket_text_stream`](Self::socket_text_stream), with a choice of when to connect again.
    ///
    /// # Errors
    ///
    /// The host is empty, the port is 0, or the pause is not whole milliseconds from 1 ms to 366
    /// days.
    pub fn socket_text_stream_with(
        &self,
        host: &str,
        port: u16,
        reconnect: Reconnect,
    ) -> Result<DStream<LineRecords>> {
        if let Reconnect::After(pause) = reconnect {
            // The range of intervals: a pause of zero would be a loop, one beyond a year is a
            // mistake.
            interval_ms(pause).map_err(|_| {
                Error::refused(format!(
                    "reconnect pause {pause:?} is not whole milliseconds from 1 ms to 366 days"
                ))
            })?;
        }
        if host.is_empty() || port == 0 {
            return Err(Error::refused(format!(
                "cannot connect to host {host:?} port {port}"
            )));
        }
        Ok(self.add_source("socket_text_stream", TcpClient::new(host, port, reconnect)))
    }

    /// The lines of standard input. The stream ends with it.
    pub fn stdin_text_stream(&self) -> DStream<LineRecords> {
        self.add_source("stdin_text_stream", Stdin::open())
    }

    /// The lines of a source: one of [`sources`](crate::sources), or a custom [`Source`].
    ///
    /// ```
    /// use microtally::sources::Lines;
    /// use microtally::{Config, StreamingContext};
    ///
    /// let ssc = StreamingContext::one_batch(Config::default())?;
    /// let lines = ssc.source_stream(Lines::of("a\nb\na\n"));
    /// lines.count_by_value().for_each_batch(|batch, _| assert_eq!(batch.get(b"a"), Some(2)));
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn source_stream(&self, source: impl Source + 'static) -> DStream<LineRecords> {
        self.add_source("source_stream", source)
    }

    /// The lines of several sources as one stream, at the speed of one: Spark's `ssc.union` of
    /// input streams.
    ///
    /// Nothing is copied. Lines of two sources never mix; their order is undefined. The stream ends
    /// when all sources have ended.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::Config;
    /// use microtally::sources::{Lines, Source};
    ///
    /// let ssc = StreamingContext::one_batch(Config::default())?;
    /// // The last line of the first source has no end.
    /// let texts = ["a\nb", "b\nc\n"].map(|text| -> Box<dyn Source> { Box::new(Lines::of(text)) });
    /// let lines = ssc.union_sources(texts.into())?;
    /// lines.count_by_value().for_each_batch(|batch, _| assert_eq!(batch.get(b"b"), Some(2)));
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `sources` is empty.
    pub fn union_sources(&self, sources: Vec<Box<dyn Source>>) -> Result<DStream<LineRecords>> {
        if sources.is_empty() {
            return Err(Error::refused("union_sources: no source was given"));
        }
        Ok(self.add_sources("union_sources", sources))
    }

    /// The lines of new files in a directory: Spark's `textFileStream`.
    ///
    /// [`FileOptions`] says which files belong to which batch. `path` may name several directories,
    /// with `*`, `?`, `[a-z]` and `{in,out}`; their subdirectories are not searched. A missing
    /// directory is looked for in every batch. Compressed files are read as they are.
    ///
    /// # Errors
    ///
    /// The path is empty, or has an unclosed bracket or brace.
    pub fn text_file_stream(&self, path: impl AsRef<Path>) -> Result<DStream<LineRecords>> {
        self.text_file_stream_with(path, FileOptions::default())
    }

    /// As [`text_file_stream`](Self::text_file_stream), with options for the choice of files.
    ///
    /// # Errors
    ///
    /// As [`text_file_stream`](Self::text_file_stream); or the time to remember files is not whole
    /// milliseconds from 1 ms to 366 days.
    pub fn text_file_stream_with(
        &self,
        path: impl AsRef<Path>,
        options: FileOptions,
    ) -> Result<DStream<LineRecords>> {
        let interval = self.draft().interval;
        let files = DirectoryFiles::new(path, interval, options)?;
        Ok(self.add_source("text_file_stream", files))
    }

    fn add_source(
        &self,
        kind: &'static str,
        source: impl Source + 'static,
    ) -> DStream<LineRecords> {
        self.add_sources(kind, vec![Box::new(source)])
    }

    /// One stream of all `sources`, made by the method `kind`.
    fn add_sources(
        &self,
        kind: &'static str,
        sources: Vec<Box<dyn Source>>,
    ) -> DStream<LineRecords> {
        let lines = self.plan.lines(kind);
        let names = sources.iter().map(|source| source.name().to_owned());
        self.plan.read_from(lines.node, names);
        let mut draft = self.draft();
        draft.framers.extend(sources.iter().map(|_| lines.stream));
        draft.sources.extend(sources);
        lines
    }
}
