//! What can go wrong: one opaque [`Error`] with a [`kind`](Error::kind).
//!
//! Promise: a message has the form `<subject>: <what happened>; <what to do>` or a sentence of it,
//! starts in lower case and ends without a full stop. What a program needs to build its own message
//! is data. Must not know: `notice`, `sink`, `bin`.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: a kind to decide by and a message to show.
///
/// It can be cloned, because every `await_termination` of a failed run returns the same error.
/// `{:?}` prints the message alone, because a `main` that returns an error prints it that way;
/// `{:#?}` also prints the kind.
///
/// ```
/// let error = microtally::Error::refused("slide 0 ms is below 1 ms");
/// assert_eq!(format!("Error: {error:?}"), "Error: slide 0 ms is below 1 ms");
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// The part of the message that no notice has reported, if that is less than all of it.
    unreported: Option<String>,
    setting: Option<Box<Setting>>,
    cause: Option<io::ErrorKind>,
}

/// What went wrong, for code that has to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is out of its range or contradicts another; nothing was started.
    Config,
    /// `start` was called without any output operation.
    NoOutput,
    /// A source could not be opened or was lost for good.
    Source,
    /// An output could not be written.
    Sink,
    /// The reader of an output went away (`EPIPE`). Most programs do not treat this as a failure.
    SinkClosed,
    /// A user-supplied function panicked. In a pipeline, the batch was not published. In an output,
    /// the other outputs still received the batch. In a source, that source has ended and the
    /// others go on.
    UserFunction,
    /// The memory limit was reached, and [`OnLimit::Fail`](crate::config::OnLimit::Fail) ends the
    /// run in that case.
    Limit,
    /// The operating system refused something the engine needs (memory, a thread, an event queue).
    System,
    /// The call has no effect where it was made: in a function that the engine itself calls, which
    /// would wait for itself, in a forked process, which has none of the engine's threads, after
    /// the engine has finished, for more writers than the engine has places, or with a record that
    /// cannot be taken.
    InvalidCall,
    /// A call with a time limit did not finish in time.
    TimedOut,
    /// The byte ledger does not close or a thread of the engine panicked: a bug of this crate. What
    /// was published before is correct, nothing is published after.
    Internal,
}

/// A setting that was refused, as data.
///
/// The message of the error names the setting as [`Config`](crate::Config) does. A program that has
/// another name for it, such as a flag, builds its own message from these fields: `<name> <value>
/// <problem>; lower <lower_instead>`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The method of [`Config`](crate::Config) that sets it.
    pub name: &'static str,
    /// The refused value.
    pub value: String,
    /// What is wrong with the value and what is allowed: `is outside 1 to 256`.
    pub problem: String,
    /// The least value that is enough, where the value is too small.
    pub enough: Option<usize>,
    /// Settings that can be lowered instead.
    pub lower_instead: Vec<&'static str>,
}

impl Setting {
    pub(crate) fn new(
        name: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Self {
        Setting {
            name,
            value: value.to_string(),
            problem: problem.into(),
            enough: None,
            lower_instead: Vec::new(),
        }
    }
}

impl From<Setting> for Error {
    fn from(setting: Setting) -> Self {
        let Setting {
            name,
            value,
            problem,
            ..
        } = &setting;
        let error = Error::refused(format!("{name} {value} {problem}"));
        let error = match &setting.lower_instead[..] {
            [] => error,
            settings => error.with_advice(&format!("lower {}", settings.join(" or "))),
        };
        Error {
            setting: Some(Box::new(setting)),
            ..error
        }
    }
}

impl Error {
    /// Returns what went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the refused setting, if the error is about one.
    ///
    /// ```
    /// use microtally::Config;
    /// let error = Config::default().workers(1000).validate().unwrap_err();
    /// assert_eq!(error.to_string(), "workers 1000 is outside 1 to 256");
    /// let setting = error.setting().expect("the error is about a setting");
    /// assert_eq!((setting.name, setting.value.as_str()), ("workers", "1000"));
    /// ```
    pub fn setting(&self) -> Option<&Setting> {
        self.setting.as_deref()
    }

