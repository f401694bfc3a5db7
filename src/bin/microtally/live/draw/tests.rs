//! Compares screens cell by cell.

use super::*;
use crate::live::frame::{BatchRows, Frame, KeyFilter, LimitEffect};
use crate::live::model::{Period, ViewModel};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::sync::Arc;
use std::time::Duration;

fn labels(color: Palette) -> ViewLabels {
    ViewLabels {
        sources: vec!["tcp://localhost:9999".into(), "evil\u{1b}[2J.log".into()],
        value_name: "count".into(),
        color,
        zone: TimeZone::UTC,
    }
}

const HOSTILE: &[&str] = &[
    "\u{1b}]0;owned\u{7}",
    "\u{1b}[2J",
    "\u{9b}31m",
    "left\u{202e}right",
    "\u{2066}isolate\u{2069}",
    "line\nline\r",
    "tab\tnul\0",
    "\u{e0041}tag",
    "back\\slash",
];

fn rows(keys: &[&[u8]], head: Head) -> Arc<BatchRows> {
    let mut rows = BatchRows::default();
    let mut total = 0.0;
    for (rank, key) in keys.iter().enumerate() {
        let number = 1_000_000 / (rank as u64 + 1);
        rows.push(key, number as f64, |out| table::write_value(&number, out));
        total += number as f64;
    }
    rows.head = Head {
        batch: 17,
        time_ms: 1_763_830_345_000,
        interval_s: 1.0,
        period_s: 1.0,
        records: 1_234_567,
        bytes: 123_456_789,
        lateness: Duration::from_millis(3),
        total: Some(total),
        keys: keys.len() as u64,
        ..head
    };
    Arc::new(rows)
}

fn model_of(keys: &[&[u8]], head: Head) -> ViewModel {
    let mut model = ViewModel::new(Period::Interval);
    model.show(Frame {
        now: rows(keys, head),
        before: Some(rows(&keys[keys.len() / 2..], head)),
    });
    model
}

fn wide_and_hostile() -> ViewModel {
    let wide = ["汉字かな交じり文", "👍🏽 emoji", "e\u{301}te\u{301}", "plain"];
    let keys: Vec<&[u8]> = wide
        .iter()
        .chain(HOSTILE)
        .map(|key| key.as_bytes())
        .collect();
    model_of(&keys, Head::default())
}

fn screen_of(model: &mut ViewModel, width: u16, height: u16, messages: &ShownMessages) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let labels = labels(Palette::Full);
    terminal
        .draw(|picture| {
            let area = picture.area();
            draw(picture.buffer_mut(), area, model, &labels, messages);
        })
        .unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of a screen, without the second cell of a wide character, as on a terminal.
fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y| {
        let mut text = String::new();
        let mut x = 0;
        while x < area.width {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            x += table::width(symbol).max(1) as u16;
        }
        text.trim_end().to_owned()
    };
    (0..area.height).map(line).collect()
}

fn screen(model: &mut ViewModel, width: u16, height: u16) -> Vec<String> {
    lines(&screen_of(model, width, height, &ShownMessages::default()))
}

fn press(model: &mut ViewModel, keys: &str) {
    for key in keys.chars() {
        model.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
    }
}

#[test]
fn eighty_by_twenty_four() {
    let mut model = wide_and_hostile();
    assert_eq!(
        screen(&mut model, 80, 24)[..10],
        [
            " microtally · tcp://localhost:9999 evil\\x1b[2J.log          16:52:25 · batch 17",
            " 1.23 M records/s · 13 keys · 0.123 GB/s · 3 ms late · exact",
            " by count ↓",
            "     count    share         rate    change  key",
            " 1 000 000   31.4 %  1 000 000/s       new  汉字かな交じり文",
            "   500 000   15.7 %    500 000/s       new  👍🏽 emoji",
            "   333 333   10.5 %    333 333/s       new  e\u{301}te\u{301}",
            "   250 000    7.9 %    250 000/s       new  plain",
            "   200 000    6.3 %    200 000/s       new  \\x1b]0;owned\\x07",
            "   166 666    5.2 %    166 666/s       new  \\x1b[2J",
        ]
    );
    assert_eq!(
        screen(&mut model, 80, 24)[23],
        " q quit  p pause  s sort  / filter  ? help  r reverse  ↑↓ scroll"
    );
}

#[test]
fn forty_by_ten() {
    let mut model = wide_and_hostile();
    assert_eq!(
        screen(&mut model, 40, 10),
        [
            " tcp://localhost:…  16:52:25 · batch 17",
            " 1.23 M records/s · 13 keys · 0.123 GB/s",
            "     count    share  key",
            " 1 000 000   31.4 %  汉字かな交じり文",
            "   500 000   15.7 %  👍🏽 emoji",
            "   333 333   10.5 %  e\u{301}te\u{301}",
            "   250 000    7.9 %  plain",
            "   200 000    6.3 %  \\x1b]0;owned\\x07",
            "   166 666    5.2 %  \\x1b[2J",
            " q quit  p pause  s sort  / filter",
        ]
    );
}

