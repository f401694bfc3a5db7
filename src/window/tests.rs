//! Windows against their definition: every window folded from its batches, in a `BTreeMap`.
//!
//! Batches fail, functions panic, filters drop keys; the model says what has to come out. A panic
//! is thrown without the hook, so that it is not printed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;

use super::*;
use crate::config::Dialect;
use crate::table::KeyTable;
use crate::table::keys::Seed;

type Map<V> = BTreeMap<Vec<u8>, V>;
type Function<V> = fn(V, V) -> V;

/// What happens to one batch, and to the window that is due with it.
#[derive(Clone, Debug)]
struct BatchEvent<V> {
    batch: Option<Map<V>>,
    panic_in_enter: bool,
    panic_in_slide: bool,
}

/// Keys of every class, some of them equal but for NULs behind them.
fn key() -> impl Strategy<Value = Vec<u8>> {
    (0u8..6, 0usize..5).prop_map(|(number, class)| {
        let mut key = vec![b'a' + number; [1, 8, 12, 17, 40][class]];
        key.extend(vec![0; usize::from(number) % 3]);
        key
    })
}

fn events<V: Debug + Clone>(
    value: impl Strategy<Value = V>,
    failures: u32,
) -> impl Strategy<Value = Vec<BatchEvent<V>>> {
    let batch = proptest::collection::btree_map(key(), value, 0..8);
    let rarely = move || (0u32..100).prop_map(move |n| n < failures);
    let event = (batch, rarely(), rarely(), rarely()).prop_map(
        |(batch, failed, panic_in_enter, panic_in_slide)| BatchEvent {
            batch: (!failed).then_some(batch),
            panic_in_enter,
            panic_in_slide,
        },
    );
    proptest::collection::vec(event, 0..60)
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1usize..16, 1usize..6).prop_map(|(window, slide)| Shape::new(window, slide)),
        (1usize..6, 1usize..5).prop_map(|(slides, slide)| Shape::new(slides * slide, slide)),
    ]
}

fn table<V: Copy>(seed: Seed, batch: &Map<V>) -> KeyTable<V> {
    let mut table = KeyTable::new(seed);
    for (key, value) in batch {
        table.add(key, *value, |_, new| new);
    }
    table
}

fn content<V: Copy>(table: &KeyTable<V>) -> Map<V> {
    let map: Map<V> = table.iter().map(|(key, v)| (key.to_vec(), v)).collect();
    assert_eq!(map.len(), table.len());
    map
}

/// `function`, which panics when it is called while `armed`.
fn panicking<V: 'static>(armed: &Cell<bool>, function: fn(V, V) -> V) -> impl Fn(V, V) -> V {
    move |a, b| {
        if armed.get() {
            resume_unwind(Box::new("planted"));
        }
        function(a, b)
    }
}

/// The definition.
struct WindowModel<V> {
    shape: Shape,
    batches: Vec<Option<Map<V>>>,
    reduce: fn(V, V) -> V,
    /// The last window, if there was one.
    previous: Option<Map<V>>,
}

impl<V: Copy> WindowModel<V> {
    /// The values of `key` in the batches of these numbers, folded.
    fn fold(&self, key: &[u8], numbers: &BTreeSet<usize>) -> Option<V> {
        let batches = numbers.iter().map(|&n| self.batches[n].as_ref());
        let values = batches.filter_map(|batch| batch.expect("a sound batch").get(key).copied());
        values.reduce(self.reduce)
    }

    /// Numbers of the batches of the window that ended `slides` slides ago.
    fn window(&self, slides: usize) -> BTreeSet<usize> {
        let end = self.batches.len() as isize - (slides * self.shape.slide) as isize;
        (end - self.shape.window as isize..end)
            .filter_map(|n| usize::try_from(n).ok())
            .collect()
    }

    fn keys(&self, numbers: &BTreeSet<usize>) -> BTreeSet<Vec<u8>> {
        let batches = numbers.iter().filter_map(|&n| self.batches[n].as_ref());
        batches.flat_map(|batch| batch.keys().cloned()).collect()
    }

    fn anew(&self) -> Result<Map<V>, NoWindow> {
        let window = self.window(0);
        if window.iter().any(|&n| self.batches[n].is_none()) {
            return Err(NoWindow::BatchFailed);
        }
        let keys = self.keys(&window).into_iter();
        Ok(keys
            .filter_map(|key| self.fold(&key, &window).map(|value| (key, value)))
            .collect())
    }

