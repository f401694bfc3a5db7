//! The progress line of a long finite input, on a terminal's standard error.
//!
//! Promise: it appears only if standard error is a terminal and only after the first second. It
//! leaves nothing behind, and no message ends up in the middle of it. Must not know: `counting`,
//! `live`, `parse`, `run`.
//!
//! It needs no escape codes, only carriage returns and spaces, so it also works on a dumb terminal,
//! and it never waits for a terminal that is stuck. That is why it is not the `indicatif` crate.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use microtally::Batch;
use microtally::sink::{Sink, Undelivered, table};
use ratatui::crossterm::terminal;

use crate::{lock, lock_soon};

/// A shorter run needs no line.
const DELAY: Duration = Duration::from_secs(1);

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(250);

/// Weight of a new measurement of the speed against earlier ones: it settles in about two seconds.
const SPEED_WEIGHT: f64 = 0.2;

/// Columns after the line that stay free and are cleared with it: a terminal echoes Ctrl-C there,
/// as `^C`.
const ECHO_COLUMNS: usize = 2;

/// There is one terminal, so this belongs to the process.
static LINE: Mutex<LineState> = Mutex::new(LineState {
    columns: 0,
    is_ended: false,
});

/// What is on the terminal.
struct LineState {
    /// Columns of the line.
    columns: usize,
    /// Whether no line may appear any more.
    is_ended: bool,
}

/// Draws the line until it is dropped.
pub(crate) struct Line(Option<(Sender<()>, JoinHandle<()>)>);

/// Starts drawing, if standard error is a terminal. `progress` returns the bytes read so far and,
/// if known, the total.
pub(crate) fn start(progress: impl Fn() -> (u64, Option<u64>) + Send + 'static) -> Line {
    if !io::stderr().is_terminal() {
        return Line(None);
    }
    let (stop, stopped) = mpsc::channel();
    let drawing = thread::Builder::new()
        .name("progress".into())
        .spawn(move || {
            let start = Instant::now();
            let mut speed = Speed::default();
            let mut patience = DELAY;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(patience) {
                patience = TICK;
                let (read_bytes, total_bytes) = progress();
                let bytes_per_s = speed.at(start.elapsed(), read_bytes);
                let (columns, _) = terminal::size().unwrap_or((80, 24));
                let text = text(read_bytes, total_bytes, bytes_per_s, usize::from(columns));
                let mut shown = shown();
                if shown.is_ended {
                    break;
                }
                show(&text, &mut shown.columns, &mut io::stderr());
            }
        });
    // Without a thread there is no line, but the run goes on.
    Line(drawing.ok().map(|drawing| (stop, drawing)))
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((stop, drawing)) = self.0.take() {
            drop(stop);
            // Even if it had panicked, nothing would be left to do.
            let _ = drawing.join();
        }
        end();
    }
}

/// Returns the bytes read so far and, if known, the total.
pub(crate) type ReadProgress = Box<dyn Fn() -> (u64, Option<u64>) + Send>;

/// The progress of reading files.
pub(crate) fn of_files(progress: microtally::sources::Progress) -> ReadProgress {
    Box::new(move || (progress.read_bytes(), Some(progress.total_bytes())))
}

/// The progress of reading standard input, if that is a regular file: the system knows the position
/// in it.
pub(crate) fn of_stdin() -> Option<ReadProgress> {
    let place = || -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/fdinfo/0").ok()?;
        text.strip_prefix("pos:")?
            .lines()
            .next()?
            .trim()
            .parse()
            .ok()
    };
    let metadata = std::fs::metadata("/proc/self/fd/0").ok();
    let bytes = metadata.filter(std::fs::Metadata::is_file)?.len();
    let start = place()?;
    Some(Box::new(move || {
        let read_bytes = place().unwrap_or(start).saturating_sub(start);
        (read_bytes, Some(bytes.saturating_sub(start)))
    }))
}

/// Clears the line, and keeps it away until the result is dropped. Call it around writing a
/// message.
pub(crate) fn clear() -> Cleared {
    let mut shown = shown();
    show("", &mut shown.columns, &mut io::stderr());
    Cleared(shown)
}

/// Keeps the line away until it is dropped.
pub(crate) struct Cleared(
    #[expect(dead_code, reason = "held for its lock")] MutexGuard<'static, LineState>,
);

/// Clears the line for good, before results or the end of the program. Waits half a second at most,
/// because a thread may be stuck while it writes a message.
pub(crate) fn end() {
    if let Some(mut shown) = lock_soon(&LINE) {
        show("", &mut shown.columns, &mut io::stderr());
        shown.is_ended = true;
    }
}

/// A sink whose first batch ends the line: an input that is counted as a whole has only one.
pub(crate) struct EndProgress<S>(pub(crate) S);

impl<V, S: Sink<V>> Sink<V> for EndProgress<S> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        end();
        self.0.deliver(batch)
    }
}

fn shown() -> MutexGuard<'static, LineState> {
    lock(&LINE)
}

/// Replaces a line of `shown` columns with `text`.
fn show(text: &str, shown: &mut usize, to: &mut impl Write) {
    let columns = table::width(text);
    if columns == 0 && *shown == 0 {
        return;
    }
    let blanks = (*shown + ECHO_COLUMNS).saturating_sub(columns);
    // Twice, so that the cursor is right after the text, where an echo is cleared next time. A
    // failure cannot be reported.
    let _ = write!(to, "\r{text}{:blanks$}\r{text}", "").and_then(|()| to.flush());
    *shown = columns;
}

