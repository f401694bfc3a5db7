//! The end of a connection, and of reading.
//!
//! Promise: what a connection leaves unfinished is a line, or dropped and counted.
//! Must not know: engine, notice, time.

use std::io::{self, Read};

use super::{ConnectionEvent, ConnectionSet, UnreadData};

impl<C: Read> ConnectionSet<C> {
    /// Ends reading: [`fill`](Self::fill) closes the connections, as if each had ended cleanly, and
    /// fills in what they left. The first call returns what they had sent that was not read.
    /// `unread` returns how many bytes of a connection that is, if known.
    pub fn end(&mut self, unread: impl Fn(&C) -> Option<u64>) -> Option<UnreadData> {
        if std::mem::replace(&mut self.is_ending, true) {
            return None;
        }
        let mut all = UnreadData::default();
        for client in self.slots.iter_mut().flatten().filter(|is| !is.is_idle) {
            let bytes = unread(&client.connection).unwrap_or_else(|| {
                // The byte read here would be dropped as well.
                let read = client.connection.read(&mut [0]);
                read.map_or(0, |count| count as u64)
            });
            all.clients += usize::from(bytes > 0);
            all.bytes += bytes;
        }
        Some(all)
    }

    /// Closes a client. With a `cause`, its unfinished line is dropped.
    pub(super) fn close(
        &mut self,
        number: usize,
        cause: Option<io::Error>,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) {
        let Some(mut client) = self.slots[number].take() else {
            return;
        };
        self.free.push(number);
        self.ended -= usize::from(client.has_ended);
        if client.is_ready {
            self.ready.retain(|&other| other != number);
        }
        let mut held = std::mem::take(&mut client.held);
        self.held -= held.capacity();
        let is_half = !held.is_empty() || client.is_dropping || client.is_cut;
        match &cause {
            Some(_) => self.passage.totals.truncated_records += u64::from(is_half),
            None if client.is_dropping => {
                self.passage.totals.records_ended += u64::from(!client.is_cut);
            }
            None => {}
        }
        let lost_bytes = if cause.is_some() { held.len() } else { 0 };
        if cause.is_none() && held.len() > self.record_bytes_max {
            // The next byte would have decided whether the `\r` at its end is content. Now it is.
            self.passage.totals.oversize_tokens += 1;
            self.passage.totals.oversize_bytes += held.len() as u64;
            self.passage.totals.records_ended += u64::from(!client.is_cut);
            on(ConnectionEvent::LongLine(&client.connection));
            held.clear();
            client.is_cut = false;
        }
        // A line that was cut has a last token, even an empty one.
        let is_unfinished = !held.is_empty() || client.is_cut && !client.is_dropping;
        if cause.is_none() && is_unfinished {
            let end = self.delimiters.end_behind(&held);
            held.extend_from_slice(end);
            self.passage.totals.bytes_added += end.len() as u64;
            self.spill.put(held);
        }
        self.passage.totals.truncated_bytes += lost_bytes as u64;
        on(ConnectionEvent::Closed {
            connection: client.connection,
            cause,
            is_half,
            lost_bytes,
        });
    }
}
