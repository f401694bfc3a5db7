//! Where each channel of a source continues after a restart.
//!
//! Promise: bytes read again from a position are exactly those that were not in the batch.
//! Must not know: sources, what is read.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::save::Saved;

/// Where to continue reading a channel: behind the last record of a batch.
///
/// It is the number at which the source continues: the bytes before it, or what a system calls an
/// offset or a sequence number, of up to 192 bits. In a channel of lines it also holds what the
/// bytes before it mean for the next one: a `\n` belongs to the `\r` before it, and a record that
/// is longer than the limit may have begun.
///
/// ```
/// use microtally::sources::Position;
///
/// let position = Position::from(17);
/// assert_eq!(position.offset(), 17);
/// assert_eq!(Position::default().offset(), 0);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The least significant word first.
    words: [u64; 3],
    pub(crate) before: Before,
}

/// What the bytes before a position mean for those behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Before {
    /// The last byte is a `\r` that ended a record; a `\n` behind it is a part of that end.
    pub(crate) is_return: bool,
    /// The beginning of the record was in the batch.
    pub(crate) is_in_record: bool,
    /// The beginning of the token was dropped, and the rest of it is.
    pub(crate) is_in_oversize: bool,
}

impl Position {
    /// The number in three words of 64 bits, the least significant one first.
    pub fn from_words(words: [u64; 3]) -> Self {
        Position {
            words,
            before: Before::default(),
        }
    }

    /// The number in three words of 64 bits, the least significant one first.
    pub fn words(self) -> [u64; 3] {
        self.words
    }

    /// The lowest 64 bits of the number: the bytes before this position, in a channel of lines.
    pub fn offset(self) -> u64 {
        self.words[0]
    }

    /// The position `bytes` further, where `before` is known.
    pub(crate) fn behind(self, bytes: u64, before: Before) -> Self {
        let mut words = self.words;
        let mut carry = bytes;
        for word in &mut words {
            let (sum, is_over) = word.overflowing_add(carry);
            (*word, carry) = (sum, u64::from(is_over));
        }
        Position { words, before }
    }
}

impl From<u64> for Position {
    fn from(number: u64) -> Self {
        Position::from_words([number, 0, 0])
    }
}

/// As much as is needed to tell positions apart.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, middle, high] = self.words;
        match (high, middle) {
            (0, 0) => write!(f, "{low}")?,
            _ => write!(f, "0x{high:016x}{middle:016x}{low:016x}")?,
        }
        let Before {
            is_return,
            is_in_record,
            is_in_oversize,
        } = self.before;
        for (is_set, name) in [
            (is_return, " behind a return"),
            (is_in_record, " in a record"),
            (is_in_oversize, " in a dropped token"),
        ] {
            f.write_str(if is_set { name } else { "" })?;
        }
        Ok(())
    }
}

impl Saved for Position {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        let Before {
            is_return,
            is_in_record,
            is_in_oversize,
        } = self.before;
        let [low, middle, high] = self.words;
        (low, middle, high).save(to)?;
        (is_return, is_in_record, is_in_oversize).save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        let (low, middle, high) = Saved::load(from)?;
        let (is_return, is_in_record, is_in_oversize) = Saved::load(from)?;
        Ok(Position {
            words: [low, middle, high],
            before: Before {
                is_return,
                is_in_record,
                is_in_oversize,
            },
        })
    }
}

/// Where the channels of a source are, by their names.
///
/// ```
/// use microtally::sources::{Position, Positions};
///
/// let positions: Positions = [("orders/0", Position::from(40)), ("orders/1", Position::from(2))]
///     .into_iter()
///     .collect();
/// assert_eq!(positions.get("orders/1"), Some(Position::from(2)));
/// assert_eq!(positions.get("orders/2"), None);
/// assert_eq!(positions.iter().count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(Vec<(Arc<str>, Position)>);

impl Positions {
    /// The position of the channel called `name`. Looks at all of them.
    pub fn get(&self, name: &str) -> Option<Position> {
        let mut channels = self.iter();
        channels.find_map(|(other, position)| (other == name).then_some(position))
    }

    /// The name and position of each channel, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.0.iter().map(|(name, position)| (&**name, *position))
    }

    /// Returns `true` if there is no channel that has a position.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, name: Arc<str>, position: Position) {
        self.0.push((name, position));
    }

    /// Moves all of `others` here.
    pub(crate) fn append(&mut self, others: &mut Positions) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| **other != *name);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, Position)> for Positions {
    fn from_iter<I: IntoIterator<Item = (N, Position)>>(channels: I) -> Self {
        let channels = channels.into_iter();
        Positions(
            channels
                .map(|(name, position)| (name.into(), position))
                .collect(),
        )
    }
}

impl Saved for Positions {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        (self.0.len() as u64).save(to)?;
        let mut channels = self.0.iter();
        channels.try_for_each(|(name, position)| {
            name.to_string().save(to)?;
            position.save(to)
        })
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        let count = u64::load(from)?;
        let mut positions = Positions::default();
        for _ in 0..count {
            let (name, position) = <(String, Position)>::load(from)?;
            positions.push(name.into(), position);
        }
        Ok(positions)
    }
}

/// Where the channels of all sources are at the end of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochPositions {
    pub(crate) epoch: u64,
    /// One entry for each source.
    pub(crate) sources: Vec<Positions>,
}