#[test]
fn two_hundred_by_sixty_has_bars() {
    let mut model = wide_and_hostile();
    let lines = screen(&mut model, 200, 60);
    assert_eq!(
        lines[3..7],
        [
            "     count    share                     rate    change  key",
            " 1 000 000   31.4 %  ██████████  1 000 000/s       new  汉字かな交じり文",
            "   500 000   15.7 %  █████         500 000/s       new  👍🏽 emoji",
            "   333 333   10.5 %  ███▍          333 333/s       new  e\u{301}te\u{301}",
        ]
    );
    assert_eq!(lines.len(), 60);
}

/// Windows of every size: nothing panics, and nothing is wider than the window.
#[test]
fn every_window_works_and_columns_are_dropped_in_order() {
    let mut model = wide_and_hostile();
    let mut before = 5;
    for width in (1..130).rev() {
        let lines = screen(&mut model, width, 16);
        let heading = lines[3].split_whitespace().count();
        assert!(heading <= before, "{width}: {}", lines[3]);
        before = heading;
        if width >= 40 {
            assert!(lines[3].contains("count") && lines[3].ends_with("key"));
            let has = |name| lines[3].contains(name);
            assert!(has("share") || !has("rate"), "{}", lines[3]);
            assert!(has("rate") || !has("change"), "{}", lines[3]);
        }
    }
    for height in 0..30 {
        for keys in ["", "?", "?/x", "\x1b"] {
            press(&mut model, keys);
            screen(&mut model, 45, height);
        }
    }
}

