//! What the view shows and what keys do to it, without a terminal.
//!
//! Promise: pausing, filtering and sorting change what is shown, never what is counted, and the rows are
//! those of one batch. Must not know: windows, colours, threads, time.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use microtally::sink::table;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::frame::{Filter, Frame, Row};

/// Characters of a filter: more than fit on a line help nobody.
const FILTER_CHARS_MAX: usize = 200;

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// As the batch ranks them: greatest value first.
    Value,
    /// By bytes of the key.
    Key,
    /// Greatest gain first.
    Change,
}

/// The time over which the values of a batch came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// The batch interval.
    Interval,
    /// A window of this length.
    Window(Duration),
    /// All the time so far: the rate is that of what came last.
    SoFar,
}

/// A value against the same key's in the batch before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// There was no batch before, so there is nothing to compare with.
    None,
    /// The key was not in it.
    New,
    /// The key was not among its first rows, and there were more.
    Unknown,
    /// So much more, or less.
    By(f64),
}

/// What has to be done about a key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    Quit,
    Suspend,
}

/// The state of the view.
#[derive(Debug)]
pub(crate) struct Model {
    frame: Option<Frame>,
    changes: Vec<Change>,
    /// Ranks of the rows that are shown, in order.
    order: Vec<usize>,
    /// Greatest widths of values and rates so far: columns do not jump about while numbers change.
    pub widths: [usize; 3],
    pub sort: Sort,
    pub is_reversed: bool,
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    pub has_help: bool,
    pub is_ending: bool,
    /// The time over which a value came together.
    pub period: Period,
    first: usize,
    height: usize,
}

impl Model {
    pub(crate) fn new(period: Period) -> Self {
        Model {
            frame: None,
            changes: Vec::new(),
            order: Vec::new(),
            widths: [0; 3],
            sort: Sort::Value,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            has_help: false,
            is_ending: false,
            period,
            first: 0,
            height: 0,
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

    /// The batch that is shown.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// Whether the picture is the one that stays behind.
    pub(crate) fn is_left(&self) -> bool {
        self.is_ending && self.frame.is_some()
    }

    /// How many of all keys of the batch pass the filter, or `None` while only the first rows were compared with it.
    pub(crate) fn passed(&self) -> Option<u64> {
        let rows = &self.frame.as_ref()?.now;
        match rows.len() as u64 == rows.head.keys {
            true => Some(self.order.len() as u64),
            false => (rows.head.passed).filter(|_| rows.filter == Filter::new(&self.filter)),
        }
    }

    /// How many rows pass the filter.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Where the window begins, in rows that pass the filter.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// How many rows fit into the window.
    pub(crate) fn set_height(&mut self, height: usize) {
        self.height = height;
        self.keep_in_range();
    }

    /// The rows in the window with their changes.
    pub(crate) fn window(&self) -> impl Iterator<Item = (Row<'_>, Change)> + Clone {
        let ranks = self.order.iter().skip(self.first).take(self.height);
        self.frame.iter().flat_map(move |frame| {
            let row = |&rank: &usize| (frame.now.row(rank), self.changes[rank]);
            ranks.clone().map(row)
        })
    }

    /// Seconds over which what rates are taken of came together; 0 when there is no interval.
    pub(crate) fn seconds(&self) -> f64 {
        self.frame.as_ref().map_or(0.0, |it| it.now.head.period_s)
    }

    /// Records and bytes a second. Those of a sum so far are what it has more than the one before.
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

    /// Share and rate of a row.
    pub(crate) fn figures(&self, row: &Row<'_>, change: Change) -> table::ShareAndRate {
        let total = self.frame.as_ref().and_then(|frame| frame.now.head.total);
        let number = total.map(|_| row.number);
        let mut figures = table::ShareAndRate::of(number, total.unwrap_or(0.0), self.seconds());
        if self.period == Period::SoFar {
            let came = match change {
                Change::By(gain) => Some(gain),
                Change::New => number,
                Change::None | Change::Unknown => None,
            };
            figures.rate =
                table::ShareAndRate::of(came.filter(|_| total.is_some()), 0.0, self.seconds()).rate;
        }
        figures
    }

    /// What a key does.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Act::Quit,
            KeyCode::Char('z') if control => return Act::Suspend,
            // The picture is the one that stays; what is typed now is meant for what comes after.
            code if self.is_ending => {
                let again = !self.is_typing && matches!(code, KeyCode::Char('q') | KeyCode::Esc);
                return if again { Act::Quit } else { Act::Nothing };
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
        Act::Nothing
    }

    /// Text that was pasted goes where typed text goes.
    pub(crate) fn paste(&mut self, text: &str) {
        if self.is_typing {
            text.chars()
                .for_each(|character| self.type_character(character));
            self.filter_changed();
        }
    }

    fn command(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Esc if self.has_help => self.has_help = false,
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.filter_changed();
            }
            KeyCode::Char('q') | KeyCode::Esc => return Act::Quit,
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
        Act::Nothing
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

    /// The last row is at the bottom of the window, at most.
    fn keep_in_range(&mut self) {
        let last = self.order.len().saturating_sub(self.height.max(1));
        self.first = self.first.min(last);
    }

    /// Finds out which rows pass the filter, and orders them.
    fn arrange(&mut self) {
        let Some(frame) = &self.frame else { return };
        let rows = &frame.now;
        let filter = Filter::new(&self.filter);
        let mut text = Vec::new();
        let passes = |&rank: &usize| filter.passes(rows.row(rank).key, &mut text);
        self.order.clear();
        self.order.extend((0..rows.len()).filter(passes));
        match self.sort {
            Sort::Value => {}
            Sort::Key => self.order.sort_by_key(|&rank| rows.row(rank).key),
            Sort::Change => {
                let gain = |rank: usize| match self.changes[rank] {
                    Change::By(gain) => gain,
                    Change::New => rows.row(rank).number,
                    Change::Unknown | Change::None => 0.0,
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

/// The rows' changes, by rank.
fn changes(frame: &Frame) -> Vec<Change> {
    let Some(before) = &frame.before else {
        return vec![Change::None; frame.now.len()];
    };
    let numbers: HashMap<_, _> = before
        .iter()
        .map(|row| ((row.key, row.identity), row.number))
        .collect();
    let is_whole = before.len() as u64 == before.head.keys;
    let of = |row: Row<'_>| match numbers.get(&(row.key, row.identity)) {
        Some(number) => Change::By(row.number - number),
        None if is_whole => Change::New,
        None => Change::Unknown,
    };
    frame.now.iter().map(of).collect()
}

/// Appends a change as it is shown: `new`, `+12`, `−3`, `=`.
pub(crate) fn write_change(change: Change, out: &mut Vec<u8>) {
    match change {
        Change::None => {}
        Change::New => out.extend_from_slice(b"new"),
        Change::Unknown => out.push(b'?'),
        Change::By(gain) if !gain.is_finite() => out.push(b'?'),
        Change::By(0.0) => out.push(b'='),
        Change::By(gain) => {
            out.extend_from_slice(if gain < 0.0 { "−" } else { "+" }.as_bytes());
            let magnitude = gain.abs();
            if magnitude.fract() == 0.0 && magnitude < 1e15 {
                table::write_grouped(magnitude as u64, out);
            } else if (1e-3..1e15).contains(&magnitude) {
                out.extend_from_slice(format!("{magnitude:.3}").as_bytes());
            } else {
                // Hundreds of digits, or zeros and nothing else.
                out.extend_from_slice(format!("{magnitude:.2e}").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
