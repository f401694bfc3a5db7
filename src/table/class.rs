//! The three classes of keys, so that each verb of a table is written once and compiled for each
//! class.
//!
//! Promise: a key is found exactly where a key with equal bytes was stored. Must not know: values,
//! epochs, threads.
//!
//! A key has two forms, and the type of each is its class: [`LookupKey`] is what a look-up compares
//! with, and [`StoredKey`] is what an entry holds.
//!
//! | bytes | looked up as | stored as |
//! |---|---|---|
//! | up to 8, the last not NUL | `u64` | `[u8; 8]` |
//! | 9 to 16, the last not NUL | `u128` | `[u8; 16]` |
//! | all others | `&[u8]` | [`LongKey`] |

use super::KeyTable;
use super::arena::KeyArena;
use super::keys::{LongKey, PackedKey, Seed, unpack};
use super::segments::{SegmentedTable, TableFull};

/// An entry of a table. For counts a short one takes 16 bytes, so a cache line holds four.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableEntry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

impl<K: StoredKey, V: Copy> TableEntry<K, V> {
    /// The key's bytes and the value.
    #[inline(always)]
    pub(super) fn pair(&self) -> (&[u8], V) {
        (self.key.bytes(), self.value)
    }
}

pub(super) type ShortEntry<V> = TableEntry<[u8; 8], V>;
pub(super) type MediumEntry<V> = TableEntry<[u8; 16], V>;
pub(super) type LongEntry<V> = TableEntry<LongKey, V>;

/// A key as an entry holds it.
pub(super) trait StoredKey {
    type Probe<'a>: LookupKey<Stored = Self>
    where
        Self: 'a;

    fn lookup(&self) -> Self::Probe<'_>;

    fn bytes(&self) -> &[u8];

    /// The hash under the seed of the table that holds the key.
    #[inline(always)]
    fn hash(&self, seed: &Seed) -> u64 {
        seed.hash(self.lookup().packed())
    }

    /// The hash under `seed` of a key that a table with the seed `held` holds. Only a long key's
    /// hash is worth comparing seeds for: it is stored.
    #[inline(always)]
    fn hash_under(&self, seed: &Seed, _held: &Seed) -> u64 {
        self.hash(seed)
    }

    /// The hash under `seed`, which becomes the seed of that table.
    #[inline(always)]
    fn rehash(&mut self, seed: &Seed) -> u64 {
        self.hash(seed)
    }
}

/// The entries of one class whose keys are looked up as `K`.
type Segments<K, V> = SegmentedTable<TableEntry<<K as LookupKey>::Stored, V>>;

/// A key as it is looked up.
pub(super) trait LookupKey: Copy {
    type Stored: StoredKey;

    fn packed(&self) -> PackedKey<'_>;

    /// Returns `true` if `stored` is this key; `hash` is this key's hash.
    fn is(self, hash: u64, stored: &Self::Stored) -> bool;

    /// Makes the stored form, with bytes in the arena of `table` if it needs some.
    fn store<V: Copy>(self, hash: u64, table: &mut KeyTable<V>) -> Result<Self::Stored, TableFull>;

    fn segments<V>(table: &KeyTable<V>) -> &Segments<Self, V>;

    /// The segments and the arena of long keys.
    fn parts<V>(table: &mut KeyTable<V>) -> (&mut Segments<Self, V>, &mut KeyArena);
}

/// A class whose keys are packed into an integer: bytes in memory order, so that a key can be lent
/// out as a slice.
macro_rules! packed_class {
    ($int:ty, $bytes:literal, $class:ident, $segments:ident) => {
        impl StoredKey for [u8; $bytes] {
            type Probe<'a> = $int;

            #[inline(always)]
            fn lookup(&self) -> $int {
                <$int>::from_le_bytes(*self)
            }

            #[inline(always)]
            fn bytes(&self) -> &[u8] {
                unpack(self)
            }
        }

        impl LookupKey for $int {
            type Stored = [u8; $bytes];

            #[inline(always)]
            fn packed(&self) -> PackedKey<'_> {
                PackedKey::$class(*self)
            }

            #[inline(always)]
            fn is(self, _hash: u64, stored: &[u8; $bytes]) -> bool {
                stored.lookup() == self
            }

            #[inline(always)]
            fn store<V>(self, _: u64, _: &mut KeyTable<V>) -> Result<[u8; $bytes], TableFull> {
                Ok(self.to_le_bytes())
            }

            #[inline(always)]
            fn segments<V>(table: &KeyTable<V>) -> &Segments<Self, V> {
                &table.$segments
            }

            #[inline(always)]
            fn parts<V>(table: &mut KeyTable<V>) -> (&mut Segments<Self, V>, &mut KeyArena) {
                (&mut table.$segments, &mut table.arena)
            }
        }
    };
}

packed_class!(u64, 8, Short, short);
packed_class!(u128, 16, Medium, medium);

impl StoredKey for LongKey {
    type Probe<'a> = &'a [u8];

    #[inline(always)]
    fn lookup(&self) -> &[u8] {
        self.bytes()
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        LongKey::bytes(self)
    }

    #[inline(always)]
    fn hash(&self, _seed: &Seed) -> u64 {
        self.hash
    }

    #[inline(always)]
    fn hash_under(&self, seed: &Seed, held: &Seed) -> u64 {
        if seed == held {
            self.hash
        } else {
            seed.hash_long(self.bytes())
        }
    }

    #[inline(always)]
    fn rehash(&mut self, seed: &Seed) -> u64 {
        self.hash = seed.hash_long(self.bytes());
        self.hash
    }
}

impl LookupKey for &[u8] {
    type Stored = LongKey;

    #[inline(always)]
    fn packed(&self) -> PackedKey<'_> {
        PackedKey::Long(self)
    }

    #[inline(always)]
    fn is(self, hash: u64, stored: &LongKey) -> bool {
        stored.hash == hash && stored.bytes() == self
    }

    #[inline(always)]
    fn store<V: Copy>(self, hash: u64, table: &mut KeyTable<V>) -> Result<LongKey, TableFull> {
        if table.has_arena_room(self.len()) {
            return Ok(table.arena.copy(hash, self));
        }
        let more = table.arena_bytes_allowed();
        table.arena.copy_within(hash, self, more).ok_or(TableFull)
    }

    #[inline(always)]
    fn segments<V>(table: &KeyTable<V>) -> &Segments<Self, V> {
        &table.long
    }

    #[inline(always)]
    fn parts<V>(table: &mut KeyTable<V>) -> (&mut Segments<Self, V>, &mut KeyArena) {
        (&mut table.long, &mut table.arena)
    }
}

/// Evaluates `$body` with the key in `$packed`, whose type is its class.
macro_rules! by_class {
    ($packed:expr, $key:ident => $body:expr) => {
        match $packed {
            PackedKey::Short($key) => $body,
            PackedKey::Medium($key) => $body,
            PackedKey::Long($key) => $body,
        }
    };
}

pub(super) use by_class;