    fn inverse(
        &mut self,
        dialect: Dialect,
        inverse: fn(V, V) -> V,
        keep: Option<fn(&[u8], V) -> bool>,
    ) -> Result<Map<V>, NoWindow> {
        let is_anew = dialect == Dialect::PySpark && self.shape.window < 5 * self.shape.slide;
        let previous = self.previous.take().filter(|_| !is_anew);
        let anew = self.anew()?;
        let mut window = match previous {
            None => anew,
            Some(previous) => {
                let (was, is) = (self.window(1), self.window(0));
                let (old, new) = (&was - &is, &is - &was);
                let mut keys = &self.keys(&old) | &self.keys(&new);
                keys.extend(previous.keys().cloned());
                let mut window = BTreeMap::new();
                for key in keys {
                    let (old, new) = (self.fold(&key, &old), self.fold(&key, &new));
                    let value = match (previous.get(&key), new) {
                        (None, None) if dialect == Dialect::PySpark => continue,
                        (None, None) => return Err(NoWindow::KeyVanished),
                        (None, Some(new)) => new,
                        (Some(&value), new) => {
                            let value = old.map_or(value, |old| inverse(value, old));
                            new.map_or(value, |new| (self.reduce)(value, new))
                        }
                    };
                    window.insert(key, value);
                }
                window
            }
        };
        if let Some(keep) = keep {
            window.retain(|key, value| keep(key, *value));
        }
        self.previous = Some(window.clone());
        Ok(window)
    }
}

/// Lets all events happen to an inverse window and to the model; `same` compares values.
fn check_inverse<V: Copy + Debug + 'static>(
    shape: Shape,
    dialect: Dialect,
    (reduce, inverse): (Function<V>, Function<V>),
    keep: Option<fn(&[u8], V) -> bool>,
    events: Vec<BatchEvent<V>>,
    same: fn(&V, &V) -> bool,
) {
    let armed = Cell::new(false);
    let seed = Seed::random();
    let mut window = InverseWindow::new(shape, dialect);
    let mut model = WindowModel {
        shape,
        batches: Vec::new(),
        reduce,
        previous: None,
    };
    for event in events {
        armed.set(event.panic_in_enter);
        let entered = catch_unwind(AssertUnwindSafe(|| match &event.batch {
            Some(batch) => window.enter(&table(seed, batch), panicking(&armed, reduce)),
            None => window.enter_failed(),
        }));
        model.batches.push(event.batch.filter(|_| entered.is_ok()));
        assert_eq!(window.is_due(), model.batches.len() % shape.slide == 0);
        if !window.is_due() {
            continue;
        }
        armed.set(event.panic_in_slide);
        let made = catch_unwind(AssertUnwindSafe(|| {
            let (reduce, inverse) = (panicking(&armed, reduce), panicking(&armed, inverse));
            window.slide(reduce, inverse, keep).map(content)
        }));
        match made {
            Err(_) => model.previous = None,
            Ok(made) => {
                let expected = model.inverse(dialect, inverse, keep);
                let is_same = match (&made, &expected) {
                    (Ok(made), Ok(expected)) => {
                        made.len() == expected.len()
                            && made
                                .iter()
                                .zip(expected)
                                .all(|((k, v), (key, value))| k == key && same(v, value))
                    }
                    (made, expected) => made.as_ref().err() == expected.as_ref().err(),
                };
                assert!(is_same, "{shape:?} {dialect:?}: {made:?}, not {expected:?}");
            }
        }
    }
}

