//! The state of the view and the effect of keys, without a terminal.
//!
//! Promise: pausing, filtering and sorting change what is shown, never what is counted; all rows
//! are of one batch. Must not know: `draw`, `screen`, `counting`, `parse`, `run`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use microtally::sink::table;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::frame::{BatchRow, Frame, KeyFilter};

/// Most characters of a filter: more than fit on a line.
const FILTER_CHARS_MAX: usize = 200;

/// The order of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Greatest value first, as the batch ranks them.
    #[default]
    Value,
    /// By bytes of the key.
    Key,
    /// Greatest gain first.
    Change,
}

/// The time that the values of a batch cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Period {
    /// The batch interval.
    #[default]
    Interval,
    /// A window of this length.
    Window(Duration),
    /// All the time so far; rates are those of the last interval.
    SoFar,
}

/// The change of a value since the previous batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ValueChange {
    /// There is no previous batch.
    None,
    /// The previous batch did not have the key.
    New,
    /// The key was not among the first rows of the previous batch, which had more keys.
    Unknown,
    /// More by this number, or less.
    By(f64),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAction {
    Nothing,
    Quit,
    Suspend,
}

/// The state of the view.
#[derive(Debug, Default)]
pub(crate) struct ViewModel {
    frame: Option<Frame>,
    changes: Vec<ValueChange>,
    /// Ranks of the rows that are shown, in order.
    order: Vec<usize>,
    /// Greatest widths of values, rates and changes so far, so that columns do not jump.
    pub widths: [usize; 3],
    pub sort: Sort,
    pub is_reversed: bool,
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    pub has_help: bool,
    pub is_ending: bool,
    /// Records of the whole run that were dropped or lost.
    pub dropped: u64,
    /// The time that values cover.
    pub period: Period,
    first: usize,
    height: usize,
}

impl ViewModel {
    pub(crate) fn new(period: Period) -> Self {
        ViewModel {
            period,
            ..ViewModel::default()
        }
    }

    /// Shows a newer batch.
    pub(crate) fn show(&mut self, frame: Frame) {
        self.changes.clear();
        self.changes.extend(changes(&frame));
        self.frame = Some(frame);
        self.measure();
        self.arrange();
    }

    /// Returns the batch that is shown.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// Returns `true` if the picture is the one that stays on the terminal.
    pub(crate) fn is_final(&self) -> bool {
        self.is_ending && self.frame.is_some()
    }

    /// Returns how many of all keys match the filter, or `None` while only the first rows were
    /// compared.
    pub(crate) fn matching(&self) -> Option<u64> {
        let rows = &self.frame.as_ref()?.now;
        match rows.len() as u64 == rows.head.keys {
            true => Some(self.order.len() as u64),
            false => (rows.head.matching).filter(|_| rows.filter == KeyFilter::new(&self.filter)),
        }
    }

    /// Returns how many rows match the filter.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns where the window begins, in rows that match the filter.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Sets how many rows fit into the window.
    pub(crate) fn set_height(&mut self, height: usize) {
        self.height = height;
        self.keep_in_range();
    }

    /// Returns the rows in the window with their changes.
    pub(crate) fn window(&self) -> impl Iterator<Item = (BatchRow<'_>, ValueChange)> + Clone {
        let ranks = self.order.iter().skip(self.first).take(self.height);
        self.frame.iter().flat_map(move |frame| {
            let row = |&rank: &usize| (frame.now.row(rank), self.changes[rank]);
            ranks.clone().map(row)
        })
    }

    /// Returns the seconds that rates refer to; 0 without an interval.
    pub(crate) fn seconds(&self) -> f64 {
        self.frame.as_ref().map_or(0.0, |it| it.now.head.period_s)
    }