    /// Returns what kind of I/O error caused this one, if one did.
    ///
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) stands for compressed input that needs more
    /// memory than [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) leaves for it.
    pub fn cause(&self) -> Option<io::ErrorKind> {
        self.cause
    }

    /// Returns an error of kind [`ErrorKind::Config`]: something was refused before anything
    /// started.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// Returns the error of a custom sink: `place` cannot be written to.
    ///
    /// ```
    /// use microtally::Error;
    /// use microtally::error::ErrorKind;
    /// let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    /// assert_eq!(Error::output("stdout", &closed).kind(), ErrorKind::SinkClosed);
    /// ```
    pub fn output(place: &str, cause: &io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::BrokenPipe => ErrorKind::SinkClosed,
            _ => ErrorKind::Sink,
        };
        let message = format!("cannot write results to {place}: {}", describe(cause));
        Error {
            cause: Some(cause.kind()),
            ..Error::new(kind, message)
        }
    }

    /// Returns the error of a custom source: `place` cannot be opened or read any more.
    ///
    /// ```
    /// use microtally::Error;
    /// use microtally::error::ErrorKind;
    /// let cause = std::io::Error::other("the queue was deleted");
    /// let error = Error::input("queue://orders", &cause);
    /// assert_eq!(error.kind(), ErrorKind::Source);
    /// assert_eq!(error.to_string(), "cannot read queue://orders: the queue was deleted");
    /// ```
    pub fn input(place: &str, cause: &io::Error) -> Self {
        let message = format!("cannot read {place}: {}", describe(cause));
        Error {
            cause: Some(cause.kind()),
            ..Error::new(ErrorKind::Source, message)
        }
    }

    /// Appends advice to the message.
    ///
    /// ```
    /// let error = microtally::Error::refused("no room").with_advice("ask for less");
    /// assert_eq!(error.to_string(), "no room; ask for less");
    /// ```
    pub fn with_advice(self, advice: &str) -> Self {
        let message = format!("{self}; {advice}");
        self.with_message(message)
    }

    /// Replaces the message, for a program with its own names for things.
    pub fn with_message(self, message: impl Into<String>) -> Self {
        Error {
            message: message.into(),
            ..self
        }
    }

    /// Returns the part of the message that no [`Notice`](crate::notice::Notice) has reported:
    /// usually all of it, nothing if a notice said the same. A program that shows every notice
    /// shows this at the end, and repeats nothing.
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
            setting: None,
            cause: None,
        }
    }

    /// Marks everything except `unreported` as reported by notices.
    pub(crate) fn reported_except(self, unreported: impl Into<String>) -> Self {
        Error {
            unreported: Some(unreported.into()),
            ..self
        }
    }

    /// Appends what notices have not reported of `other` to what they have not reported of this
    /// error.
    pub(crate) fn followed_by(self, other: &Error) -> Self {
        let both = match (self.unreported(), other.unreported()) {
            ("", one) | (one, "") => one.to_owned(),
            (first, second) => format!("{first}; {second}"),
        };
        self.reported_except(both)
    }

    /// Returns `true` if notices have reported what happened.
    pub(crate) fn is_reported(&self) -> bool {
        self.unreported.is_some()
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }
}

/// The operating system's message without the `(os error N)` that Rust appends.
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

/// Locks `mutex`, even after a thread panicked while it held the lock: what these locks protect is
/// never left half done, or is only statistics.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` and returns what it panicked with, if it did. The caller must not reuse anything that
/// `f` may have left half done.
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
    fn a_refused_setting_is_a_message_and_data() {
        let setting = Setting {
            enough: Some(7),
            lower_instead: vec!["workers", "record_bytes_max"],
            ..Setting::new("memory_bytes_max", 5, "is too small: 7 bytes are needed")
        };
        let error = Error::from(setting.clone());
        let message = "memory_bytes_max 5 is too small: 7 bytes are needed; lower workers or record_bytes_max";
        assert_eq!(error.to_string(), message);
        let renamed = error.with_message("--max-memory 5B is too small");
        assert_eq!(
            (renamed.kind(), renamed.setting()),
            (ErrorKind::Config, Some(&setting))
        );
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
    fn a_closed_pipe_differs_from_a_full_disk() {
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
