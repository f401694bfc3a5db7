//! Draws the view into cells.
//!
//! Promise: it fits any window; below 40 columns or 10 rows it shows what fits. Whatever the rows
//! hold, no cell has a control character or one that changes the direction of writing. Must not
//! know: `screen`, `counting`, `parse`, `run`.
//!
//! ```text
//!  microtally top · tcp://localhost:9999                    16:52:25 · batch 17     title
//!  1.2 M records/s · 48 213 keys · 0.123 GB/s · exact · 3 ms late                   figures
//!  by value ↓ · first 1 000 of 48 213 keys · filter "foo": 12 rows                  state
//!     count    share      rate  change  key                                         heading
//! 1 234 567   12.3 %  1 234/s      +12  the                                         rows
//!  q quit  p pause  s sort  r reverse  / filter  ? help                             footer
//! ```

use jiff::Timestamp;
use jiff::tz::TimeZone;
use microtally::sink::table;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color as Paint, Modifier, Style};

use super::Palette;
use super::frame::Head;
use super::model::{Period, Sort, ValueChange, ViewModel, write_change};

/// ColumnPlaces that keys need; columns of numbers are dropped to keep them.
const KEY_COLUMNS_MIN: usize = 16;

/// ColumnPlaces of the bar beside the share; it is drawn only if keys have plenty of room.
const BAR_COLUMNS: usize = 10;
const KEY_COLUMNS_BESIDE_BAR: usize = 44;

/// ColumnPlaces of the title that the names of the sources need.
const NAME_COLUMNS_MIN: usize = 12;

/// From this height on the state has its own line; below, it replaces the key hints.
const STATE_HEIGHT_MIN: u16 = 14;

/// Fits 40 columns and 10 rows.
const HELP: [(&str, &str); 9] = [
    ("q Esc ^C", "quit; the table stays"),
    ("p space", "pause; counting goes on"),
    ("s", "sort by value, key, change"),
    ("r", "reverse the order"),
    ("/", "filter; Esc clears it"),
    ("↑↓ PgUp PgDn", "scroll, also Home, End"),
    ("^Z", "suspend; fg resumes"),
    ("new", "not in the previous batch"),
    ("?", "not in its first rows"),
];

/// Labels that do not change while the view is open.
#[derive(Clone, Debug)]
pub(crate) struct ViewLabels {
    /// Names of the sources.
    pub sources: Vec<String>,
    /// What the values are: `count`, `sum`.
    pub value_name: String,
    pub color: Palette,
    pub zone: TimeZone,
}

/// Messages to the user, the newest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownMessages {
    pub lines: Vec<String>,
    /// Whether the newest is to be shown in the footer.
    pub is_new: bool,
}

/// Draws everything. A new message replaces the key hints; while there is no table, messages
/// replace it.
pub(crate) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    model: &mut ViewModel,
    labels: &ViewLabels,
    messages: &ShownMessages,
) {
    if area.width < 2 || area.height == 0 {
        return;
    }
    let mut page = Page {
        buffer,
        area,
        color: labels.color,
    };
    let has_state_line = area.height >= STATE_HEIGHT_MIN;
    let state = state(model, &labels.value_name);
    let body = if has_state_line { 4 } else { 3 };
    let rows = usize::from(area.height).saturating_sub(body + 1);
    model.set_height(rows);

    page.title(model, labels);
    if model.has_help {
        page.help();
        return;
    }
    page.figures(model);
    if has_state_line {
        page.state(2, &state);
    }
    let heading = body as u16 - 1;
    match model.frame() {
        Some(frame) => {
            page.table(heading, model, &labels.value_name);
            if frame.now.len() == 0 {
                page.messages(heading + 3, messages);
            }
        }
        None => {
            page.put(2, heading, "waiting for the first batch", page.faint());
            page.messages(heading + 2, messages);
        }
    }
    if area.height <= body as u16 {
        return;
    }
    let footer = area.height - 1;
    let message = messages.lines.last().filter(|_| messages.is_new);
    if model.is_typing {
        page.prompt(footer, &model.filter);
    } else if !has_state_line && is_remarkable(model) {
        page.state(footer, &state);
    } else if let (Some(message), Some(_)) = (message, model.frame()) {
        let text = message.strip_prefix("microtally: ").unwrap_or(message);
        page.put(1, footer, &shown(text), page.loud());
    } else {
        page.keys(footer);
    }
}

