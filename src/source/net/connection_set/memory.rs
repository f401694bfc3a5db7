//! Memory for unfinished lines, and who pays when it is short.
//!
//! Promise: what is held stays within its bound; a line is dropped for lack of memory only if no
//! other client holds more, so a client with short lines never pays for one that ends none.
//! Must not know: engine, notice, time.

use std::io::Read;

use super::{ConnectionEvent, ConnectionSet};
use crate::split::Rule;

impl<C: Read> ConnectionSet<C> {
    /// Holds more of an unfinished line.
    pub(super) fn hold(
        &mut self,
        number: usize,
        bytes: &[u8],
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) {
        if bytes.is_empty() {
            return;
        }
        let client = self.slots[number].as_mut().expect("it was read");
        let (len, before) = (client.held.len() + bytes.len(), client.held.capacity());
        let content = self.delimiters.content_len(&client.held, bytes);
        // All clients are asked only if even the bytes themselves find no room: that drops a line,
        // or at least takes memory that is kept for later ones.
        let has_room = |held: usize| held - before + len <= self.held_bytes_max;
        if content <= self.record_bytes_max
            && (has_room(self.held) || self.make_room(number, len, on))
        {
            let wanted = if len <= before {
                before
            } else {
                // Memory doubles, so a byte costs the same however much is held. If there is less,
                // it grows by an equal share of what is left.
                let ample = len.max((before * 2).min(self.record_bytes_max));
                let left = self.held_bytes_max - (self.held - before + len);
                ample.min(len + left / self.slots.len())
            };
            let client = self.slots[number].as_mut().expect("it was read");
            client.held.reserve_exact(wanted - client.held.len());
            client.held.extend_from_slice(bytes);
            self.held = self.held - before + client.held.capacity();
            return;
        }
        self.overflow(number, bytes, on);
    }

    /// Memory is short: clients that hold more than the `wanted` bytes of this one pay, the one
    /// that holds most first. Returns `true` if there is room for `wanted` bytes then.
    #[cold]
    fn make_room(
        &mut self,
        number: usize,
        wanted: usize,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> bool {
        #[cfg(test)]
        {
            self.searches += 1;
        }
        loop {
            let (mut largest, mut most, mut own) = (None, wanted, 0);
            for (other, client) in self.slots.iter_mut().enumerate() {
                let Some(client) = client else { continue };
                let (held, len) = (client.held.capacity(), client.held.len());
                if other == number {
                    own = held;
                    continue;
                }
                if held > len * 2 {
                    // Memory kept for its next line: taking it costs no line.
                    client.held.shrink_to_fit();
                    self.held -= held - client.held.capacity();
                }
                if len > most {
                    (largest, most) = (Some(other), len);
                }
            }
            if self.held - own + wanted <= self.held_bytes_max {
                return true;
            }
            let Some(largest) = largest else {
                return false;
            };
            // Afterwards it holds less, or nothing, so this loop ends.
            self.overflow(largest, &[], on);
        }
    }

    /// There is no room to hold `bytes`, which contain no line end, behind what this client holds.
    /// The line is dropped up to its end. Where lines are only split, its complete tokens are
    /// passed on, and only the unfinished token is dropped, if there is no room for that either.
    fn overflow(
        &mut self,
        number: usize,
        bytes: &[u8],
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) {
        if self.delimiters.rule != Rule::Lines && self.pass_on_complete(number, bytes, on) {
            return;
        }
        let client = self.slots[number].as_mut().expect("it is connected");
        client.is_dropping = true;
        let held = std::mem::take(&mut client.held);
        self.held -= held.capacity();
        self.passage.totals.oversize_tokens += 1;
        self.passage.totals.oversize_bytes += (held.len() + bytes.len()) as u64;
        on(ConnectionEvent::LongLine(&client.connection));
    }
}
