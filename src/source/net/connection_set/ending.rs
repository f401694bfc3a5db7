//! The end of a connection, and of reading.
//!
//! Promise: what a connection leaves unfinished is a line, or dropped and counted. Must not know: how lines are
//! read, why reading ends.

use std::io::{self, Read};

use super::{ConnectionSet, Event, Unread};

impl<C: Read> ConnectionSet<C> {
    /// Nothing is read any more: [`fill`](Self::fill) ends the connections, as if each had ended cleanly,
    /// and gives what they left. Returns what they had sent that was not read, if it was not returned before.
    /// `unread` says how many bytes of a connection that is, where somebody knows.
    pub fn end(&mut self, unread: impl Fn(&C) -> Option<u64>) -> Option<Unread> {
        if std::mem::replace(&mut self.is_ending, true) {
            return None;
        }
        let mut all = Unread::default();
        for client in self.slots.iter_mut().flatten().filter(|is| !is.is_over) {
            let bytes = unread(&client.connection).unwrap_or_else(|| {
                // The byte would be dropped as well.
                let read = client.connection.read(&mut [0]);
                read.map_or(0, |count| count as u64)
            });
            all.clients += usize::from(bytes > 0);
            all.bytes += bytes;
        }
        Some(all)
    }

    /// The client's connection is over: with a `cause`, what it left unfinished is dropped.
    pub(super) fn close(
        &mut self,
        number: usize,
        cause: Option<io::Error>,
        on: &mut impl FnMut(Event<'_, C>),
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
            Some(_) => self.passage.truncated_records += u64::from(is_half),
            None if client.is_dropping => {
                self.passage.records_ended += u64::from(!client.is_cut);
            }
            None => {}
        }
        let lost_bytes = if cause.is_some() { held.len() } else { 0 };
        if cause.is_none() && held.len() > self.record_bytes_max {
            // The `\r` at its end, which the next byte would have decided about, is content.
            self.long.lines += 1;
            self.long.bytes += held.len() as u64;
            self.passage.records_ended += u64::from(!client.is_cut);
            on(Event::LongLine(&client.connection));
            held.clear();
            client.is_cut = false;
        }
        // A line that was cut has a last token, even an empty one.
        let is_unfinished = !held.is_empty() || client.is_cut && !client.is_dropping;
        if cause.is_none() && is_unfinished {
            let end = self.delimiters.end_behind(&held);
            held.extend_from_slice(end);
            self.passage.added_bytes += end.len() as u64;
            self.outbox.put(held);
        }
        self.passage.truncated_bytes += lost_bytes as u64;
        on(Event::Closed {
            connection: client.connection,
            cause,
            is_half,
            lost_bytes,
        });
    }
}
