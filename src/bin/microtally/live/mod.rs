//! The live view: a table on a terminal that follows the stream.
//!
//! Promise: counting never waits for drawing; a batch that comes while one is drawn replaces it. The
//! terminal is given back whatever happens, with the last table left on it. Must not know: what is
//! counted and where it comes from.
//!
//! ```text
//!   publisher thread                      drawing thread
//!     LiveSink::emit ─▶ Slot (the newest) ─▶ Model ─▶ draw ─▶ terminal
//!                                             ▲ keys
//! ```
//!
//! `frame` is what is handed over, `model` what keys do, `draw` what is seen, `screen` the terminal's modes.

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
use microtally::sink::{Sink, table};
use microtally::{BatchTime, Error, Repr, Result, Value};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::size;
use signal_hook::consts::{SIGCONT, SIGTSTP};

pub(crate) use self::frame::Values;

use self::draw::{Fixed, Said};
use self::frame::{Filter, LiveSink, Slot};
pub(crate) use self::model::Period;
use self::model::{Act, Model};

/// How often the drawing thread looks for a new batch: more often than people see.
const TICK: Duration = Duration::from_millis(40);

/// Ticks a message stays on the screen: some six seconds.
const MESSAGE_TICKS: u32 = 150;

/// Quarters of a tick that the drawing thread has to end: a second.
const PATIENCE_TICKS: u32 = 100;

/// Lines around the rows of the table that is left behind: the header, what is below, and the prompt.
const LINES_AROUND: usize = 5;

/// Whether there may be colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// The terminal's sixteen.
    Full,
    /// Bold, dim and reversed only.
    None,
}

/// What the view shows.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Names of the sources, as they were typed.
    pub sources: Vec<String>,
    /// What the values are: `count`, `sum`.
    pub value_name: String,
    /// What the values are to each other.
    pub values: Values,
    /// The time over which values come together.
    pub period: Period,
    /// Rows that are held of each batch, at most, to be scrolled through, filtered and sorted.
    pub rows_max: usize,
    /// Whether there may be colours.
    pub color: Color,
}

/// A view that is open. Dropped, it gives the terminal back.
pub(crate) struct Live {
    shared: Arc<Shared>,
    values: Values,
    period: Period,
    rows_max: usize,
    drawing: Option<JoinHandle<Model>>,
}

struct Shared {
    slot: Arc<Slot>,
    is_over: AtomicBool,
}

