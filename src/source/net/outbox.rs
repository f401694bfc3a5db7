//! What a source has received and there was no room for.
//!
//! Promise: it is given in order, and its memory goes when all of it is. Must not know: what the bytes are.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// How much of it was given.
    given: usize,
}

impl Outbox {
    /// Whether all is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are to be given.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.given
    }

    /// Takes in what is to be given; there is nothing else.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.is_empty(), "all is given first");
        self.bytes = bytes;
    }

    /// Puts these behind what is to be given.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives as much as there is room for, and how much that is.
    pub(crate) fn give(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.bytes[self.given..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        if self.given == self.bytes.len() {
            *self = Outbox::default();
        }
        count
    }
}
