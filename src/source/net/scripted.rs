//! Connections whose reads are scripted, for tests.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::socket::StreamSocket;

/// What one read returns: bytes, or the error of this number.
pub(super) type ScriptedRead = Result<&'static str, i32>;

/// A connection with these reads. Then nothing comes.
pub(super) struct ScriptedReads(pub(super) VecDeque<ScriptedRead>);

impl<const N: usize> From<[ScriptedRead; N]> for ScriptedReads {
    fn from(reads: [ScriptedRead; N]) -> Self {
        ScriptedReads(reads.into())
    }
}

impl Read for ScriptedReads {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(Ok(text)) => {
                let (now, later) = text.split_at(text.len().min(buf.len()));
                buf[..now.len()].copy_from_slice(now.as_bytes());
                if !later.is_empty() {
                    self.0.push_front(Ok(later));
                }
                Ok(now.len())
            }
            Some(Err(number)) => Err(io::Error::from_raw_os_error(number)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Implements [`mio::event::Source`] without events. `$register` is what a registration returns.
macro_rules! has_no_events {
    ($type:ty) => {
        has_no_events!($type, |_: &$type| Ok(()));
    };
    ($type:ty, $register:expr) => {
        impl mio::event::Source for $type {
            fn register(
                &mut self,
                _: &mio::Registry,
                _: mio::Token,
                _: mio::Interest,
            ) -> std::io::Result<()> {
                $register(self)
            }

            fn reregister(
                &mut self,
                _: &mio::Registry,
                _: mio::Token,
                _: mio::Interest,
            ) -> std::io::Result<()> {
                Ok(())
            }

            fn deregister(&mut self, _: &mio::Registry) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

has_no_events!(ScriptedReads);

impl StreamSocket for ScriptedReads {}