/// Composition of functions `x -> a * x + b`: associative, and depends on the order.
fn compose([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a.wrapping_mul(c), a.wrapping_mul(d).wrapping_add(b)]
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Scala), Just(Dialect::PySpark)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn inverse_windows_equal_their_definition(
        shape in shape(),
        dialect in dialect(),
        filter in 0usize..4,
        events in events(prop_oneof![0u64..4, any::<u64>()], 3),
    ) {
        let keep: Option<fn(&[u8], u64) -> bool> = match filter {
            0 => None,
            1 => Some(|_, value| value != 0),
            2 => Some(|_, value| value % 4 != 1),
            _ => Some(|key, _| key[0] != b'c'),
        };
        let functions = (u64::wrapping_add as Function<u64>, u64::wrapping_sub as _);
        check_inverse(shape, dialect, functions, keep, events, |a, b| a == b);
    }

    #[test]
    fn floats_are_added_and_taken_off_in_sparks_order(
        shape in shape(),
        events in events(-1.0f64..1.0, 0),
    ) {
        let functions = ((|a, b| a + b) as Function<f64>, (|a, b| a - b) as _);
        let same = |a: &f64, b: &f64| a.to_bits() == b.to_bits();
        check_inverse(shape, Dialect::Scala, functions, None, events, same);
    }

    #[test]
    fn windows_without_an_inverse_equal_their_definition(
        shape in prop_oneof![3 => shape(), 1 => (1usize..40).prop_map(|w| Shape::new(w, 1))],
        events in events(any::<[u64; 2]>(), 3),
    ) {
        let armed = Cell::new(false);
        let mut window = ReduceWindow::new(shape);
        let mut model = WindowModel { shape, batches: Vec::new(), reduce: compose, previous: None };
        let seed = Seed::random();
        for event in events {
            armed.set(event.panic_in_enter);
            let entered = catch_unwind(AssertUnwindSafe(|| match &event.batch {
                Some(batch) => window.enter(&table(seed, batch), panicking(&armed, compose)),
                None => window.enter_failed(),
            }));
            model.batches.push(event.batch.filter(|_| entered.is_ok()));
            if window.is_due() {
                armed.set(event.panic_in_slide);
                let made = catch_unwind(AssertUnwindSafe(|| {
                    window.slide(panicking(&armed, compose)).map(content)
                }));
                if let Ok(made) = made {
                    prop_assert_eq!(made, model.anew());
                }
            }
        }
    }

    #[test]
    fn slides_may_be_left_out(
        shape in shape(),
        batches in proptest::collection::vec((events(1u64..5, 1), any::<bool>()), 1..8),
    ) {
        let mut taken_off = InverseWindow::new(shape, Dialect::Scala);
        let mut folded = ReduceWindow::new(shape);
        let mut model =
            WindowModel { shape, batches: Vec::new(), reduce: u64::wrapping_add, previous: None };
        let seed = Seed::random();
        for (events, is_made) in batches {
            for event in events {
                match &event.batch {
                    Some(batch) => {
                        taken_off.enter(&table(seed, batch), u64::wrapping_add);
                        folded.enter(&table(seed, batch), u64::wrapping_add);
                    }
                    None => {
                        taken_off.enter_failed();
                        folded.enter_failed();
                    }
                }
                model.batches.push(event.batch);
                if folded.is_due() && is_made {
                    let keep = Some(|_: &[u8], value| value != 0);
                    let window = taken_off.slide(u64::wrapping_add, u64::wrapping_sub, keep);
                    prop_assert_eq!(window.map(content), model.anew());
                    let window = folded.slide(u64::wrapping_add);
                    prop_assert_eq!(window.map(content), model.anew());
                }
            }
        }
    }
}

/// Counts of one-letter words, written as `a1 b2`.
fn batch(text: &str) -> Map<u64> {
    let word = |word: &str| (word[..1].into(), word[1..].parse().expect("a number"));
    text.split_whitespace().map(word).collect()
}

#[test]
fn sparks_own_cases_with_an_inverse_function() {
    let batches = ["a1", "a1 b1", "a1 b1 c1", "a1 b1", "a1", "", "a1", "a1 b1"];
    let kept = [
        "a1", "a2 b1", "a2 b2 c1", "a2 b2 c1", "a2 b1 c0", "a1 b0 c0", "a1 b0 c0", "a2 b1 c0",
    ];
    let dropped = [
        "a1", "a2 b1", "a2 b2 c1", "a2 b2 c1", "a2 b1", "a1", "a1", "a2 b1",
    ];
    for (is_filtered, expected) in [(false, kept), (true, dropped)] {
        let mut window = InverseWindow::new(Shape::new(2, 1), Dialect::Scala);
        for (entering, expected) in batches.iter().zip(expected) {
            window.enter(&table(Seed::random(), &batch(entering)), |a, b| a + b);
            let keep = is_filtered.then_some(|_: &[u8], count| count != 0);
            let made = window.slide(|a, b| a + b, |a, b| a - b, keep).map(content);
            assert_eq!(made, Ok(batch(expected)));
        }
    }
}

