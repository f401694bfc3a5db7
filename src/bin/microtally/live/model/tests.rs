//! Presses keys and checks what is visible.

use super::*;
use crate::live::frame::{BatchRows, Head};
use std::sync::Arc;

/// Rows by rank of a batch with `keys` keys.
pub(crate) fn rows(rows: &[(&[u8], f64)], keys: u64) -> Arc<BatchRows> {
    let mut made = BatchRows::default();
    for (key, number) in rows {
        made.push(key, *number, |out| {
            table::write_value(&(*number as u64), out)
        });
    }
    made.head = Head {
        batch: 17,
        time_ms: 1_763_830_345_000,
        interval_s: 1.0,
        period_s: 1.0,
        records: 1_234_567,
        bytes: 123_456_789,
        keys,
        total: Some(rows.iter().map(|row| row.1).sum()),
        ..Head::default()
    };
    Arc::new(made)
}

type KeyNumbers = [(&'static [u8], f64)];

fn frame(now: &KeyNumbers, before: Option<(&KeyNumbers, u64)>) -> Frame {
    Frame {
        now: rows(now, now.len() as u64),
        before: before.map(|(before, keys)| rows(before, keys)),
    }
}

const FRUIT: &[(&[u8], f64)] = &[
    (b"apple", 50.0),
    (b"Pear", 40.0),
    (b"fig\x1b", 30.0),
    ("käse".as_bytes(), 20.0),
    (b"plum", 10.0),
];

fn model() -> ViewModel {
    let mut model = ViewModel::new(Period::Interval);
    model.set_height(3);
    let before: &[(&[u8], f64)] = &[(b"apple", 60.0), (b"Pear", 40.0), (b"plum", 2.0)];
    model.show(frame(FRUIT, Some((before, 3))));
    model
}

fn press(model: &mut ViewModel, codes: impl IntoIterator<Item = KeyCode>) -> KeyAction {
    let press = |code| model.press(KeyEvent::new(code, KeyModifiers::NONE));
    codes.into_iter().map(press).last().expect("a key")
}

fn control(model: &mut ViewModel, letter: char) -> KeyAction {
    model.press(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL))
}

fn type_text(model: &mut ViewModel, text: &str) {
    press(model, text.chars().map(KeyCode::Char));
}

/// First letters of the rows in the window.
fn visible(model: &ViewModel) -> String {
    let first =
        |(row, _): (BatchRow<'_>, ValueChange)| String::from_utf8_lossy(row.key).chars().next();
    model.window().filter_map(first).collect()
}

#[test]
fn sorting_goes_around_and_can_be_reversed() {
    let mut model = model();
    model.set_height(10);
    assert_eq!(visible(&model), "aPfkp");
    type_text(&mut model, "s");
    assert_eq!((visible(&model).as_str(), model.sort), ("Pafkp", Sort::Key));
    type_text(&mut model, "r");
    assert_eq!(visible(&model), "pkfaP");
    type_text(&mut model, "rs");
    // New keys gained their values: fig 30, käse 20; plum gained 8, Pear nothing, apple lost.
    assert_eq!(
        (visible(&model).as_str(), model.sort),
        ("fkpPa", Sort::Change)
    );
    type_text(&mut model, "s");
    assert_eq!(
        (visible(&model).as_str(), model.sort),
        ("aPfkp", Sort::Value)
    );
}

#[test]
fn a_filter_is_typed_live_kept_and_cleared() {
    let mut model = model();
    type_text(&mut model, "/");
    assert!(model.is_typing);
    // Letters that are commands otherwise.
    type_text(&mut model, "p");
    assert_eq!(visible(&model), "aPp");
    type_text(&mut model, "l");
    assert_eq!(visible(&model), "ap");
    press(&mut model, [KeyCode::Backspace, KeyCode::Enter]);
    assert!(!model.is_typing);
    assert_eq!(
        (visible(&model).as_str(), model.filter.as_str()),
        ("aPp", "p")
    );
    // A capital letter matches itself only.
    press(&mut model, [KeyCode::Char('/'), KeyCode::Backspace]);
    type_text(&mut model, "P");
    assert_eq!(visible(&model), "P");
    // The filter applies to what is shown: the escape and the accent.
    control(&mut model, 'u');
    type_text(&mut model, "\\x1");
    assert_eq!(visible(&model), "f");
    control(&mut model, 'w');
    model.paste("KÄ\n".to_lowercase().as_str());
    assert_eq!(
        (visible(&model).as_str(), model.filter.as_str()),
        ("k", "kä")
    );
    press(&mut model, [KeyCode::Esc]);
    assert_eq!((model.len(), model.is_typing), (5, false));
}

#[test]
fn escape_leaves_one_thing_after_the_other() {
    let mut model = model();
    type_text(&mut model, "/a");
    press(&mut model, [KeyCode::Enter]);
    type_text(&mut model, "?");
    assert!(model.has_help);
    assert_eq!(press(&mut model, [KeyCode::Esc]), KeyAction::Nothing);
    assert_eq!((model.has_help, model.filter.as_str()), (false, "a"));
    assert_eq!(press(&mut model, [KeyCode::Esc]), KeyAction::Nothing);
    assert_eq!(model.filter, "");
    assert_eq!(press(&mut model, [KeyCode::Esc]), KeyAction::Quit);
}

#[test]
fn quit_and_suspend_work_in_every_state() {
    let mut model = model();
    assert_eq!(press(&mut model, [KeyCode::Char('q')]), KeyAction::Quit);
    for before in ["", "/", "?", "p"] {
        type_text(&mut model, &format!("/{before}"));
        assert_eq!(control(&mut model, 'c'), KeyAction::Quit);
        assert_eq!(control(&mut model, 'z'), KeyAction::Suspend);
    }
    let release = KeyEvent {
        kind: KeyEventKind::Release,
        ..KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)
    };
    assert_eq!(model.press(release), KeyAction::Nothing);
}

#[test]
fn typing_after_a_quit_changes_nothing() {
    let mut model = model();
    model.is_ending = true;
    type_text(&mut model, "srp/x?jG");
    assert_eq!((visible(&model).as_str(), model.is_typing), ("aPf", false));
    assert!(!model.is_paused && !model.has_help);
    assert_eq!(press(&mut model, [KeyCode::Char('q')]), KeyAction::Quit);
    assert_eq!(control(&mut model, 'c'), KeyAction::Quit);
}

#[test]
fn scrolling_stays_among_the_rows() {
    let mut model = model();
    press(&mut model, [KeyCode::Up]);
    assert_eq!((model.first(), visible(&model).as_str()), (0, "aPf"));
    press(&mut model, [KeyCode::Down]);
    assert_eq!((model.first(), visible(&model).as_str()), (1, "Pfk"));
    press(&mut model, [KeyCode::PageDown]);
    assert_eq!((model.first(), visible(&model).as_str()), (2, "fkp"));
    press(&mut model, [KeyCode::Home]);
    press(&mut model, [KeyCode::End, KeyCode::PageUp]);
    assert_eq!(model.first(), 0);
    press(&mut model, [KeyCode::End]);
    // The window grows, and there are fewer rows.
    model.set_height(4);
    assert_eq!((model.first(), visible(&model).as_str()), (1, "Pfkp"));
    model.show(frame(&FRUIT[..2], None));
    assert_eq!((model.first(), visible(&model).as_str()), (0, "aP"));
    model.set_height(0);
    press(&mut model, [KeyCode::PageDown, KeyCode::End]);
    assert_eq!(visible(&model), "");
}

#[test]
fn changes_are_unknown_without_the_previous_value() {
    let before: &[(&[u8], f64)] = &[(b"apple", 60.0), (b"plum", 10.0)];
    let known = changes(&frame(FRUIT, Some((before, 2))));
    let (by, new) = (ValueChange::By, ValueChange::New);
    assert_eq!(known, [by(-10.0), new, new, new, by(0.0)]);
    // There were more keys than rows, so these keys may have been among them.
    let unknown = ValueChange::Unknown;
    let partly = changes(&frame(FRUIT, Some((before, 3))));
    assert_eq!(partly, [by(-10.0), unknown, unknown, unknown, by(0.0)]);
    assert_eq!(changes(&frame(FRUIT, None)), [ValueChange::None; 5]);

    let text = |change| {
        let mut out = Vec::new();
        write_change(change, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        [
            by(0.0),
            by(-1234.0),
            by(1e6),
            by(0.25),
            by(f64::NAN),
            by(f64::INFINITY),
            by(-1.5e300),
            by(0.0001),
            new,
            unknown
        ]
        .map(text),
        [
            "=",
            "−1 234",
            "+1 000 000",
            "+0.250",
            "?",
            "?",
            "−1.50e300",
            "+1.00e-4",
            "new",
            "?"
        ]
    );
}

#[test]
fn columns_never_get_narrower() {
    let mut model = ViewModel::new(Period::Interval);
    model.show(frame(&[(b"a", 1_000_000.0)], None));
    assert_eq!(model.widths, [9, 11, 0]);
    model.show(frame(&[(b"a", 1.0)], None));
    assert_eq!(model.widths, [9, 11, 0]);
}

#[test]
fn rates_of_a_window_refer_to_the_time_it_covers() {
    let mut model = ViewModel::new(Period::Window(Duration::from_secs(60)));
    let mut fruit = rows(FRUIT, FRUIT.len() as u64);
    Arc::get_mut(&mut fruit).unwrap().head.period_s = 10.0;
    model.show(Frame {
        now: fruit,
        before: None,
    });
    let figures = model.figures(&model.frame().unwrap().now.row(0), ValueChange::By(7.0));
    assert_eq!(figures.rate, Some(5.0));
    assert_eq!(figures.share, Some(50.0 / 150.0));
}

#[test]
fn the_throughput_of_a_sum_so_far_is_that_of_the_last_interval() {
    let rows = |records, bytes| {
        let mut rows = BatchRows::default();
        rows.head = Head {
            records,
            bytes,
            interval_s: 0.5,
            period_s: 0.5,
            ..Head::default()
        };
        Arc::new(rows)
    };
    let frame = |before: Option<Arc<BatchRows>>| Frame {
        now: rows(300, 7000),
        before,
    };
    for (period, before, expected) in [
        (Period::SoFar, Some(rows(100, 6000)), (400.0, 2000.0)),
        (Period::SoFar, Some(rows(300, 7000)), (0.0, 0.0)),
        (Period::SoFar, None, (600.0, 14_000.0)),
        (Period::Interval, Some(rows(100, 6000)), (600.0, 14_000.0)),
    ] {
        let mut model = ViewModel::new(period);
        model.show(frame(before));
        assert_eq!(model.throughput(), Some(expected), "{period:?}");
    }
}

#[test]
fn rates_of_a_sum_so_far_are_those_of_the_last_interval() {
    let mut model = ViewModel::new(Period::SoFar);
    model.show(frame(FRUIT, None));
    let seconds = model.seconds();
    let rate = |change| {
        model
            .figures(&model.frame().unwrap().now.row(0), change)
            .rate
    };
    let per_s = |number: f64| (seconds > 0.0).then_some(number / seconds);
    assert_eq!(rate(ValueChange::By(7.0)), per_s(7.0));
    assert_eq!(rate(ValueChange::New), per_s(50.0));
    assert_eq!(
        (rate(ValueChange::None), rate(ValueChange::Unknown)),
        (None, None)
    );
}