/// Opens the view. Standard output has to be a terminal that can be drawn on.
///
/// `on_quit` is called once, on the drawing thread, when the user wants the run to end; the view stays
/// until [`Live::finish`]. A second time the process ends at once, with exit code 130.
///
/// # Errors
///
/// The terminal's, as those of an output.
pub(crate) fn start(options: Options, on_quit: impl FnOnce() + Send + 'static) -> Result<Live> {
    let shared = Arc::new(Shared {
        slot: Arc::default(),
        is_over: AtomicBool::new(false),
    });
    let mut live = Live {
        period: options.period,
        shared: Arc::clone(&shared),
        values: options.values,
        rows_max: options.rows_max,
        drawing: None,
    };
    // It is settled whether there are colours; the library would look at NO_COLOR alone.
    force_color_output(options.color == Color::Full);
    let view = View {
        shared,
        model: Model::new(options.period),
        fixed: Fixed {
            sources: options.sources,
            value_name: options.value_name,
            color: options.color,
            zone: TimeZone::system(),
        },
        on_quit: OnQuit(Some(Box::new(on_quit))),
        said: (0, 0),
    };
    let open = || {
        let signals = Signals::register()?;
        screen::take()?;
        // Whatever the view needs descriptors for, before sources may take all that the process can have: what
        // it draws on, where keys come from, and what the library waits for them with.
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

impl Live {
    /// Where batches go in; `number` is a value as a number, to sort by and to take shares of.
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

    /// Gives the terminal back and leaves the last table on it.
    ///
    /// # Errors
    ///
    /// The table could not be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        let model = self.close();
        screen::give_back();
        let mut model = model.unwrap_or_else(|| Model::new(self.period));
        // Who quits wants the table that was seen, not that of the short batch which ends the run.
        if !model.is_left()
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

    /// Ends the drawing. Nothing is left of it when it panicked, which the hook has told, or when it cannot
    /// be ended: on a terminal that is gone the library that reads keys goes round for ever.
    fn close(&mut self) -> Option<Model> {
        self.shared.is_over.store(true, Ordering::SeqCst);
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

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
        screen::give_back();
    }
}

/// A value that is text already.
#[derive(Clone, Copy)]
struct Text<'a>(&'a [u8]);

impl Repr for Text<'_> {
    fn write_repr(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// The table as the plain text that stays, as many rows as fit on a screen.
fn last_table(model: &mut Model, values: Values, size: Option<(u16, u16)>) -> Vec<u8> {
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
        .map(|(row, change)| (row.key, Text(row.value), model.figures(&row, change)));
    table::write_rows(rows, Some(usize::from(columns)), &mut text);
    let shown = model.window().map(|(row, _)| row.number).sum::<f64>();
    let limit = head.limit;
    let left = match (values, head.total) {
        (Values::PartsOf(whole), Some(total)) if total > 0.0 => {
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

/// Signals that concern the terminal.
struct Signals {
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Signals {
    fn register() -> io::Result<Self> {
        let signals = Signals {
            stop: Arc::default(),
            go_on: Arc::default(),
        };
        signal_hook::flag::register(SIGTSTP, Arc::clone(&signals.stop))?;
        signal_hook::flag::register(SIGCONT, Arc::clone(&signals.go_on))?;
        Ok(signals)
    }
}

/// Ends the run, once. A panic of the drawing thread ends it too: nobody could follow it any more.
struct OnQuit(Option<Box<dyn FnOnce() + Send>>);

impl OnQuit {
    /// False when it was called before.
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

/// The drawing thread's.
struct View {
    shared: Arc<Shared>,
    model: Model,
    fixed: Fixed,
    on_quit: OnQuit,
    /// How many messages there were, and for how many ticks the last one is shown.
    said: (usize, u32),
}

impl View {
    fn run(mut self, out: File, keyboard: &screen::Keyboard, signals: &Signals) -> Model {
        // A terminal that is gone ends the run as its user would; counting ends in its own way.
        if self.follow(out, keyboard, signals).is_err() {
            self.on_quit.call();
        }
        self.model
    }

    fn follow(
        &mut self,
        out: File,
        keyboard: &screen::Keyboard,
        signals: &Signals,
    ) -> io::Result<()> {
        let out = BufWriter::with_capacity(1 << 16, out);
        let mut terminal = Terminal::new(CrosstermBackend::new(out))?;
        let mut is_stale = true;
        while !self.shared.is_over.load(Ordering::SeqCst) && screen::is_ours() {
            if signals.stop.swap(false, Ordering::SeqCst) {
                screen::suspend()?;
                signals.go_on.store(true, Ordering::SeqCst);
            }
            if signals.go_on.swap(false, Ordering::SeqCst) {
                screen::resume()?;
                terminal.clear()?;
                is_stale = true;
            }
            if !self.model.is_paused
                && !self.model.is_left()
                && let Some(frame) = self.shared.slot.take()
            {
                self.model.show(frame);
                is_stale = true;
            }
            is_stale |= self.listen();
            if is_stale {
                let said = Said {
                    lines: screen::newest().1,
                    is_new: self.said.1 > 0,
                };
                let drawn = screen::while_ours(|| {
                    terminal
                        .draw(|picture| {
                            let area = picture.area();
                            let (model, fixed) = (&mut self.model, &self.fixed);
                            draw::draw(picture.buffer_mut(), area, model, fixed, &said);
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
                        Act::Nothing => {}
                        Act::Quit => self.quit(),
                        Act::Suspend => screen::stop_pipeline()?,
                    },
                    Event::Paste(text) => self.model.paste(&text),
                    _ => {}
                }
                keyboard.wait(Duration::ZERO)?;
            }
            self.shared.slot.look_for(&Filter::new(&self.model.filter));
        }
        Ok(())
    }

    /// The first time asks for the end, the second time is the end.
    fn quit(&mut self) {
        self.model.is_ending = true;
        if !self.on_quit.call() {
            screen::give_back();
            std::process::exit(130);
        }
    }

    /// Counts down what was said; true when the picture has to change for it.
    fn listen(&mut self) -> bool {
        let count = screen::newest().0;
        if count != self.said.0 {
            self.said = (count, MESSAGE_TICKS);
            return true;
        }
        let ticks = self.said.1;
        self.said.1 = ticks.saturating_sub(1);
        ticks == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frame::{Frame, Head, Limit, Rows};
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn model(limit: Limit) -> Model {
        let mut rows = Rows::default();
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
        let mut model = Model::new(Period::Interval);
        model.show(Frame {
            now: Arc::new(rows),
            before: None,
        });
        model
    }

    /// What is left below its header, whose time is local.
    fn left(model: &mut Model, values: Values, size: (u16, u16)) -> String {
        let text = String::from_utf8(last_table(model, values, Some(size))).unwrap();
        let (header, rest) = text.split_once('\n').unwrap();
        assert!(header.ends_with("   950 records, 48 213 keys"), "{header}");
        rest.to_owned()
    }

    #[test]
    fn the_last_table_is_plain_and_says_what_is_missing() {
        let mut model = model(Limit::default());
        let values = Values::PartsOf("the words");
        assert_eq!(
            left(&mut model, values, (80, 24)),
            "600   60.0 %  1 200/s  汉字\n\
             300   30.0 %    600/s  a\\x1b[2J\n \
             50    5.0 %    100/s  b\n\
             … and 48 210 more keys, 5.0 % of the words\n"
        );
        // As few rows as the screen has room for, as narrow as it is.
        assert_eq!(
            left(&mut model, values, (22, 6)),
            "600  汉字\n… and 48 212 more keys, 40.0 % of the words\n"
        );
        assert!(left(&mut model, Values::Alone, (80, 24)).ends_with("48 210 more keys\n"));
    }

    #[test]
    fn the_last_table_is_what_was_seen() {
        let mut model = model(Limit {
            is_approximate: true,
            error_max: 7,
            other_records: 20,
            missing_max: 0,
        });
        for key in ['/', 'x', '1'] {
            model.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
        }
        assert_eq!(
            left(&mut model, Values::PartsOf("the words"), (80, 24)),
            "300   30.0 %  600/s  a\\x1b[2J\n\
             … and at least 48 212 more keys, 68.0 % of the words\n\
             20 records of other keys (memory limit)\n\
             counts are at most 7 too high (memory limit)\n"
        );
    }

    #[test]
    fn nothing_is_left_where_nothing_was() {
        let mut model = Model::new(Period::Interval);
        assert_eq!(last_table(&mut model, Values::Alone, None), b"");
    }
}