#[test]
fn a_filter_that_drops_what_has_values_is_reported_in_sparks_words() {
    let mut window = InverseWindow::new(Shape::new(2, 1), Dialect::Scala);
    let mut slide = |entering| {
        window.enter(&table(Seed::random(), &batch(entering)), |a, b| a + b);
        let keep = Some(|_: &[u8], count| count != 3);
        let made = window.slide(|a, b| a + b, |a, b| a - b, keep);
        made.map(content).map_err(|error| error.to_string())
    };
    assert_eq!(slide("a3 b1"), Ok(batch("b1")));
    assert_eq!(slide("b1"), Ok(batch("b2")));
    let text = "Neither previous window has value for key, nor new values found. \
                Are you sure your key class hashes consistently?";
    assert_eq!(slide("b1"), Err(text.to_owned()));
    assert_eq!(slide("a4"), Ok(batch("a4 b1")), "computed from its batches");
}

/// No slide of a window without an inverse calls `reduce` more often than a few panes have keys:
/// neither while the window grows, nor when the parts change their roles, nor behind a failed
/// batch.
#[test]
fn no_slide_costs_more_than_others() {
    for window in [5, 6, 61, 600] {
        let keys = 50;
        let batch: Map<u64> = (0..keys)
            .map(|n: u64| (n.to_be_bytes().into(), 1))
            .collect();
        let batch = table(Seed::random(), &batch);
        let calls = Cell::new(0);
        let reduce = |a, b| {
            calls.set(calls.get() + 1);
            a + b
        };
        let mut folded = ReduceWindow::new(Shape::new(window, 1));
        for number in 1..4 * window {
            if number == 2 * window + 3 {
                folded.enter_failed();
            } else {
                folded.enter(&batch, reduce);
            }
            calls.set(0);
            let made = folded.slide(reduce);
            assert!(
                calls.get() <= 6 * keys,
                "{window}, {number}: {}",
                calls.get()
            );
            let is_failed = (2 * window + 3..3 * window + 3).contains(&number);
            assert_eq!(made.is_err(), is_failed);
            if let Ok(made) = made {
                assert!(
                    made.iter()
                        .all(|(_, count)| count == number.min(window) as u64)
                );
            }
        }
    }
}

/// A function that fails once costs nothing: the rest of the batch is folded in before anything
/// else happens.
#[test]
fn a_batch_whose_function_failed_once_is_made_up_for() {
    let mut batch = KeyTable::<u64>::new(Seed::random());
    for number in 0..5u8 {
        batch.add(&[b'a' + number], 1, |a, b| a + b);
    }
    let fails = |_: u64, _: u64| -> u64 { resume_unwind(Box::new("fails")) };
    let add = |a: u64, b: u64| a + b;
    // Two batches a slide: the second one is folded into the first as it enters.
    let shape = Shape::new(4, 2);
    let mut reduced = ReduceWindow::new(shape);
    let mut inverse = InverseWindow::new(shape, Dialect::Scala);
    reduced.enter(&batch, add);
    inverse.enter(&batch, add);
    assert!(
        !reduced.make_up(add) && !inverse.make_up(add),
        "nothing lacks"
    );
    let entered = catch_unwind(AssertUnwindSafe(|| reduced.enter(&batch, fails)));
    assert!(entered.is_err() && reduced.make_up(add) && !reduced.make_up(add));
    let entered = catch_unwind(AssertUnwindSafe(|| inverse.enter(&batch, fails)));
    assert!(entered.is_err() && inverse.make_up(add) && !inverse.make_up(add));
    let keep = None::<fn(&[u8], u64) -> bool>;
    for window in [reduced.slide(add), inverse.slide(add, |a, b| a - b, keep)] {
        let window = window.expect("both batches are whole");
        assert_eq!(window.len(), 5);
        assert!(window.iter().all(|(_, value)| value == 2));
    }
}

#[test]
fn a_window_keeps_the_panes_of_its_length_and_of_one_slide() {
    for (window, slide) in [(1, 1), (3, 2), (600, 1), (2, 5)] {
        assert_eq!(Shape::new(window, slide).panes_max(), window + slide);
    }
    assert_eq!(Shape::new(usize::MAX, 2).panes_max(), usize::MAX);
}