#[test]
fn nothing_that_controls_a_terminal_gets_into_a_cell() {
    let mut model = wide_and_hostile();
    let messages = ShownMessages {
        lines: vec!["a\u{1b}[31m\u{202e}b".into()],
        is_new: true,
    };
    for (width, height) in [(40, 10), (80, 24), (200, 60)] {
        for keys in ["", "?", "?", "/\u{202e}\u{1b}", "\u{9b}x"] {
            press(&mut model, keys);
            let buffer = screen_of(&mut model, width, height, &messages);
            for character in buffer
                .content()
                .iter()
                .flat_map(|cell| cell.symbol().chars())
            {
                let turns = matches!(
                    character,
                    '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                );
                assert!(!character.is_control() && !turns, "{character:?}");
                assert!(!('\u{e0000}'..='\u{e007f}').contains(&character));
            }
        }
        press(&mut model, "");
        model = wide_and_hostile();
    }
}

#[test]
fn keys_are_cut_at_the_edge() {
    let long = "汉".repeat(100);
    let mut model = model_of(&[long.as_bytes(), b"b"], Head::default());
    let lines = screen(&mut model, 40, 10);
    assert_eq!(lines[3], " 1 000 000   66.7 %  汉汉汉汉汉汉汉汉汉…");
}

#[test]
fn the_state_names_what_it_is_of() {
    let head = Head::default();
    let mut model = model_of(&[b"apple", b"pear", b"fig"], head);
    let mut frame = model.frame().unwrap().clone();
    let mut cut = rows(&[b"apple", b"pear", b"fig"], head);
    Arc::get_mut(&mut cut).unwrap().head.keys = 48_213;
    frame.now = cut;
    model.show(frame);
    press(&mut model, "s/p");
    let typing = screen(&mut model, 80, 24);
    assert_eq!(
        typing[2],
        " by key ↑ · filter \"p\": 2 keys · of the first 3 of 48 213 keys"
    );
    assert_eq!(typing[23], " filter: p   Enter keeps · Esc clears");
    model.press(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
    press(&mut model, "p");
    let paused = screen(&mut model, 40, 10);
    assert!(paused[0].contains("PAUSED · 16:52:25"), "{}", paused[0]);
    assert_eq!(paused[9], " by key ↑ · filter \"p\": 2 keys · of th…");
    press(&mut model, "/xyz");
    assert_eq!(
        screen(&mut model, 80, 24)[4],
        "  no match in the first rows; searching all keys"
    );
    // A batch whose keys were all compared with this filter only.
    for (wanted, expected) in [
        ("xyz", "  no key matches the filter"),
        ("xy", "  no match in the first rows; searching all keys"),
    ] {
        let mut searched = rows(&[b"apple", b"pear", b"fig"], head);
        let there = Arc::get_mut(&mut searched).unwrap();
        (there.head.keys, there.head.matching) = (48_213, Some(0));
        there.filter = KeyFilter::new(wanted);
        let mut model = ViewModel::new(Period::Interval);
        model.show(Frame {
            now: searched,
            before: None,
        });
        press(&mut model, "/xyz");
        assert_eq!(screen(&mut model, 80, 24)[4], expected);
    }
}

#[test]
fn a_window_shows_how_much_of_it_has_passed() {
    let state = |period_s| {
        let mut now = rows(&[b"a"], Head::default());
        Arc::get_mut(&mut now).unwrap().head.period_s = period_s;
        let mut model = ViewModel::new(Period::Window(Duration::from_secs(60)));
        model.show(Frame { now, before: None });
        screen(&mut model, 80, 24)[2].clone()
    };
    assert_eq!(state(11.0), " by count ↓ · last 60s, 11 s so far");
    assert_eq!(state(60.0), " by count ↓ · last 60s");
}

#[test]
fn the_memory_limit_is_reported() {
    let limited = |limit| {
        let mut model = ViewModel::new(Period::Interval);
        let mut now = rows(&[b"a"], Head::default());
        Arc::get_mut(&mut now).unwrap().head.limit = limit;
        model.show(Frame { now, before: None });
        screen(&mut model, 80, 24)[1].clone()
    };
    let approximate = limited(LimitEffect {
        is_approximate: true,
        error_max: 1200,
        other_records: 0,
        missing_max: 0,
    });
    assert_eq!(
        approximate,
        " 1.23 M records/s · memory limit: at most 1 200 too high · 1 key · 0.123 GB/s"
    );
    let other = limited(LimitEffect {
        other_records: 98_765,
        ..LimitEffect::default()
    });
    assert!(
        other.contains("memory limit: 98 765 of other keys"),
        "{other}"
    );
    assert!(!other.contains("exact"));
    let missing = limited(LimitEffect {
        other_records: 9,
        missing_max: 7,
        ..LimitEffect::default()
    });
    assert!(
        missing.contains("memory limit: 9 of other keys · values lack at most 7"),
        "{missing}"
    );
}

#[test]
fn values_that_stand_alone_have_no_share_and_no_rate() {
    let mut model = ViewModel::new(Period::Interval);
    let mut now = rows(&[b"a", b"b"], Head::default());
    Arc::get_mut(&mut now).unwrap().head.total = None;
    model.show(Frame { now, before: None });
    let lines = screen(&mut model, 120, 24);
    assert_eq!(lines[3], "     count  change  key");
    assert_eq!(lines[4], " 1 000 000          a");
}

#[test]
fn before_the_first_batch_messages_are_shown() {
    let mut model = ViewModel::new(Period::Interval);
    let messages = ShownMessages {
        lines: vec!["microtally: waiting for tcp://h:1: connection refused".into()],
        is_new: false,
    };
    let lines = lines(&screen_of(&mut model, 80, 24, &messages));
    assert_eq!(lines[3], "  waiting for the first batch");
    assert_eq!(
        lines[5],
        "  microtally: waiting for tcp://h:1: connection refused"
    );
}

#[test]
fn an_empty_batch_also_shows_messages() {
    let mut model = ViewModel::new(Period::Interval);
    let now = rows(&[], Head::default());
    model.show(Frame { now, before: None });
    let messages = ShownMessages {
        lines: vec!["microtally: waiting for tcp://h:1: connection refused".into()],
        is_new: false,
    };
    let lines = lines(&screen_of(&mut model, 80, 24, &messages));
    assert_eq!(lines[4], "  nothing in this batch");
    assert_eq!(
        lines[6],
        "  microtally: waiting for tcp://h:1: connection refused"
    );
}

#[test]
fn lateness_beyond_the_interval_comes_first() {
    let mut now = rows(&[b"a"], Head::default());
    Arc::get_mut(&mut now).unwrap().head.lateness = Duration::from_millis(1500);
    let texts: Vec<_> = figures(&now.head, Some((1.0, 1.0)), 0);
    assert_eq!(texts[1], ("1500 ms late".to_owned(), true));
}

#[test]
fn help_fits_the_smallest_window() {
    let mut model = wide_and_hostile();
    press(&mut model, "?");
    let lines = screen(&mut model, 40, 10);
    for (line, (key, what)) in lines[1..].iter().zip(HELP) {
        assert!(line.contains(key) && line.ends_with(what), "{line}");
    }
}

#[test]
fn without_colors_there_are_none() {
    let mut model = wide_and_hostile();
    let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 30));
    let area = buffer.area;
    draw(
        &mut buffer,
        area,
        &mut model,
        &labels(Palette::None),
        &ShownMessages::default(),
    );
    assert!(
        buffer
            .content()
            .iter()
            .all(|cell| cell.fg == Paint::Reset && cell.bg == Paint::Reset)
    );
    draw(
        &mut buffer,
        area,
        &mut model,
        &labels(Palette::Full),
        &ShownMessages::default(),
    );
    assert!(buffer.content().iter().any(|cell| cell.fg != Paint::Reset));
}

#[test]
fn figures_are_short() {
    let texts = [0.0, 9999.0, 12_345.0, 123_456.0, 1_234_567.0, 98.7e9].map(metric);
    assert_eq!(texts, ["0", "9999", "12.3 k", "123 k", "1.23 M", "98.7 G"]);
    assert_eq!(
        [0.0, 0.5, 1.0, 2.0].map(bar),
        ["", "█████", "██████████", "██████████"]
    );
}

#[test]
fn what_the_run_has_dropped_is_in_the_header_and_makes_it_inexact() {
    let mut model = model_of(&[b"a"], Head::default());
    assert!(screen(&mut model, 80, 10)[1].ends_with("exact"));
    model.dropped = 1_234;
    let header = &screen(&mut model, 80, 10)[1];
    assert!(header.contains(" \u{b7} 1 234 dropped \u{b7} "), "{header}");
    assert!(!header.contains("exact"), "{header}");
}
