//! Memory for unfinished lines, and who pays when it is short.
//!
//! Promise: what is held stays within its bound; a line is dropped for want of memory only if no other client
//! holds more, so that a client with short lines never pays for one that ends none. Must not know: how lines
//! are read.

use std::io::Read;

use super::{ConnectionSet, Event};
use crate::split::Rule;

impl<C: Read> ConnectionSet<C> {
    /// Holds some more of an unfinished line.
    pub(super) fn hold(&mut self, number: usize, bytes: &[u8], on: &mut impl FnMut(Event<'_, C>)) {
        if bytes.is_empty() {
            return;
        }
        let client = self.slots[number].as_mut().expect("it was read");
        let (len, before) = (client.held.len() + bytes.len(), client.held.capacity());
        let content = self.delimiters.content_len(&client.held, bytes);
        // Everybody is asked only where even the bytes themselves find no room: that drops a line, or at
        // least takes what is kept for later ones.
        let has_room = |held: usize| held - before + len <= self.held_bytes_max;
        if content <= self.record_bytes_max
            && (has_room(self.held) || self.relieve(number, len, on))
        {
            let wanted = if len <= before {
                before
            } else {
                // Growing by halves of what there is: a byte costs the same however much is held. Where there
                // is less memory than that, by an equal share of what is left.
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

    /// Memory is short: those pay that hold more than the `wanted` bytes of this client, the one that holds
    /// most first. Returns whether there is room for `wanted` bytes then.
    #[cold]
    fn relieve(&mut self, number: usize, wanted: usize, on: &mut impl FnMut(Event<'_, C>)) -> bool {
        #[cfg(test)]
        {
            self.relieved += 1;
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
                    // Kept for its next line: taking it costs nobody a line.
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
            // Afterwards it holds less, or nothing: this comes to an end.
            self.overflow(largest, &[], on);
        }
    }

    /// There is no room to hold `bytes`, which have no line end in them, behind what this client holds. The
    /// line is dropped up to its end; where lines are only split, its complete tokens are given and only the
    /// token that goes on is dropped, if there is no room for that either.
    fn overflow(&mut self, number: usize, bytes: &[u8], on: &mut impl FnMut(Event<'_, C>)) {
        if self.delimiters.rule != Rule::Lines && self.give_complete(number, bytes, on) {
            return;
        }
        let client = self.slots[number].as_mut().expect("it is connected");
        client.is_dropping = true;
        let held = std::mem::take(&mut client.held);
        self.held -= held.capacity();
        self.long.lines += 1;
        self.long.bytes += (held.len() + bytes.len()) as u64;
        on(Event::LongLine(&client.connection));
    }
}
