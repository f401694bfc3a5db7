//! The live view: a table on a terminal that follows the stream.
//!
//! Promise: counting never waits for drawing; a batch that arrives while one is drawn replaces it.
//! The terminal is always restored, with the last table left on it. Must not know: `counting`,
//! `parse`, `run`.
//!
//! ```text
//!   publisher thread                drawing thread
//!     LiveSink::deliver ─▶ LatestFrame ─▶ ViewModel ─▶ draw ─▶ terminal
//!                                         ▲ keys
//! ```
//!
//! `frame` copies batches, `model` handles keys, `draw` draws, `screen` sets the terminal's modes.

mod draw;
mod frame;
mod model;
pub(crate) mod screen;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::tz::TimeZone;
use microtally::error::Result;
use microtally::sink::Repr;
use microtally::sink::{Sink, table};
use microtally::time::BatchTime;
use microtally::{Error, Value};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::size;
use signal_hook::consts::{SIGCONT, SIGTSTP};

pub(crate) use self::frame::ValueKind;

use self::draw::{ShownMessages, ViewLabels};
use self::frame::{KeyFilter, LatestFrame, LiveSink};
pub(crate) use self::model::Period;
use self::model::{KeyAction, ViewModel};

/// How often the drawing thread looks for a new batch: faster than people notice.
const TICK: Duration = Duration::from_millis(40);

/// Ticks a message stays on the screen: six seconds.
const MESSAGE_TICKS: u32 = 150;

/// Quarters of a tick to wait for the drawing thread to end: a second.
const PATIENCE_TICKS: u32 = 100;

/// Lines around the rows of the last table: the header, the footer, and the prompt.
const LINES_AROUND: usize = 5;

/// Which colors the view may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// The sixteen colors of the terminal.
    Full,
    /// Bold, dim and reversed only.
    None,
}

/// Options of the view.
#[derive(Clone, Debug)]
pub(crate) struct ViewOptions {
    /// Names of the sources, as they were typed.
    pub sources: Vec<String>,
    /// What the values are: `count`, `sum`.
    pub value_name: String,
    /// How the values relate to each other.
    pub values: ValueKind,
    /// The time that values cover.
    pub period: Period,
    /// Most rows of each batch that can be scrolled through, filtered and sorted.
    pub rows_max: usize,
    /// Which colors the view may use.
    pub color: Palette,
}

/// An open view. Dropping it restores the terminal.
pub(crate) struct LiveView {
    shared: Arc<ViewShared>,
    values: ValueKind,
    period: Period,
    rows_max: usize,
    drawing: Option<JoinHandle<ViewModel>>,
}

struct ViewShared {
    slot: Arc<LatestFrame>,
    is_ended: AtomicBool,
}

/// Opens the view. Standard output must be a terminal that can be drawn on.
///
/// `dropped` returns the records of the run that were dropped or lost. `on_quit` is called once, on
/// the drawing thread, when the user quits; the view stays until [`LiveView::finish`]. The second
/// time the process exits at once, with code 130.
///
/// # Errors
///
/// The terminal failed; the error is that of an output.
pub(crate) fn start(
    options: ViewOptions,
    dropped: impl Fn() -> u64 + Send + 'static,
    on_quit: impl FnOnce() + Send + 'static,
) -> Result<LiveView> {
    let shared = Arc::new(ViewShared {
        slot: Arc::default(),
        is_ended: AtomicBool::new(false),
    });
    let mut live = LiveView {
        period: options.period,
        shared: Arc::clone(&shared),
        values: options.values,
        rows_max: options.rows_max,
        drawing: None,
    };
    // The option decides; crossterm alone would only look at NO_COLOR.
    force_color_output(options.color == Palette::Full);
    let view = View {
        shared,
        model: ViewModel::new(options.period),
        labels: ViewLabels {
            sources: options.sources,
            value_name: options.value_name,
            color: options.color,
            zone: TimeZone::system(),
        },
        dropped: Box::new(dropped),
        on_quit: OnQuit(Some(Box::new(on_quit))),
        messages: (0, 0),
    };
    let open = || {
        let signals = TerminalSignals::register()?;
        screen::take()?;
        // The view opens all its descriptors before sources may use up the process's limit: the
        // terminal, the keyboard, and what crossterm waits with.
        let out = screen::terminal()?;
        let keyboard = screen::Keyboard::open()?;
        event::poll(Duration::ZERO)?;
        thread::Builder::new()
            .name("live".into())
            .spawn(move || view.run(out, &keyboard, &signals))
    };
    let drawing = open().map_err(|cause| Error::output("the terminal", &cause))?;
    live.drawing = Some(drawing);
    Ok(live)
}

