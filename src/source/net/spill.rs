//! Bytes that a source has received and that found no room in the caller's buffer.
//!
//! Promise: bytes come out in order, and the memory is freed when all of them are out.
//! Must not know: engine, split.

/// Received bytes that wait for room.
#[derive(Debug, Default)]
pub(crate) struct SpillBuffer {
    bytes: Vec<u8>,
    /// How many of them are out.
    taken: usize,
}

impl SpillBuffer {
    /// Returns `true` if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number of bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Puts `bytes` into the empty buffer.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.is_empty(), "everything is taken first");
        self.bytes = bytes;
    }

    /// Appends `bytes`.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as many bytes to `buf` as fit, and returns their number.
    pub(crate) fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.bytes[self.taken..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = SpillBuffer::default();
        }
        count
    }
}