    /// Returns records and bytes per second. For a sum so far they are those of the last interval.
    pub(crate) fn throughput(&self) -> Option<(f64, f64)> {
        let frame = self.frame.as_ref()?;
        let seconds = self.seconds();
        let head = frame.now.head;
        let (records, bytes) = match (self.period, &frame.before) {
            (Period::SoFar, Some(before)) => (
                head.records.saturating_sub(before.head.records),
                head.bytes.saturating_sub(before.head.bytes),
            ),
            _ => (head.records, head.bytes),
        };
        (seconds > 0.0).then(|| (records as f64 / seconds, bytes as f64 / seconds))
    }

    /// Returns share and rate of a row.
    pub(crate) fn figures(&self, row: &BatchRow<'_>, change: ValueChange) -> table::ShareAndRate {
        let total = self.frame.as_ref().and_then(|frame| frame.now.head.total);
        let number = total.map(|_| row.number);
        let mut figures = table::ShareAndRate::of(number, total.unwrap_or(0.0), self.seconds());
        if self.period == Period::SoFar {
            let came = match change {
                ValueChange::By(gain) => Some(gain),
                ValueChange::New => number,
                ValueChange::None | ValueChange::Unknown => None,
            };
            figures.rate =
                table::ShareAndRate::of(came.filter(|_| total.is_some()), 0.0, self.seconds()).rate;
        }
        figures
    }

    /// Handles a key.
    pub(crate) fn press(&mut self, key: KeyEvent) -> KeyAction {
        if key.kind == KeyEventKind::Release {
            return KeyAction::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return KeyAction::Quit,
            KeyCode::Char('z') if control => return KeyAction::Suspend,
            // The picture is final; what is typed now is meant for the shell.
            code if self.is_ending => {
                let again = !self.is_typing && matches!(code, KeyCode::Char('q') | KeyCode::Esc);
                return if again {
                    KeyAction::Quit
                } else {
                    KeyAction::Nothing
                };
            }
            KeyCode::Up => self.scroll(-1),
            KeyCode::Down => self.scroll(1),
            KeyCode::PageUp => self.scroll(-(self.height.max(1) as isize)),
            KeyCode::PageDown => self.scroll(self.height.max(1) as isize),
            KeyCode::Home => self.scroll(isize::MIN),
            KeyCode::End => self.scroll(isize::MAX),
            _ if self.is_typing => self.type_filter(key.code, control),
            _ if control => {}
            code => return self.command(code),
        }
        KeyAction::Nothing
    }

    /// Handles pasted text like typed text.
    pub(crate) fn paste(&mut self, text: &str) {
        if self.is_typing {
            text.chars()
                .for_each(|character| self.type_character(character));
            self.filter_changed();
        }
    }

