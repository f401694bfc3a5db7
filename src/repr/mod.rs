//! How values look in Python: what `pprint` shows and text files hold.
//!
//! Promise: [`Repr`] writes what Python 3.11 writes for the same value, so that a batch printed
//! here and one printed by PySpark can be compared. Must not know: sinks, batches, tables.
//!
//! `text` writes strings and keys, `printable` knows which characters are printable.

mod printable;
pub(crate) mod text;

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

/// A value that can be shown as Python shows it.
///
/// PySpark's `pprint` and `saveAsTextFiles` write a record as `str(record)`: a string is its own
/// text, everything else is `repr(record)`. In a tuple or a list every item is `repr(item)`: a
/// string has quotes there. The two methods here are those two functions.
///
/// | Rust | as Python shows it |
/// |---|---|
/// | integers, `bool` | `3`, `-1`, `True` |
/// | `f64`, `f32` | `1.0`, `1e+16`, `inf`, `nan`; an `f32` as the `f64` of the same value |
/// | `str`, `String`, `char` | a string |
/// | `[u8]`, `Vec<u8>`, `[u8; N]` | a string: a record or a key; bytes that are not UTF-8 as `\xNN` |
/// | slices, arrays and `Vec`s of other items | a list: `[1, 2]` |
/// | tuples of up to four | a tuple: `('a', 1)`, `('a',)`, `()` |
/// | `Option` | `None` or the value |
/// | references, `Box`, `Arc`, `Cow` | what they hold |
///
/// ```
/// use microtally::sink::Repr;
/// fn both(value: impl Repr) -> [String; 2] {
///     let (mut str, mut repr) = (Vec::new(), Vec::new());
///     value.write_str(&mut str);
///     value.write_repr(&mut repr);
///     [str, repr].map(|text| String::from_utf8(text).unwrap())
/// }
/// assert_eq!(both("it's"), ["it's", "\"it's\""]);
/// assert_eq!(both((b"the", (2.0, None::<u64>))), ["('the', (2.0, None))"; 2]);
/// ```
///
/// A custom type only needs `write_repr`:
///
/// ```
/// use microtally::sink::Repr;
/// struct Mean { sum: f64, count: u64 }
///
/// impl Repr for Mean {
///     fn write_repr(&self, out: &mut Vec<u8>) {
///         (self.sum / self.count as f64).write_repr(out);
///     }
/// }
/// let mut text = Vec::new();
/// vec![("a", Mean { sum: 3.0, count: 2 })].write_repr(&mut text);
/// assert_eq!(text, b"[('a', 1.5)]");
/// ```
pub trait Repr {
    /// Appends what Python's `repr` returns, in UTF-8: how the value looks in a tuple or a list.
    fn write_repr(&self, out: &mut Vec<u8>);

    /// Appends what Python's `str` returns: how the value looks as a whole record. For strings and
    /// bytes that is the text itself, byte for byte; for everything else it is `repr`.
    fn write_str(&self, out: &mut Vec<u8>) {
        self.write_repr(out);
    }

    /// Appends the `repr` of several such values in a row: a list. Only `u8` differs, because
    /// several bytes are a text.
    fn write_items_repr(items: &[Self], out: &mut Vec<u8>)
    where
        Self: Sized,
    {
        out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            item.write_repr(out);
        }
        out.push(b']');
    }

    /// As [`write_items_repr`](Self::write_items_repr), for `str`.
    fn write_items_str(items: &[Self], out: &mut Vec<u8>)
    where
        Self: Sized,
    {
        Self::write_items_repr(items, out);
    }
}

impl Repr for u8 {
    fn write_repr(&self, out: &mut Vec<u8>) {
        u32::from(*self).write_repr(out);
    }

    fn write_items_repr(items: &[u8], out: &mut Vec<u8>) {
        text::write_repr(items, out);
    }

    fn write_items_str(items: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Repr for $t {
            fn write_repr(&self, out: &mut Vec<u8>) {
                write!(out, "{self}").expect("writing to memory succeeds");
            }
        }
    )*};
}
integers!(u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl Repr for f64 {
    fn write_repr(&self, out: &mut Vec<u8>) {
        // Python: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
        let magnitude = self.abs();
        let written = if self.is_nan() {
            write!(out, "nan")
        } else if self.is_infinite() {
            write!(out, "{}", if *self > 0.0 { "inf" } else { "-inf" })
        } else if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
            let start = out.len();
            let written = write!(out, "{self:e}");
            give_exponent_sign_and_two_digits(start, out);
            written
        } else {
            write!(out, "{self:?}")
        };
        written.expect("writing to memory succeeds");
    }
}

/// Turns `1e16` behind `start` into Python's `1e+16`, and `1e-5` into `1e-05`.
fn give_exponent_sign_and_two_digits(start: usize, out: &mut Vec<u8>) {
    let mark = out[start..].iter().position(|&byte| byte == b'e');
    let sign_at = start + mark.expect("`{:e}` writes an exponent") + 1;
    if out[sign_at] != b'-' {
        out.insert(sign_at, b'+');
    }
    if out.len() == sign_at + 2 {
        out.insert(sign_at + 1, b'0');
    }
}