impl LiveView {
    /// Returns the sink for batches; `number` converts a value for sorting and shares.
    pub(crate) fn sink<V: Value>(
        &self,
        number: impl Fn(V) -> f64 + Send + 'static,
    ) -> impl Sink<V> + 'static {
        let slot = Arc::clone(&self.shared.slot);
        let period = match self.period {
            Period::Window(length) => Some(length),
            Period::Interval | Period::SoFar => None,
        };
        LiveSink::new(slot, self.rows_max, self.values, period, number)
    }

    /// Restores the terminal and leaves the last table on it.
    ///
    /// # Errors
    ///
    /// The table could not be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        let model = self.close();
        screen::restore();
        let mut model = model.unwrap_or_else(|| ViewModel::new(self.period));
        // After a quit the table that was visible stays, not that of the short last batch.
        if !model.is_final()
            && let Some(frame) = self.shared.slot.take()
        {
            model.show(frame);
        }
        let mut stdout = io::stdout();
        let written = stdout.write_all(&last_table(&mut model, self.values, size().ok()));
        written
            .and_then(|()| stdout.flush())
            .map_err(|cause| Error::output("stdout", &cause))
    }

    /// Ends the drawing thread. Returns `None` if it panicked, which the hook has reported, or if
    /// it does not end: crossterm loops forever on a terminal that is gone.
    fn close(&mut self) -> Option<ViewModel> {
        self.shared.is_ended.store(true, Ordering::SeqCst);
        let drawing = self.drawing.take()?;
        for _ in 0..PATIENCE_TICKS {
            if drawing.is_finished() {
                return drawing.join().ok();
            }
            thread::sleep(TICK / 4);
        }
        None
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.close();
        screen::restore();
    }
}

/// A value that has been formatted.
#[derive(Clone, Copy)]
struct ValueText<'a>(&'a [u8]);

