//! `field`, `field_whitespace`, `part_or`: one part of each record.

use crate::shard::stage::Records;
use crate::split::Rule;
use crate::stream::program::dstream::DStream;

impl<R: Records> DStream<R> {
    /// The field with this number, from 0, of each record: Spark's
    /// `map(lambda line: line.split(",")[number])`.
    ///
    /// Every separator separates, so fields may be empty. What follows the field is not searched. A
    /// record with fewer fields is skipped, where Spark's batch fails; the batch's records less its
    /// tokens are the number skipped.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let second = run_lines("a,b,c\nd\n,,e", |lines| Ok(lines.field(1, b',').records()))?;
    /// assert_eq!(second, [&b"b"[..], b""]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn field(&self, number: usize, separator: u8) -> DStream<impl Records + use<R>> {
        // The rule is made in the closure, so that no record asks which one it is: 3 % of a field.
        self.filter_map("field", move |record| {
            Rule::Split(separator).part(record, number)
        })
    }

    /// The blank-separated field with this number, from 0, of each record: Spark's
    /// `map(lambda line: line.split()[number])`, and `$1` of awk for number 0.
    ///
    /// Runs of space, `\t`, `\n`, `\v`, `\f` and `\r` separate, so there are no empty fields. A
    /// record with fewer fields is skipped.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let second = run_lines("a  b\nc\n d\te", |lines| Ok(lines.field_whitespace(1).records()))?;
    /// assert_eq!(second, [b"b", b"e"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn field_whitespace(&self, number: usize) -> DStream<impl Records + use<R>> {
        self.filter_map("field_whitespace", move |record| {
            Rule::SplitWhitespace.part(record, number)
        })
    }

    /// The part with this number, from 0, of each record, as [`Rule::part`] finds it. Calls
    /// `missing`, on a shard's thread, with each record that has fewer parts; such a record is
    /// skipped.
    ///
    /// ```
    /// use microtally::Rule;
    /// use microtally::stream::run_lines;
    /// let second = run_lines("a,b\nc", |lines| {
    ///     let missing = |line: &[u8]| assert_eq!(line, b"c");
    ///     Ok(lines.part_or(Rule::Split(b','), 1, missing).records())
    /// })?;
    /// assert_eq!(second, [b"b"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn part_or<F>(
        &self,
        rule: Rule,
        number: usize,
        missing: F,
    ) -> DStream<impl Records + use<R, F>>
    where
        F: Fn(&[u8]) + Clone + Send + Sync + 'static,
    {
        self.filter_map("part_or", move |record| {
            let part = rule.part(record, number);
            if part.is_none() {
                missing(record);
            }
            part
        })
    }
}