impl Repr for f32 {
    fn write_repr(&self, out: &mut Vec<u8>) {
        f64::from(*self).write_repr(out);
    }
}

impl Repr for bool {
    fn write_repr(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"True" } else { b"False" });
    }
}

impl Repr for str {
    fn write_repr(&self, out: &mut Vec<u8>) {
        text::write_repr(self.as_bytes(), out);
    }

    fn write_str(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

/// Python has no characters, only strings of length one.
impl Repr for char {
    fn write_repr(&self, out: &mut Vec<u8>) {
        (*self.encode_utf8(&mut [0; 4])).write_repr(out);
    }

    fn write_str(&self, out: &mut Vec<u8>) {
        (*self.encode_utf8(&mut [0; 4])).write_str(out);
    }
}

impl<T: Repr> Repr for Option<T> {
    fn write_repr(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_repr(out),
            None => out.extend_from_slice(b"None"),
        }
    }

    fn write_str(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_str(out),
            None => out.extend_from_slice(b"None"),
        }
    }
}

impl<T: Repr> Repr for [T] {
    fn write_repr(&self, out: &mut Vec<u8>) {
        T::write_items_repr(self, out);
    }

    fn write_str(&self, out: &mut Vec<u8>) {
        T::write_items_str(self, out);
    }
}

impl<T: Repr, const N: usize> Repr for [T; N] {
    fn write_repr(&self, out: &mut Vec<u8>) {
        T::write_items_repr(self, out);
    }

    fn write_str(&self, out: &mut Vec<u8>) {
        T::write_items_str(self, out);
    }
}

/// Types that look like what they point to.
macro_rules! pointers {
    ($([$($generics:tt)*] $t:ty;)*) => {$(
        impl<$($generics)*> Repr for $t {
            fn write_repr(&self, out: &mut Vec<u8>) {
                (**self).write_repr(out);
            }

            fn write_str(&self, out: &mut Vec<u8>) {
                (**self).write_str(out);
            }
        }
    )*};
}
pointers! {
    [T: Repr + ?Sized] &T;
    [T: Repr + ?Sized] Box<T>;
    [T: Repr + ?Sized] Arc<T>;
    [T: Repr + ToOwned + ?Sized] Cow<'_, T>;
    [T: Repr] Vec<T>;
    [] String;
}

impl Repr for () {
    fn write_repr(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"()");
    }
}

impl<A: Repr> Repr for (A,) {
    fn write_repr(&self, out: &mut Vec<u8>) {
        out.push(b'(');
        self.0.write_repr(out);
        out.extend_from_slice(b",)");
    }
}

