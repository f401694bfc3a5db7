//! What can go wrong: one opaque [`Error`] with a [`kind`](Error::kind).
//!
//! Promise: a message holds the value, the limit and the place, starts in lower case and ends without
//! a full stop. Must not know: who prints it.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: a kind to decide by and a message to show.
///
/// It can be cloned, because a run that failed answers every `await_termination` with the same error.
/// As `Debug` it shows the message, too: that is what a `main` that returns it prints. `{:#?}` shows the kind
/// as well.
///
/// ```
/// let error = microtally::Error::refused("slide 0 ms is below 1 ms");
/// assert_eq!(format!("Error: {error:?}"), "Error: slide 0 ms is below 1 ms");
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// What is left of the message for somebody who has seen every notice, if that is less than all of it.
    unreported: Option<String>,
}

/// What went wrong, for code that has to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is out of its range or contradicts another; nothing was started.
    Config,
    /// `start` without any output operation.
    NoOutput,
    /// A source could not be opened or was lost for good.
    Source,
    /// An output could not be written.
    Sink,
    /// The reader of an output went away (`EPIPE`): not a failure for most programs.
    SinkClosed,
    /// A function of the user's panicked. In a pipeline: the batch was not published. In an output: the
    /// other outputs of the batch got it all the same. In a source: it is over, the others go on.
    UserFunction,
    /// The memory limit was reached, and that was to end the run ([`OnLimit::Fail`](crate::OnLimit::Fail)).
    Limit,
    /// The operating system refused something the engine needs (memory, a thread, an event queue).
    System,
    /// A call that can have no effect where it is made: in a function that the engine itself calls, which would
    /// wait for itself, or in a process that was forked off the engine's, which has none of its threads.
    InvalidCall,
    /// A call that had a time limit did not finish in time.
    TimedOut,
    /// The byte ledger does not close or a thread of the engine panicked: a bug of this crate. What was
    /// published before is right, nothing is published after.
    Internal,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// An error of a program's own: something was refused before anything started.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// An error of a sink's own: `place` cannot be written to.
    ///
    /// ```
    /// use microtally::{Error, ErrorKind};
    /// let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    /// assert_eq!(Error::output("stdout", &closed).kind(), ErrorKind::SinkClosed);
    /// ```
    pub fn output(place: &str, cause: &io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::BrokenPipe => ErrorKind::SinkClosed,
            _ => ErrorKind::Sink,
        };
        Error::new(
            kind,
            format!("cannot write results to {place}: {}", describe(cause)),
        )
    }

    /// An error of a source's own: `place` cannot be opened or read any more.
    ///
    /// ```
    /// use microtally::{Error, ErrorKind};
    /// let cause = std::io::Error::other("the queue was deleted");
    /// let error = Error::input("queue://orders", &cause);
    /// assert_eq!(error.kind(), ErrorKind::Source);
    /// assert_eq!(error.to_string(), "cannot read queue://orders: the queue was deleted");
    /// ```
    pub fn input(place: &str, cause: &io::Error) -> Self {
        Error::new(
            ErrorKind::Source,
            format!("cannot read {place}: {}", describe(cause)),
        )
    }

    /// The same error, with what to do about it behind it.
    ///
    /// ```
    /// let error = microtally::Error::refused("no room").with_advice("ask for less");
    /// assert_eq!(error.to_string(), "no room; ask for less");
    /// ```
    pub fn with_advice(self, advice: &str) -> Self {
        Error {
            message: format!("{self}; {advice}"),
            ..self
        }
    }

    /// The part of the message that no [`Notice`](crate::Notice) has reported: all of it, as a rule, and nothing where
    /// a notice said the same. A program that shows every notice shows this at the end, and says nothing twice.
    ///
    /// ```
    /// let error = microtally::Error::refused("no room");
    /// assert_eq!(error.unreported(), error.to_string());
    /// ```
    pub fn unreported(&self) -> &str {
        self.unreported.as_deref().unwrap_or(&self.message)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            unreported: None,
        }
    }

    /// The same error, of which notices have reported everything except `unreported`.
    pub(crate) fn reported_except(self, unreported: impl Into<String>) -> Self {
        Error {
            unreported: Some(unreported.into()),
            ..self
        }
    }

    /// The same error, behind which `other` is to be said as well.
    pub(crate) fn followed_by(self, other: &Error) -> Self {
        let both = match (self.unreported(), other.unreported()) {
            ("", one) | (one, "") => one.to_owned(),
            (first, second) => format!("{first}; {second}"),
        };
        self.reported_except(both)
    }

    /// Whether notices have reported what happened.
    pub(crate) fn is_reported(&self) -> bool {
        self.unreported.is_some()
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }
}

/// The operating system's sentence without Rust's `(os error N)` behind it.
pub(crate) fn describe(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let mut fields = f.debug_struct("Error");
            return fields
                .field("kind", &self.kind)
                .field("message", &self.message)
                .finish();
        }
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Locks `mutex`, also after a thread panicked while it had the lock: what is behind these locks is never left half
/// done, or is only statistics.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` and returns what it panicked with, if it did. The caller sees to it that nothing that `f` may have left
/// half done is used again.
pub(crate) fn guarded<T>(f: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_notices_have_reported_is_left_out_and_what_none_has_is_not_lost() {
        let of_file = Error::input("a", &io::Error::other("it broke off"));
        assert_eq!(of_file.unreported(), "cannot read a: it broke off");
        let reported = of_file.clone().reported_except("");
        assert_eq!(reported.unreported(), "");
        assert_eq!(reported.to_string(), of_file.to_string());
        let both = reported.clone().followed_by(&Error::refused("no room"));
        assert_eq!(both.unreported(), "no room");
        let both = both.followed_by(&reported).followed_by(&of_file);
        assert_eq!(both.unreported(), "no room; cannot read a: it broke off");
        assert_eq!(both.to_string(), of_file.to_string());
        assert_eq!(reported.with_advice("go on").unreported(), "");
    }

    #[test]
    fn a_main_that_returns_an_error_prints_its_message() {
        let error = Error::refused("no room").with_advice("ask for less");
        assert_eq!(format!("Error: {error:?}"), "Error: no room; ask for less");
        let fields = format!("{error:#?}");
        assert!(fields.contains("kind: Config"), "{fields}");
        assert!(
            fields.contains("message: \"no room; ask for less\""),
            "{fields}"
        );
    }

    #[test]
    fn a_closed_pipe_is_told_apart_from_a_full_disk() {
        let closed = Error::output("stdout", &io::Error::from_raw_os_error(32));
        assert_eq!(closed.kind(), ErrorKind::SinkClosed);
        let full = Error::output("stdout", &io::Error::from_raw_os_error(28));
        assert_eq!(full.kind(), ErrorKind::Sink);
        assert_eq!(
            full.to_string(),
            "cannot write results to stdout: No space left on device"
        );
    }
}
