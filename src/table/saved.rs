//! Saves a table and loads it.

use std::io::{self, Read, Write};

use crate::save::{Saved, ValueCodec, invalid};
use crate::table::KeyTable;
use crate::table::bound::Overflow;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

impl<V: Copy> KeyTable<V> {
    /// Writes keys and values.
    ///
    /// # Errors
    ///
    /// Those of `to`; or the table had no room for a key, and so cannot say what it lacks.
    pub(crate) fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()> {
        self.save_by(|value, to| (codec.save)(&value, to), to)
    }

    /// As [`save`](Self::save), with `save_value` for each value.
    pub(crate) fn save_by(
        &self,
        save_value: impl FnMut(V, &mut dyn Write) -> io::Result<()>,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        save_entries(self.overflow(), self.len(), self.iter(), save_value, to)
    }

    /// Reads a table that [`save`](Self::save) wrote. It has another seed and no memory cap.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    pub(crate) fn load(codec: ValueCodec<V>, from: &mut dyn Read) -> io::Result<Self> {
        Self::load_by(codec.load, from)
    }

    /// As [`load`](Self::load), with `load_value` for each value.
    pub(crate) fn load_by(
        mut load_value: impl FnMut(&mut dyn Read) -> io::Result<V>,
        from: &mut dyn Read,
    ) -> io::Result<Self> {
        let mut table = KeyTable::new(Seed::random());
        let count = u64::load(from)?;
        for _ in 0..count {
            let key = <Vec<u8>>::load(from)?;
            if u32::try_from(key.len()).is_err() {
                return Err(invalid("a key is too long"));
            }
            table.add(&key, load_value(from)?, |_, new| new);
        }
        match table.len() as u64 == count {
            true => Ok(table),
            false => Err(invalid("a table has a key twice")),
        }
    }
}

impl<V: Copy> FrozenTable<V> {
    /// Writes keys and values, as [`KeyTable::save`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()> {
        self.save_by(|value, to| (codec.save)(&value, to), to)
    }

    /// As [`save`](Self::save), with `save_value` for each value.
    pub(crate) fn save_by(
        &self,
        save_value: impl FnMut(V, &mut dyn Write) -> io::Result<()>,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        save_entries(self.overflow(), self.len(), self.iter(), save_value, to)
    }
}

fn save_entries<'a, V>(
    overflow: Overflow,
    len: usize,
    mut entries: impl Iterator<Item = (&'a [u8], V)>,
    mut save_value: impl FnMut(V, &mut dyn Write) -> io::Result<()>,
    to: &mut dyn Write,
) -> io::Result<()> {
    if !overflow.is_none() {
        return Err(io::Error::other("a table has reached the memory limit"));
    }
    (len as u64).save(to)?;
    entries.try_for_each(|(key, value)| {
        (key.len() as u64).save(to)?;
        to.write_all(key)?;
        save_value(value, to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_table_is_loaded_as_it_was_saved(pairs: Vec<(Vec<u8>, u64)>, more: Vec<u8>) {
            let mut table = KeyTable::new(Seed::random());
            for (key, value) in &pairs {
                table.add(key, *value, u64::wrapping_add);
            }
            let codec = ValueCodec::of_saved();
            let mut bytes = Vec::new();
            table.save(codec, &mut bytes).expect("memory takes all");
            let loaded = KeyTable::load(codec, &mut &bytes[..]).expect("it was saved");
            prop_assert_eq!(loaded.len(), table.len());
            for (key, value) in table.iter() {
                prop_assert_eq!(loaded.get(key), Some(value));
            }
            // Fifty cuts: all of them would take minutes.
            for len in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                prop_assert!(KeyTable::load(codec, &mut &bytes[..len]).is_err());
            }
            let _ = KeyTable::load(codec, &mut &more[..]);
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error() {
        let mut bytes = Vec::new();
        let pairs = vec![(b"a".to_vec(), 1u64), (b"a".to_vec(), 2)];
        pairs.save(&mut bytes).expect("memory takes all");
        assert!(KeyTable::<u64>::load(ValueCodec::of_saved(), &mut &bytes[..]).is_err());
    }
}