macro_rules! tuples {
    ($($first:ident $($other:ident)*;)*) => {$(
        impl<$first: Repr, $($other: Repr),*> Repr for ($first, $($other),*) {
            #[allow(non_snake_case)] // The items are called like their types.
            fn write_repr(&self, out: &mut Vec<u8>) {
                let ($first, $($other),*) = self;
                out.push(b'(');
                $first.write_repr(out);
                $(
                    out.extend_from_slice(b", ");
                    $other.write_repr(out);
                )*
                out.push(b')');
            }
        }
    )*};
}
tuples!(A B; A B C; A B C D;);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn str_of(value: &(impl Repr + ?Sized)) -> String {
        let mut out = Vec::new();
        value.write_str(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn repr_of(value: &(impl Repr + ?Sized)) -> String {
        let mut out = Vec::new();
        value.write_repr(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    /// Checks `repr(value)`, which is `str(value)` too, and `repr((value,))`.
    #[track_caller]
    fn shows(value: impl Repr, text: &str) {
        assert_eq!(repr_of(&value), text);
        assert_eq!(str_of(&value), text);
        assert_eq!(repr_of(&(value,)), format!("({text},)"));
    }

    /// The right-hand sides were printed by Python 3.11 for the same values.
    #[test]
    fn values_look_as_in_python() {
        shows(u64::MAX, "18446744073709551615");
        shows(-128i8, "-128");
        shows(255u8, "255");
        shows(i128::MIN, "-170141183460469231731687303715884105728");
        shows(true, "True");
        shows(false, "False");
        shows((), "()");
        shows(((),), "((),)");
        shows((1,), "(1,)");
        shows(("a",), "('a',)");
        shows((1, 2.5), "(1, 2.5)");
        shows(("a", 1, true), "('a', 1, True)");
        shows(("a", 1, None::<u8>, (2,)), "('a', 1, None, (2,))");
        shows(("k", ("v", None::<u8>)), "('k', ('v', None))");
        shows(("é\n", '\x1b'), "('é\\n', '\\x1b')");
        shows(None::<&str>, "None");
        shows(Some(3), "3");
        shows(Some((1, Some("a"))), "(1, 'a')");
        shows(Vec::<u64>::new(), "[]");
        shows(vec![1, 2], "[1, 2]");
        shows([1.0], "[1.0]");
        shows(["a", "b'c"], "['a', \"b'c\"]");
        shows(vec![vec![1], vec![]], "[[1], []]");
        shows([("a", 1)], "[('a', 1)]");
        shows([None, Some(3)], "[None, 3]");
        shows(["a".to_owned()], "['a']");
        shows(['x', '\''], "['x', \"'\"]");
        shows([true], "[True]");
        shows([()], "[()]");
        shows(("a", vec![1, 2]), "('a', [1, 2])");
        shows((-0.0, f64::NAN), "(-0.0, nan)");
    }

    /// The right-hand sides were printed by Python 3.11, the `f32` ones by way of `struct`.
    #[test]
    fn floats_look_as_in_python() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (4.35, "4.35"),
            (100_000.0, "100000.0"),
            (1e15, "1000000000000000.0"),
            (9_007_199_254_740_992.0, "9007199254740992.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (18_446_744_073_709_551_616.0, "1.8446744073709552e+19"),
            (1e22, "1e+22"),
            (1e100, "1e+100"),
            (1.5e300, "1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (9.999e-5, "9.999e-05"),
            (0.00001, "1e-05"),
            (-1e-7, "-1e-07"),
            (5e-324, "5e-324"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            shows(value, text);
        }
        for (value, text) in [
            (0.1f32, "0.10000000149011612"),
            (f32::MAX, "3.4028234663852886e+38"),
            (1e-45, "1.401298464324817e-45"),
            (2.5, "2.5"),
        ] {
            shows(value, text);
        }
    }

    /// Whatever holds a text, its `str` is the text, and its `repr` has quotes.
    #[test]
    fn texts_are_texts_whatever_holds_them() {
        #[track_caller]
        fn check(value: impl Repr) {
            assert_eq!(str_of(&value), "it's");
            assert_eq!(str_of(&&value), "it's");
            assert_eq!(repr_of(&value), "\"it's\"");
            assert_eq!(repr_of(&(&value, 1)), "(\"it's\", 1)");
            assert_eq!(repr_of(&[&value]), "[\"it's\"]");
            assert_eq!(str_of(&Some(value)), "it's");
        }
        check("it's");
        check("it's".to_owned());
        check(Box::<str>::from("it's"));
        check(Arc::<str>::from("it's"));
        check(Cow::Borrowed("it's"));
        check(Box::new("it's".to_owned()));
        check(b"it's");
        check(*b"it's");
        check(&b"it's"[..]);
        check(b"it's".to_vec());
        check(Box::<[u8]>::from(&b"it's"[..]));
        check(Arc::<[u8]>::from(&b"it's"[..]));
        check(Arc::new(b"it's".to_vec()));
        check(Cow::Borrowed(&b"it's"[..]));
    }

    #[test]
    fn characters_are_strings_of_one() {
        assert_eq!((str_of(&'x'), repr_of(&'x')), ("x".into(), "'x'".into()));
        assert_eq!(
            (str_of(&'\t'), repr_of(&'\t')),
            ("\t".into(), "'\\t'".into())
        );
        assert_eq!(repr_of(&'\''), "\"'\"");
        assert_eq!(repr_of(&'汉'), "'汉'");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_left_alone_by_str() {
        let mut out = b"before ".to_vec();
        b"\xff\x00".write_str(&mut out);
        assert_eq!(out, b"before \xff\x00");
        assert_eq!(repr_of(b"\xff\x00"), "'\\xff\\x00'");
    }

    proptest! {
        /// Floats are read back from their text to the bit, and look like Python's: no bare
        /// integer, a sign and two digits in the exponent.
        #[test]
        fn floats_read_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = repr_of(&value);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
            match text.split_once('e') {
                Some((_, exponent)) => {
                    prop_assert!(exponent.starts_with(['+', '-']) && exponent.len() >= 3);
                    prop_assert!(exponent.len() == 3 || !exponent[1..].starts_with('0'));
                }
                None => prop_assert!(text.contains('.')),
            }
        }

        /// Lists and tuples are their items' `repr`s, joined; bytes are shown as the same text is.
        #[test]
        fn what_holds_items_joins_their_reprs(texts in prop::collection::vec(any::<String>(), 0..5), n in any::<i64>()) {
            let reprs: Vec<_> = texts.iter().map(|text| repr_of(text.as_bytes())).collect();
            let list = format!("[{}]", reprs.join(", "));
            prop_assert_eq!(repr_of(&texts), list.clone());
            prop_assert_eq!(str_of(&texts[..]), list.clone());
            let rows: Vec<_> = texts.iter().map(|text| (text, n)).collect();
            let shown: Vec<_> = reprs.iter().map(|text| format!("({text}, {n})")).collect();
            prop_assert_eq!(str_of(&rows), format!("[{}]", shown.join(", ")));
            prop_assert_eq!(repr_of(&(n, &texts, &rows)), format!("({n}, {list}, {})", str_of(&rows)));
        }
    }
}