    fn command(&mut self, code: KeyCode) -> KeyAction {
        match code {
            KeyCode::Esc if self.has_help => self.has_help = false,
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.filter_changed();
            }
            KeyCode::Char('q') | KeyCode::Esc => return KeyAction::Quit,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Value => Sort::Key,
                    Sort::Key => Sort::Change,
                    Sort::Change => Sort::Value,
                };
                self.arrange();
            }
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            KeyCode::Char('/') => (self.is_typing, self.has_help) = (true, false),
            KeyCode::Char('?' | 'h') => self.has_help = !self.has_help,
            KeyCode::Char('k') => self.scroll(-1),
            KeyCode::Char('j') => self.scroll(1),
            KeyCode::Char('g') => self.scroll(isize::MIN),
            KeyCode::Char('G') => self.scroll(isize::MAX),
            _ => {}
        }
        KeyAction::Nothing
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) {
        match code {
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char('h') if control => drop(self.filter.pop()),
            KeyCode::Char('u' | 'w') if control => self.filter.clear(),
            KeyCode::Char(character) if !control => self.type_character(character),
            _ => return,
        }
        self.filter_changed();
    }

    fn type_character(&mut self, character: char) {
        if !character.is_control() && self.filter.chars().count() < FILTER_CHARS_MAX {
            self.filter.push(character);
        }
    }

    fn filter_changed(&mut self) {
        self.first = 0;
        self.arrange();
    }

    fn scroll(&mut self, rows: isize) {
        self.first = self.first.saturating_add_signed(rows);
        self.keep_in_range();
    }

    /// Scrolls no further than until the last row is at the bottom.
    fn keep_in_range(&mut self) {
        let last = self.order.len().saturating_sub(self.height.max(1));
        self.first = self.first.min(last);
    }

    /// Filters and sorts the rows.
    fn arrange(&mut self) {
        let Some(frame) = &self.frame else { return };
        let rows = &frame.now;
        let filter = KeyFilter::new(&self.filter);
        let mut text = Vec::new();
        let matches = |&rank: &usize| filter.matches(rows.row(rank).key, &mut text);
        self.order.clear();
        self.order.extend((0..rows.len()).filter(matches));
        match self.sort {
            Sort::Value => {}
            Sort::Key => self.order.sort_by_key(|&rank| rows.row(rank).key),
            Sort::Change => {
                let gain = |rank: usize| match self.changes[rank] {
                    ValueChange::By(gain) => gain,
                    ValueChange::New => rows.row(rank).number,
                    ValueChange::Unknown | ValueChange::None => 0.0,
                };
                let by_gain = |a: &usize, b: &usize| -> Ordering { gain(*b).total_cmp(&gain(*a)) };
                self.order.sort_by(by_gain);
            }
        }
        if self.is_reversed {
            self.order.reverse();
        }
        self.keep_in_range();
    }

    fn measure(&mut self) {
        let Some(frame) = &self.frame else { return };
        let mut text = Vec::new();
        let mut widths = self.widths;
        let mut widen = |index: usize, text: &mut Vec<u8>| {
            widths[index] = widths[index].max(table::width(&String::from_utf8_lossy(text)));
            text.clear();
        };
        for (row, &change) in frame.now.iter().zip(&self.changes) {
            text.extend_from_slice(row.value);
            widen(0, &mut text);
            if let Some(rate) = self.figures(&row, change).rate {
                table::write_rate(rate, &mut text);
                widen(1, &mut text);
            }
            write_change(change, &mut text);
            widen(2, &mut text);
        }
        self.widths = widths;
    }
}

/// Returns the changes of the rows, by rank.
fn changes(frame: &Frame) -> Vec<ValueChange> {
    let Some(before) = &frame.before else {
        return vec![ValueChange::None; frame.now.len()];
    };
    let numbers: HashMap<_, _> = before
        .iter()
        .map(|row| ((row.key, row.identity), row.number))
        .collect();
    let is_whole = before.len() as u64 == before.head.keys;
    let of = |row: BatchRow<'_>| match numbers.get(&(row.key, row.identity)) {
        Some(number) => ValueChange::By(row.number - number),
        None if is_whole => ValueChange::New,
        None => ValueChange::Unknown,
    };
    frame.now.iter().map(of).collect()
}

/// Formats a change: `new`, `+12`, `−3`, `=`.
pub(crate) fn write_change(change: ValueChange, out: &mut Vec<u8>) {
    match change {
        ValueChange::None => {}
        ValueChange::New => out.extend_from_slice(b"new"),
        ValueChange::Unknown => out.push(b'?'),
        ValueChange::By(gain) if !gain.is_finite() => out.push(b'?'),
        ValueChange::By(0.0) => out.push(b'='),
        ValueChange::By(gain) => {
            out.extend_from_slice(if gain < 0.0 { "−" } else { "+" }.as_bytes());
            let magnitude = gain.abs();
            if magnitude.fract() == 0.0 && magnitude < 1e15 {
                table::write_grouped(magnitude as u64, out);
            } else if (1e-3..1e15).contains(&magnitude) {
                out.extend_from_slice(format!("{magnitude:.3}").as_bytes());
            } else {
                // It would have hundreds of digits, or only zeros.
                out.extend_from_slice(format!("{magnitude:.2e}").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