/// The speed of reading, smoothed.
#[derive(Default)]
struct Speed {
    last: Option<(Duration, u64)>,
    bytes_per_s: f64,
}

impl Speed {
    /// Updates and returns the speed, now that `read_bytes` have been read after `elapsed`.
    fn at(&mut self, elapsed: Duration, read_bytes: u64) -> f64 {
        let (before, read_before) = self.last.unwrap_or_default();
        let seconds = (elapsed - before).as_secs_f64();
        if seconds > 0.0 {
            let now = read_bytes.saturating_sub(read_before) as f64 / seconds;
            self.bytes_per_s = match self.last {
                None => now,
                Some(_) => self.bytes_per_s + SPEED_WEIGHT * (now - self.bytes_per_s),
            };
            self.last = Some((elapsed, read_bytes));
        }
        self.bytes_per_s
    }
}

/// Returns the line. It leaves the last of `columns` free, because a cursor after it would start a
/// new line.
fn text(read_bytes: u64, total_bytes: Option<u64>, bytes_per_s: f64, columns: usize) -> String {
    // The end of an input that has grown is unknown.
    let total_bytes = total_bytes.filter(|&total| total > 0 && read_bytes <= total);
    let speed = format!("{:.3} GB/s", bytes_per_s / 1e9);
    let mut pieces = vec![match total_bytes {
        Some(total) => {
            let mut share = Vec::new();
            table::write_share(read_bytes as f64 / total as f64, &mut share);
            String::from_utf8_lossy(&share).into_owned()
        }
        None => format!("{:.3} GB", read_bytes as f64 / 1e9),
    }];
    pieces.push(speed);
    if let Some(total) = total_bytes {
        let left_bytes = total - read_bytes;
        if bytes_per_s > 0.0 {
            pieces.push(format!("{} left", period(left_bytes as f64 / bytes_per_s)));
        }
        pieces.push(format!(
            "{:.3} of {:.3} GB",
            read_bytes as f64 / 1e9,
            total as f64 / 1e9
        ));
    }
    let mut line = String::new();
    for piece in pieces {
        let gap = if line.is_empty() { "" } else { " · " };
        let width = table::width(&line) + table::width(gap) + table::width(&piece);
        if width + ECHO_COLUMNS >= columns {
            break;
        }
        line = line + gap + &piece;
    }
    line
}

/// Formats seconds as `9 s`, `3 min 05 s` or `2 h 07 min`. Rounded up: time that is left is never
/// 0.
fn period(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => {
            let minutes = seconds.div_ceil(60);
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_line_has_share_speed_and_time_left() {
        assert_eq!(
            text(GB, Some(4 * GB), 1.5e9, 80),
            "25.0 % · 1.500 GB/s · 2 s left · 1.000 of 4.000 GB"
        );
        assert_eq!(text(GB, None, 1.5e9, 80), "1.000 GB · 1.500 GB/s");
        // Nothing was read yet; the file has grown; there is nothing to read.
        assert_eq!(
            text(0, Some(GB), 0.0, 80),
            "0.0 % · 0.000 GB/s · 0.000 of 1.000 GB"
        );
        assert_eq!(text(2 * GB, Some(GB), 1e9, 80), "2.000 GB · 1.000 GB/s");
        assert_eq!(text(0, Some(0), 0.0, 80), "0.000 GB · 0.000 GB/s");
    }

    #[test]
    fn the_line_is_shorter_than_the_terminal() {
        for columns in 0..90 {
            let line = text(GB, Some(4 * GB), 1e5, columns);
            assert!(
                line.is_empty() || table::width(&line) + 2 < columns,
                "{line}"
            );
        }
        assert_eq!(text(GB, Some(4 * GB), 1.5e9, 9), "25.0 %");
    }

    #[test]
    fn time_left_is_rounded_up() {
        let texts = [0.01, 59.5, 99.1, 185.0, 5999.5, 7_560.0, 1e9].map(period);
        assert_eq!(
            texts,
            [
                "1 s",
                "60 s",
                "1 min 40 s",
                "3 min 05 s",
                "1 h 40 min",
                "2 h 06 min",
                "277777 h 47 min"
            ]
        );
    }

    #[test]
    fn a_shorter_line_covers_a_longer_one_and_the_end_leaves_nothing() {
        let (mut out, mut columns) = (Vec::new(), 0);
        for line in ["", "long line", "short"] {
            show(line, &mut columns, &mut out);
        }
        // The terminal echoes at the cursor.
        out.extend_from_slice(b"^C");
        for line in ["", ""] {
            show(line, &mut columns, &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let long = "\rlong line\rlong line";
        let short = "\rshort      \rshort";
        assert_eq!(text, format!("{long}{short}^C\r       \r"));
        // What a terminal shows.
        let mut screen = [' '; 20];
        let mut at = 0;
        for character in text.chars() {
            match character {
                '\r' => at = 0,
                other => (screen[at], at) = (other, at + 1),
            }
        }
        assert_eq!((screen, at), ([' '; 20], 0));
    }

    #[test]
    fn speed_settles_on_the_current_value() {
        let mut speed = Speed::default();
        let mut read = 10 * GB;
        assert_eq!(speed.at(Duration::from_secs(1), read), 10e9);
        let mut last = 0.0;
        for tick in 1..=40 {
            read += GB / 4;
            last = speed.at(Duration::from_millis(1000 + 250 * tick), read);
        }
        assert!((1.0e9..1.01e9).contains(&last), "{last}");
        // No time has passed: no division by zero.
        assert_eq!(speed.at(Duration::from_millis(11_000), read), last);
    }
}
