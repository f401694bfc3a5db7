//! Input streams of bytes: lines from sockets, standard input, directories and sources of one's own.
//!
//! Promise: one stream a call, whatever the number of its sources; nothing is opened before the context starts.
//! Must not know: what is made of the lines.

use std::path::Path;

use crate::config::interval_ms;
use crate::error::{Error, Result};
use crate::shard::stage::Lines;
use crate::source::Source;
use crate::source::file::directory::FileOptions;
use crate::source::file::directory_files::DirectoryFiles;
use crate::source::file::stdin::Input;
use crate::source::net::connector::Reconnect;
use crate::source::net::tcp_client::TcpClient;
use crate::stream::program::context::{DStream, StreamingContext};

impl StreamingContext {
    /// Lines of text received from a host and port, as Spark's `socketTextStream`: connects as a
    /// client, and again every 2 seconds when there is no connection. `start` does not wait for it;
    /// batches are empty meanwhile.
    ///
    /// # Errors
    ///
    /// An empty host, or port 0.
    pub fn socket_text_stream(&self, host: &str, port: u16) -> Result<DStream<'_, Lines>> {
        self.socket_text_stream_with(host, port, Reconnect::default())
    }

    /// As [`socket_text_stream`](Self::socket_text_stream), saying what to do without a connection.
    ///
    /// # Errors
    ///
    /// An empty host, port 0, or a pause that is not whole milliseconds from 1 ms to 366 days.
    pub fn socket_text_stream_with(
        &self,
        host: &str,
        port: u16,
        reconnect: Reconnect,
    ) -> Result<DStream<'_, Lines>> {
        if let Reconnect::After(pause) = reconnect {
            // The same range: a pause of zero would be a loop, one beyond a year is a mistake.
            interval_ms(pause).map_err(|_| {
                Error::refused(format!("reconnect pause {pause:?} is outside 1 ms to 366 days, or no whole number of milliseconds"))
            })?;
        }
        if host.is_empty() || port == 0 {
            return Err(Error::refused(format!(
                "cannot connect to host {host:?} port {port}"
            )));
        }
        Ok(self.add_source(Box::new(TcpClient::new(host, port, reconnect))))
    }

    /// Lines of standard input. Its end ends the stream.
    pub fn stdin_text_stream(&self) -> DStream<'_, Lines> {
        self.add_source(Box::new(Input::stdin()))
    }

    /// Lines of a source of one's own; see [`Source`].
    pub fn source_stream(&self, source: impl Source + 'static) -> DStream<'_, Lines> {
        self.add_source(Box::new(source))
    }

    /// Lines of several sources as one stream, at the speed of one: Spark's `ssc.union` of input streams,
    /// before anything is copied. Lines of two sources never mix; which comes first is not said. The stream
    /// ends when all of them have.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use microtally::prelude::*;
    /// # use microtally::{Fill, Source};
    /// # struct Text(&'static [u8]);
    /// # impl Source for Text {
    /// #     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
    /// #         let text = std::mem::take(&mut self.0);
    /// #         buf[..text.len()].copy_from_slice(text);
    /// #         if text.is_empty() { Fill::End } else { Fill::Bytes(text.len()) }
    /// #     }
    /// #     fn name(&self) -> &str { "text" }
    /// # }
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// // `Text` gives what it holds, once. The first one's last line has no end.
    /// let lines = ssc.union_sources(vec![Box::new(Text(b"a\nb")), Box::new(Text(b"b\nc\n"))])?;
    /// let (sender, counts) = channel();
    /// lines.count_by_value().for_each_batch(move |batch, _| drop(sender.send(batch.get(b"b"))));
    /// ssc.start()?.await_termination()?;
    /// assert_eq!(counts.iter().flatten().sum::<u64>(), 2);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no source.
    pub fn union_sources(&self, sources: Vec<Box<dyn Source>>) -> Result<DStream<'_, Lines>> {
        if sources.is_empty() {
            return Err(Error::refused("there is no source to read from"));
        }
        Ok(self.add_sources(sources))
    }

    /// Lines of the files that are put into a directory, as Spark's `textFileStream`: see
    /// [`FileOptions`] for which ones, and when. `path` may name several directories, with `*`, `?`,
    /// `[a-z]` and `{in,out}` in its names; directories below them are not looked into. A directory that
    /// is not there is looked for in every batch. Compressed files are taken as they are.
    ///
    /// # Errors
    ///
    /// A path that is empty, or has a bracket or a brace without an end.
    pub fn text_file_stream(&self, path: impl AsRef<Path>) -> Result<DStream<'_, Lines>> {
        self.text_file_stream_with(path, FileOptions::default())
    }

    /// As [`text_file_stream`](Self::text_file_stream), saying which files.
    ///
    /// # Errors
    ///
    /// As [`text_file_stream`](Self::text_file_stream); a time to remember files that is not whole
    /// milliseconds from 1 ms to 366 days.
    pub fn text_file_stream_with(
        &self,
        path: impl AsRef<Path>,
        options: FileOptions,
    ) -> Result<DStream<'_, Lines>> {
        let interval = self.draft.borrow().interval;
        let files = DirectoryFiles::new(path, interval, options)?;
        Ok(self.add_source(Box::new(files)))
    }

    fn add_source(&self, source: Box<dyn Source>) -> DStream<'_, Lines> {
        self.add_sources(vec![source])
    }

    /// One stream of all of them.
    pub(super) fn add_sources(&self, sources: Vec<Box<dyn Source>>) -> DStream<'_, Lines> {
        let input = self.add_input();
        let mut draft = self.draft.borrow_mut();
        draft.byte_inputs.push(input);
        let stream = draft.byte_inputs.len() - 1;
        draft.framers.extend(sources.iter().map(|_| stream));
        draft.sources.extend(sources);
        DStream {
            context: self,
            stream,
            records: Lines,
        }
    }
}