/// The window, addressed by column and row from its corner.
struct Page<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    color: Palette,
}

impl Page<'_> {
    fn painted(&self, paint: Paint) -> Style {
        match self.color {
            Palette::Full => Style::new().fg(paint),
            Palette::None => Style::new(),
        }
    }

    fn faint(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn loud(&self) -> Style {
        self.painted(Paint::Yellow).add_modifier(Modifier::BOLD)
    }

    fn columns(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Writes printable text from a column of a row on, as far as it fits, and returns the column
    /// after it.
    fn put(&mut self, column: usize, row: u16, text: &str, style: Style) -> usize {
        if row >= self.area.height || column >= self.columns() {
            return column;
        }
        let (x, y) = (self.area.x + column as u16, self.area.y + row);
        let room = self.columns() - column;
        let (end, _) = self.buffer.set_stringn(x, y, text, room, style);
        usize::from(end - self.area.x)
    }

    /// Writes text that ends before a column.
    fn put_right(&mut self, end: usize, row: u16, text: &str, style: Style) {
        self.put(end.saturating_sub(table::width(text)), row, text, style);
    }

    fn style_row(&mut self, row: u16, style: Style) {
        if row < self.area.height {
            let line = Rect::new(self.area.x, self.area.y + row, self.area.width, 1);
            self.buffer.set_style(line, style);
        }
    }

    fn title(&mut self, model: &ViewModel, labels: &ViewLabels) {
        self.style_row(0, Style::new().add_modifier(Modifier::REVERSED));
        let style = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
        let mut right = Vec::new();
        for (flag, word) in [(model.is_paused, "PAUSED"), (model.is_ending, "ENDING")] {
            right.extend(flag.then(|| word.to_owned()));
        }
        if let Some(frame) = model.frame() {
            let head = &frame.now.head;
            right.push(clock_time(head, &labels.zone));
            right.push(format!("batch {}", head.batch));
        }
        let width = |right: &[String]| table::width(&right.join(" · ")) + 3;
        while !right.is_empty() && width(&right) + NAME_COLUMNS_MIN > self.columns() {
            right.pop();
        }
        let program = match self.columns() {
            ..60 => " ",
            _ => " microtally · ",
        };
        let room = self.columns().saturating_sub(width(&right));
        let column = self.put(0, 0, program, style);
        let mut names = Vec::new();
        let all = labels.sources.join(" ");
        table::fit(all.as_bytes(), room.saturating_sub(column), &mut names);
        self.put(column, 0, &String::from_utf8_lossy(&names), style);
        self.put_right(self.columns() - 1, 0, &right.join(" · "), style);
    }

    /// Draws as many figures of the batch as fit, the most important first.
    fn figures(&mut self, model: &ViewModel) {
        let Some(frame) = model.frame() else { return };
        let mut column = 1;
        let figures = figures(&frame.now.head, model.throughput(), model.dropped);
        for (index, (text, is_loud)) in figures.into_iter().enumerate() {
            let gap = if index == 0 { "" } else { " · " };
            if column + table::width(gap) + table::width(&text) > self.columns() {
                continue;
            }
            column = self.put(column, 1, gap, self.faint());
            let style = if is_loud { self.loud() } else { Style::new() };
            column = self.put(column, 1, &text, style);
        }
    }

    fn state(&mut self, row: u16, pieces: &[String]) {
        let mut text = Vec::new();
        let room = self.columns().saturating_sub(2);
        table::fit(pieces.join(" · ").as_bytes(), room, &mut text);
        self.put(1, row, &String::from_utf8_lossy(&text), self.faint());
    }

    fn table(&mut self, heading: u16, model: &ViewModel, value_name: &str) {
        let columns = ColumnPlaces::choose(self.columns(), model, value_name);
        self.style_row(heading, Style::new().add_modifier(Modifier::UNDERLINED));
        let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        for (end, name) in [
            (columns.value, value_name),
            (columns.share, "share"),
            (columns.rate, "rate"),
            (columns.change, "change"),
        ] {
            if end > 0 {
                self.put_right(end, heading, name, bold);
            }
        }
        self.put(columns.key, heading, "key", bold);

        let best = model
            .window()
            .filter_map(|(row, change)| model.figures(&row, change).share)
            .fold(0.0, f64::max);
        let room = self.columns().saturating_sub(columns.key);
        let mut text = Vec::new();
        for (index, (row, change)) in model.window().enumerate() {
            let y = heading + 1 + index as u16;
            let figures = model.figures(&row, change);
            self.put_right(
                columns.value,
                y,
                &String::from_utf8_lossy(row.value),
                Style::new(),
            );
            if let Some(share) = figures.share.filter(|_| columns.share > 0) {
                self.cell(columns.share, y, self.faint(), |out| {
                    table::write_share(share, out)
                });
                if columns.bar > 0 && best > 0.0 {
                    self.put(
                        columns.bar,
                        y,
                        &bar(share / best),
                        self.painted(Paint::Blue),
                    );
                }
            }
            if let Some(rate) = figures.rate.filter(|_| columns.rate > 0) {
                self.cell(columns.rate, y, Style::new(), |out| {
                    table::write_rate(rate, out)
                });
            }
            if columns.change > 0 {
                let style = match change {
                    ValueChange::New => self.painted(Paint::Yellow),
                    ValueChange::By(gain) if gain > 0.0 => self.painted(Paint::Green),
                    ValueChange::By(gain) if gain < 0.0 => self.painted(Paint::Red),
                    _ => self.faint(),
                };
                self.cell(columns.change, y, style, |out| write_change(change, out));
            }
            text.clear();
            table::fit(row.key, room, &mut text);
            let bold = Style::new().add_modifier(Modifier::BOLD);
            self.put(columns.key, y, &String::from_utf8_lossy(&text), bold);
        }
        if model.len() == 0 {
            let nothing = match model.filter.is_empty() {
                true => "nothing in this batch",
                false if model.matching().is_some() => "no key matches the filter",
                false => "no match in the first rows; searching all keys",
            };
            self.put(2, heading + 1, nothing, self.faint());
        }
    }

    /// Draws messages, which probably say why there is nothing.
    fn messages(&mut self, first: u16, messages: &ShownMessages) {
        let footer = self.area.height.saturating_sub(1);
        for (line, row) in messages.lines.iter().zip(first..footer) {
            self.put(2, row, &shown(line), Style::new());
        }
    }

    fn cell(&mut self, end: usize, row: u16, style: Style, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        write(&mut text);
        self.put_right(end, row, &String::from_utf8_lossy(&text), style);
    }

    fn prompt(&mut self, row: u16, filter: &str) {
        let column = self.put(1, row, "filter: ", self.loud());
        // The end stays visible if it is too long, because that is where the user types.
        let room = self.columns().saturating_sub(column + 1);
        let mut typed = shown(filter);
        while table::width(&typed) > room {
            typed.remove(0);
        }
        let column = self.put(column, row, &typed, Style::new());
        let column = self.put(
            column,
            row,
            " ",
            Style::new().add_modifier(Modifier::REVERSED),
        );
        let hint = "  Enter keeps · Esc clears";
        if column + table::width(hint) <= self.columns() {
            self.put(column, row, hint, self.faint());
        }
    }

    fn keys(&mut self, row: u16) {
        let mut column = 1;
        for (key, what) in [
            ("q", "quit"),
            ("p", "pause"),
            ("s", "sort"),
            ("/", "filter"),
            ("?", "help"),
            ("r", "reverse"),
            ("↑↓", "scroll"),
        ] {
            if column + table::width(key) + 1 + what.len() > self.columns() {
                continue;
            }
            let bold = Style::new().add_modifier(Modifier::BOLD);
            column = self.put(column, row, key, bold) + 1;
            column = self.put(column, row, what, self.faint()) + 2;
        }
    }

    fn help(&mut self) {
        for (index, (key, what)) in HELP.into_iter().enumerate() {
            let row = index as u16 + 1;
            self.put(1, row, key, Style::new().add_modifier(Modifier::BOLD));
            // In a narrow window nine columns are enough for all keys but one.
            let column = if self.columns() < 50 { 10 } else { 15 };
            let column = column.max(table::width(key) + 2);
            self.put(column, row, what, Style::new());
        }
    }
}

/// Positions of columns: numbers end before theirs, key and bar begin there; 0 is not shown.
#[derive(Debug, Default, PartialEq)]
struct ColumnPlaces {
    value: usize,
    share: usize,
    bar: usize,
    rate: usize,
    change: usize,
    key: usize,
}

impl ColumnPlaces {
    /// Drops columns that leave too little room for keys: change, then rate, then share.
    fn choose(width: usize, model: &ViewModel, value_name: &str) -> Self {
        let head = model
            .frame()
            .map(|frame| frame.now.head)
            .unwrap_or_default();
        let has_share = head.total.is_some();
        let has_rate = has_share && model.seconds() > 0.0;
        let value = model.widths[0].max(table::width(value_name));
        let share = if has_share { 7 } else { 0 };
        let rate = if has_rate { model.widths[1].max(4) } else { 0 };
        let change = model.widths[2].max(6);
        let gap = |width: usize| if width > 0 { width + 2 } else { 0 };
        let mut shown = [share, rate, change];
        let numbers = |shown: [usize; 3]| 1 + value + 2 + shown.map(gap).iter().sum::<usize>();
        for last in [2, 1, 0] {
            if numbers(shown) + KEY_COLUMNS_MIN > width {
                shown[last] = 0;
            }
        }
        let key = numbers(shown);
        let has_bar = shown[0] > 0 && key + BAR_COLUMNS + 2 + KEY_COLUMNS_BESIDE_BAR <= width;
        let mut end = 1 + value;
        let mut place = |width: usize| {
            end += gap(width);
            if width > 0 { end } else { 0 }
        };
        let share = place(shown[0]);
        let bar = place(if has_bar { BAR_COLUMNS } else { 0 }).saturating_sub(BAR_COLUMNS);
        let (rate, change) = (place(shown[1]), place(shown[2]));
        ColumnPlaces {
            value: 1 + value,
            share,
            bar,
            rate,
            change,
            key: end + 2,
        }
    }
}

/// A bar for 0 to 1, in eighths of a column.
fn bar(part: f64) -> String {
    let eighths = (part.clamp(0.0, 1.0) * (BAR_COLUMNS * 8) as f64).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// Returns the figures of the batch, the most important first, and whether each is a warning.
/// `dropped` is of the whole run.
fn figures(head: &Head, throughput: Option<(f64, f64)>, dropped: u64) -> Vec<(String, bool)> {
    let mut figures = Vec::new();
    if let Some((records_per_s, _)) = throughput {
        let rate = metric(records_per_s);
        figures.push((format!("{rate} records/s"), false));
    } else {
        figures.push((format!("{} records", grouped(head.records)), false));
    }
    let limit = &head.limit;
    if limit.is_approximate {
        let text = format!(
            "memory limit: at most {} too high",
            grouped(limit.error_max)
        );
        figures.push((text, true));
    }
    if limit.other_records > 0 {
        let text = format!(
            "memory limit: {} of other keys",
            grouped(limit.other_records)
        );
        figures.push((text, true));
        if limit.missing_max > 0 {
            let text = format!("values lack at most {}", grouped(limit.missing_max));
            figures.push((text, true));
        }
    }
    if dropped > 0 {
        figures.push((format!("{} dropped", grouped(dropped)), true));
    }
    let late_ms = head.lateness.as_millis();
    let late = format!("{late_ms} ms late");
    let is_behind = head.interval_s > 0.0 && head.lateness.as_secs_f64() > head.interval_s;
    if is_behind {
        figures.push((late.clone(), true));
    }
    let plural = if head.keys == 1 { "" } else { "s" };
    figures.push((format!("{} key{plural}", grouped(head.keys)), false));
    if let Some((_, bytes_per_s)) = throughput {
        let gigabytes = bytes_per_s / 1e9;
        figures.push((format!("{gigabytes:.3} GB/s"), false));
    }
    if !is_behind {
        figures.push((late, false));
    }
    if !limit.is_approximate && limit.other_records == 0 && dropped == 0 {
        figures.push(("exact".to_owned(), false));
    }
    figures
}

/// Describes which rows are shown, in which order.
fn state(model: &ViewModel, value_name: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let name = match model.sort {
        Sort::Value => value_name,
        Sort::Key => "key",
        Sort::Change => "change",
    };
    // By default keys are in ascending order, numbers in descending order.
    let falls = (model.sort == Sort::Key) == model.is_reversed;
    pieces.push(format!("by {name} {}", if falls { "↓" } else { "↑" }));
    let Some(frame) = model.frame() else {
        return pieces;
    };
    let head = &frame.now.head;
    if let Period::Window(length) = model.period {
        let window = length.as_secs_f64();
        let so_far = if head.period_s < window {
            format!(", {} s so far", head.period_s.round())
        } else {
            String::new()
        };
        pieces.push(format!("last {length:?}{so_far}"));
    }
    let (rows, keys) = (frame.now.len() as u64, head.keys);
    if !model.filter.is_empty() {
        let matching = match model.matching().unwrap_or(model.len() as u64) {
            1 => "1 key".to_owned(),
            keys => format!("{} keys", grouped(keys)),
        };
        pieces.push(format!("filter \"{}\": {matching}", shown(&model.filter)));
    }
    // A filter that was applied to all keys is not limited to the first rows.
    if rows < keys && (model.filter.is_empty() || model.matching().is_none()) {
        let (rows, keys) = (grouped(rows), grouped(keys));
        pieces.push(format!("of the first {rows} of {keys} keys"));
    }
    if model.first() > 0 {
        pieces.push(format!("from row {}", grouped(model.first() as u64 + 1)));
    }
    pieces
}

/// Returns `true` if the state is shown even in a low window.
fn is_remarkable(model: &ViewModel) -> bool {
    !model.filter.is_empty() || model.sort != Sort::Value || model.is_reversed || model.first() > 0
}

fn clock_time(head: &Head, zone: &TimeZone) -> String {
    let ms = i64::try_from(head.time_ms).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    // For all batches or for none, so that the title does not jump.
    let has_fraction = head.interval_s.fract() != 0.0;
    let format = if has_fraction { "%T.%3f" } else { "%T" };
    zone.to_datetime(time).strftime(format).to_string()
}

fn grouped(number: u64) -> String {
    let mut text = Vec::new();
    table::write_grouped(number, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Formats a number with at most four digits and a prefix: `1.23 M`.
fn metric(number: f64) -> String {
    let (scaled, prefix) = match number {
        1e9.. => (number / 1e9, " G"),
        1e6.. => (number / 1e6, " M"),
        1e4.. => (number / 1e3, " k"),
        _ => return format!("{number:.0}"),
    };
    let decimals = match scaled {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{prefix}")
}

/// Escapes text for the terminal.
fn shown(text: &str) -> String {
    let mut out = Vec::new();
    table::fit(text.as_bytes(), usize::MAX, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