impl Repr for ValueText<'_> {
    fn write_repr(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// Returns the last table as plain text, with as many rows as fit on the screen.
fn last_table(model: &mut ViewModel, values: ValueKind, size: Option<(u16, u16)>) -> Vec<u8> {
    let (columns, lines) = size.unwrap_or((80, 24));
    model.set_height(usize::from(lines).saturating_sub(LINES_AROUND).max(1));
    let mut text = Vec::new();
    let Some(frame) = model.frame() else {
        return text;
    };
    let head = frame.now.head;
    let time = BatchTime::from_millis(head.time_ms);
    table::write_header(time, head.records, head.keys, &mut text);
    let rows = model
        .window()
        .map(|(row, change)| (row.key, ValueText(row.value), model.figures(&row, change)));
    table::write_rows(rows, Some(usize::from(columns)), &mut text);
    let shown = model.window().map(|(row, _)| row.number).sum::<f64>();
    let limit = head.limit;
    let left = match (values, head.total) {
        (ValueKind::PartsOf(whole), Some(total)) if total > 0.0 => {
            let left = total - limit.other_records as f64 - shown;
            Some((left.max(0.0) / total, whole))
        }
        _ => None,
    };
    table::footer(
        head.keys - model.window().count() as u64,
        left,
        limit.is_approximate,
        limit.error_max,
        limit.other_records,
        &mut text,
    );
    table::missing(limit.missing_max, &mut text);
    text
}

/// Signals to suspend and resume.
struct TerminalSignals {
    stop: Arc<AtomicBool>,
    resume: Arc<AtomicBool>,
}

impl TerminalSignals {
    fn register() -> io::Result<Self> {
        let signals = TerminalSignals {
            stop: Arc::default(),
            resume: Arc::default(),
        };
        signal_hook::flag::register(SIGTSTP, Arc::clone(&signals.stop))?;
        signal_hook::flag::register(SIGCONT, Arc::clone(&signals.resume))?;
        Ok(signals)
    }
}

/// Ends the run, once. A panic of the drawing thread also ends it, because the user could not
/// control it any more.
struct OnQuit(Option<Box<dyn FnOnce() + Send>>);

impl OnQuit {
    /// Returns `false` if it was called before.
    fn call(&mut self) -> bool {
        self.0.take().map(|on_quit| on_quit()).is_some()
    }
}

impl Drop for OnQuit {
    fn drop(&mut self) {
        if thread::panicking() {
            self.call();
        }
    }
}

/// The state of the drawing thread.
struct View {
    shared: Arc<ViewShared>,
    model: ViewModel,
    labels: ViewLabels,
    dropped: Box<dyn Fn() -> u64 + Send>,
    on_quit: OnQuit,
    /// How many messages there were, and for how many ticks the last one stays.
    messages: (usize, u32),
}

impl View {
    fn run(
        mut self,
        out: File,
        keyboard: &screen::Keyboard,
        signals: &TerminalSignals,
    ) -> ViewModel {
        // A terminal that is gone ends the run like a quit; counting still ends gracefully.
        if self.follow(out, keyboard, signals).is_err() {
            self.on_quit.call();
        }
        self.model
    }

    fn follow(
        &mut self,
        out: File,
        keyboard: &screen::Keyboard,
        signals: &TerminalSignals,
    ) -> io::Result<()> {
        let out = BufWriter::with_capacity(1 << 16, out);
        let mut terminal = Terminal::new(CrosstermBackend::new(out))?;
        let mut is_stale = true;
        while !self.shared.is_ended.load(Ordering::SeqCst) && screen::is_ours() {
            if signals.stop.swap(false, Ordering::SeqCst) {
                screen::suspend()?;
                signals.resume.store(true, Ordering::SeqCst);
            }
            if signals.resume.swap(false, Ordering::SeqCst) {
                screen::resume()?;
                terminal.clear()?;
                is_stale = true;
            }
            if !self.model.is_paused
                && !self.model.is_final()
                && let Some(frame) = self.shared.slot.take()
            {
                self.model.show(frame);
                self.model.dropped = (self.dropped)();
                is_stale = true;
            }
            is_stale |= self.update_messages();
            if is_stale {
                let messages = ShownMessages {
                    lines: screen::newest().1,
                    is_new: self.messages.1 > 0,
                };
                let drawn = screen::while_ours(|| {
                    terminal
                        .draw(|picture| {
                            let area = picture.area();
                            let (model, labels) = (&mut self.model, &self.labels);
                            draw::draw(picture.buffer_mut(), area, model, labels, &messages);
                        })
                        .map(drop)
                });
                drawn.unwrap_or(Ok(()))?;
            }
            is_stale = false;
            keyboard.wait(TICK)?;
            while event::poll(Duration::ZERO)? {
                is_stale = true;
                match event::read()? {
                    Event::Key(key) => match self.model.press(key) {
                        KeyAction::Nothing => {}
                        KeyAction::Quit => self.quit(),
                        KeyAction::Suspend => screen::stop_pipeline()?,
                    },
                    Event::Paste(text) => self.model.paste(&text),
                    _ => {}
                }
                keyboard.wait(Duration::ZERO)?;
            }
            self.shared
                .slot
                .set_filter(&KeyFilter::new(&self.model.filter));
        }
        Ok(())
    }

    /// Asks the run to end; the second time the process exits.
    fn quit(&mut self) {
        self.model.is_ending = true;
        if !self.on_quit.call() {
            screen::restore();
            std::process::exit(130);
        }
    }

    /// Counts down the last message. Returns `true` if the picture must change.
    fn update_messages(&mut self) -> bool {
        let count = screen::newest().0;
        if count != self.messages.0 {
            self.messages = (count, MESSAGE_TICKS);
            return true;
        }
        let ticks = self.messages.1;
        self.messages.1 = ticks.saturating_sub(1);
        ticks == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frame::{BatchRows, Frame, Head, LimitEffect};
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn model(limit: LimitEffect) -> ViewModel {
        let mut rows = BatchRows::default();
        for (key, number) in [("汉字", 600_u64), ("a\u{1b}[2J", 300), ("b", 50)] {
            rows.push(key.as_bytes(), number as f64, |out| {
                table::write_value(&number, out);
            });
        }
        rows.head = Head {
            time_ms: 1_763_830_345_000,
            interval_s: 0.5,
            period_s: 0.5,
            records: 950,
            keys: 48_213,
            total: Some(1000.0),
            limit,
            ..Head::default()
        };
        let mut model = ViewModel::new(Period::Interval);
        model.show(Frame {
            now: Arc::new(rows),
            before: None,
        });
        model
    }

    /// The table below its header, whose time is local.
    fn left(model: &mut ViewModel, values: ValueKind, size: (u16, u16)) -> String {
        let text = String::from_utf8(last_table(model, values, Some(size))).unwrap();
        let (header, rest) = text.split_once('\n').unwrap();
        assert!(header.ends_with("   950 records, 48 213 keys"), "{header}");
        rest.to_owned()
    }

    #[test]
    fn the_last_table_is_plain_and_reports_what_is_missing() {
        let mut model = model(LimitEffect::default());
        let values = ValueKind::PartsOf("the words");
        assert_eq!(
            left(&mut model, values, (80, 24)),
            "600   60.0 %  1 200/s  汉字\n\
             300   30.0 %    600/s  a\\x1b[2J\n \
             50    5.0 %    100/s  b\n\
             … and 48 210 more keys, 5.0 % of the words\n"
        );
        // Only the rows and columns that fit on the screen.
        assert_eq!(
            left(&mut model, values, (22, 6)),
            "600  汉字\n… and 48 212 more keys, 40.0 % of the words\n"
        );
        assert!(left(&mut model, ValueKind::Alone, (80, 24)).ends_with("48 210 more keys\n"));
    }

    #[test]
    fn the_last_table_is_what_was_seen() {
        let mut model = model(LimitEffect {
            is_approximate: true,
            error_max: 7,
            other_records: 20,
            missing_max: 0,
        });
        for key in ['/', 'x', '1'] {
            model.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
        }
        assert_eq!(
            left(&mut model, ValueKind::PartsOf("the words"), (80, 24)),
            "300   30.0 %  600/s  a\\x1b[2J\n\
             … and at least 48 212 more keys, 68.0 % of the words\n\
             20 records of other keys (memory limit)\n\
             counts are at most 7 too high (memory limit)\n"
        );
    }

    #[test]
    fn nothing_is_left_without_a_batch() {
        let mut model = ViewModel::new(Period::Interval);
        assert_eq!(last_table(&mut model, ValueKind::Alone, None), b"");
    }
}
