//! Connections that answer as a test says.

use std::collections::VecDeque;
use std::io::{self, Read};

/// What a read answers: bytes, or the error of this number.
pub(super) type Answer = Result<&'static str, i32>;

/// A connection whose reads answer one after the other. Then there is nothing.
pub(super) struct Answers(pub(super) VecDeque<Answer>);

impl<const N: usize> From<[Answer; N]> for Answers {
    fn from(answers: [Answer; N]) -> Self {
        Answers(answers.into())
    }
}

impl Read for Answers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(Ok(text)) => {
                buf[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            Some(Err(number)) => Err(io::Error::from_raw_os_error(number)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Lets a type be registered, though no event of it ever comes.
macro_rules! has_no_events {
    ($kind:ty) => {
        impl mio::event::Source for $kind {
            fn register(
                &mut self,
                _: &mio::Registry,
                _: mio::Token,
                _: mio::Interest,
            ) -> std::io::Result<()> {
                Ok(())
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

has_no_events!(Answers);
