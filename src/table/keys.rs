//! Keys: the random seed of their hashes, and how a key is packed into an integer or kept behind a
//! pointer.
//!
//! Promise: two keys get the same class and the same packed value exactly when their bytes are
//! equal, whatever the bytes, NUL included. Must not know: counts, threads, `source`.
//!
//! A key of at most 8 bytes is a `u64` and one of at most 16 a `u128`: bytes in memory order,
//! followed by zeros. The length needs no field: a key whose last byte is not NUL is what remains
//! when the trailing zeros are removed. Keys that do end in NUL are rare. They take the long way,
//! where the length is kept; the comparison that sends them there is always predicted. (Tried on
//! paper: a length byte inside the integer costs every 8-byte word its place. A separator byte
//! behind the word is free too, but wrong as soon as a key may contain the separator, as computed
//! keys may.)
#![allow(unsafe_code)]
// Why unsafe: long keys live in the arena of the table that also holds the pointers to them, which
// the borrow checker cannot express. Obligation: a `LongKey` is read only while its arena has not
// been reset. Attacked by: the table's model tests, the fuzz target `table_matches_btreemap`.

use std::hash::{BuildHasher, RandomState};
use std::ptr::NonNull;

use bumpalo::Bump;

use crate::sys::prefetch::prefetch;

/// The random numbers that all hashes of one engine depend on. They are new in every process and
/// come from the operating system, so that nobody can build keys that collide. Tables that are
/// merged share a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    add: u64,
    add_high: u64,
    multiply: u64,
    /// Whether the caller chose it. Then the next seed follows from it, so that equal runs stay
    /// equal.
    is_chosen: bool,
}

impl Seed {
    /// A seed from the operating system's random numbers.
    pub fn random() -> Seed {
        // `RandomState` is the standard library's access to the operating system's random numbers;
        // each hash of a different number has 64 independent bits.
        let state = RandomState::new();
        Seed::from_words(
            state.hash_one(1u64),
            state.hash_one(2u64),
            state.hash_one(3u64),
        )
    }

    /// The seed that a number stands for, or a random one without a number.
    pub(crate) fn chosen(number: Option<u64>) -> Seed {
        let Some(number) = number else {
            return Seed::random();
        };
        let mut state = number;
        // Steele, Lea and Flood's generator: three words that look independent for any number.
        let mut word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Seed {
            is_chosen: true,
            ..Seed::from_words(word(), word(), word())
        }
    }

    /// Another seed, for a table whose keys collide under this one. Nobody can know it, unless this
    /// one was chosen.
    pub(super) fn another(self) -> Seed {
        let number = self
            .is_chosen
            .then(|| fold(self.add, self.multiply) ^ self.add_high);
        Seed::chosen(number)
    }

    /// A known seed, for tests that replay.
    pub fn from_words(add: u64, add_high: u64, multiply: u64) -> Seed {
        // An odd multiplier keeps the low bits of the product dependent on the low bits of the key.
        Seed {
            add,
            add_high,
            multiply: multiply | 1,
            is_chosen: false,
        }
    }

    /// The hash of a packed key.
    #[inline(always)]
    pub(super) fn hash(&self, key: PackedKey<'_>) -> u64 {
        match key {
            PackedKey::Short(packed) => self.hash_short(packed),
            PackedKey::Medium(packed) => self.hash_medium(packed),
            PackedKey::Long(key) => self.hash_long(key),
        }
    }

    /// The hash of a key of at most 8 bytes. hashbrown takes the position from the low bits and the
    /// tag from the high ones, so both ends must be good. Those of a folded 128-bit product are.
    #[inline(always)]
    pub(crate) fn hash_short(&self, packed: u64) -> u64 {
        fold(packed ^ self.add, self.multiply)
    }

    /// The hash of a key of 9 to 16 bytes.
    #[inline(always)]
    pub(crate) fn hash_medium(&self, packed: u128) -> u64 {
        fold(
            fold(
                packed as u64 ^ self.add,
                (packed >> 64) as u64 ^ self.add_high,
            ),
            self.multiply,
        )
    }

    /// The hash of a key of any length, 16 bytes a step.
    pub(crate) fn hash_long(&self, key: &[u8]) -> u64 {
        let mut hash = self.add ^ key.len() as u64;
        let mut steps = key.chunks_exact(16);
        for step in &mut steps {
            let (low, high) = halves(step.try_into().expect("chunks have 16 bytes"));
            hash = fold(low ^ hash, high ^ self.add_high);
        }
        let rest = steps.remainder();
        let mut last = [0u8; 16];
        last[..rest.len()].copy_from_slice(rest);
        let (low, high) = halves(last);
        fold(fold(low ^ hash, high ^ self.add_high), self.multiply)
    }
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(bytes);
    (both as u64, (both >> 64) as u64)
}

/// The exclusive or of both halves of the product.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A key of any class, in the form in which it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackedKey<'a> {
    Short(u64),
    Medium(u128),
    Long(&'a [u8]),
}

/// Packs `key`. If `around` holds the key, and 16 bytes follow the key's first one there, packing
/// is one load and one mask. It is only a hint: a key from elsewhere is copied.
#[inline(always)]
pub(super) fn pack<'a>(around: &[u8], key: &'a [u8]) -> PackedKey<'a> {
    let len = key.len();
    let Some(&last) = key.last() else {
        return PackedKey::Short(0);
    };
    if len > 16 || last == 0 {
        return PackedKey::Long(key);
    }
    // Wrapping, so that a key from elsewhere has an offset that `get` refuses.
    let offset = (key.as_ptr() as usize).wrapping_sub(around.as_ptr() as usize);
    if len <= 8 {
        let word = match around.get(offset..offset.wrapping_add(8)) {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().expect("8 bytes")),
            None => pack_by_copy(key) as u64,
        };
        PackedKey::Short(word & (u64::MAX >> (64 - 8 * len)))
    } else {
        let word = match around.get(offset..offset.wrapping_add(16)) {
            Some(bytes) => u128::from_le_bytes(bytes.try_into().expect("16 bytes")),
            None => pack_by_copy(key),
        };
        PackedKey::Medium(word & (u128::MAX >> (128 - 8 * len)))
    }
}

#[cold]
fn pack_by_copy(key: &[u8]) -> u128 {
    let mut bytes = [0u8; 16];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_le_bytes(bytes)
}

/// The key in the bytes of a packed integer: everything before the trailing zeros.
#[inline(always)]
pub(super) fn unpack<const N: usize>(bytes: &[u8; N]) -> &[u8] {
    let mut whole = [0; 16];
    whole[..N].copy_from_slice(bytes);
    // Counted in the integer: a loop over the bytes is a mispredicted branch a key.
    let zeros = u128::from_le_bytes(whole).leading_zeros() as usize / 8;
    &bytes[..16 - zeros]
}

/// A key in a table's arena, with its hash: most comparisons and all rehashes need not read the
/// key. It is not `Copy`, so that nothing but an entry of the table can hold one.
#[derive(Debug)]
pub(super) struct LongKey {
    pub(super) hash: u64,
    bytes: NonNull<[u8]>,
}

// SAFETY: a `LongKey` is a pointer to bytes that nobody changes while it exists. They move between
// threads only together with the `Bump` that holds them, because both are private fields of one
// `KeyTable`.
unsafe impl Send for LongKey {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for LongKey {}

impl LongKey {
    /// Copies `key` into `arena`.
    pub(super) fn copy_into(arena: &Bump, hash: u64, key: &[u8]) -> LongKey {
        LongKey {
            hash,
            bytes: NonNull::from(&*arena.alloc_slice_copy(key)),
        }
    }

    /// As [`copy_into`](Self::copy_into); `None` if the arena may not have or cannot get the
    /// memory.
    pub(super) fn try_copy_into(arena: &Bump, hash: u64, key: &[u8]) -> Option<LongKey> {
        let bytes = NonNull::from(&*arena.try_alloc_slice_copy(key).ok()?);
        Some(LongKey { hash, bytes })
    }

    /// Copies the bytes into another arena, where they are from now on.
    pub(super) fn move_into(&mut self, arena: &Bump) {
        *self = LongKey::copy_into(arena, self.hash, self.bytes());
    }

    /// Requests the memory of the key's first bytes.
    pub(super) fn prefetch(&self) {
        prefetch(self.bytes.cast::<u8>().addr().get());
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `copy_into` made the pointer from a slice in an arena. Only entries of the table
        // that owns the arena hold such keys: they are never copied, and private to `table`. The
        // arena is reset in three places: `clear` empties the table's long entries before, and
        // `KeyArena::compact` and `compact_tightly` have moved every key of them. So the bytes are
        // in the arena, and the lifetime returned is that of the borrow of the entry, hence of the
        // table.
        unsafe { self.bytes.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_injective_where_nul_and_length_meet() {
        let keys: Vec<&[u8]> = vec![
            b"",
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"\0a",
            b"a\0b",
            b"1234567",
            b"1234567\0",
            b"12345678",
            b"12345678\0",
            b"123456789",
            b"123456789012345",
            b"123456789012345\0",
            b"1234567890123456",
            b"1234567890123456\0",
            b"12345678901234567",
        ];
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert_eq!(pack(&[], a) == pack(&[], b), i == j, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn packing_in_place_equals_packing_by_copy() {
        let mut around = vec![b'#'; 64];
        around.extend_from_slice(b"in the middle of a block there are words");
        around.extend_from_slice(&[b'!'; 64]);
        for start in 64..104 {
            for len in 0..20 {
                let key = &around[start..start + len];
                assert_eq!(pack(&around, key), pack(&[], key));
                match pack(&around, key) {
                    PackedKey::Short(word) => assert_eq!(unpack(&word.to_le_bytes()), key),
                    PackedKey::Medium(word) => assert_eq!(unpack(&word.to_le_bytes()), key),
                    PackedKey::Long(same) => assert_eq!(same, key),
                }
            }
        }
    }

    #[test]
    fn every_byte_of_a_long_key_changes_its_hash() {
        let seed = Seed::from_words(1, 2, 3);
        let key: Vec<u8> = (0..67).collect();
        let hash = seed.hash_long(&key);
        for at in 0..key.len() {
            let mut other = key.clone();
            other[at] ^= 0x20;
            assert_ne!(seed.hash_long(&other), hash, "byte {at}");
        }
        assert_ne!(seed.hash_long(&key[..66]), hash);
        assert_ne!(Seed::from_words(1, 2, 5).hash_long(&key), hash);
    }

    /// Without the seed nobody can make keys collide: every word of it is in the hash of keys of
    /// each class.
    #[test]
    fn a_hash_depends_on_every_word_of_the_seed() {
        let one = Seed::from_words(
            0x1234_5678_9abc_def1,
            0x0fed_cba9_8765_4321,
            0x1357_9bdf_0246_8ace,
        );
        let [mut add, mut add_high, mut multiply] = [one; 3];
        add.add ^= 0x100;
        add_high.add_high ^= 0x100;
        multiply.multiply ^= 0x100;
        for number in 1..50u8 {
            let short = u64::from_le_bytes([number; 8]);
            assert_ne!(one.hash_short(short), add.hash_short(short));
            assert_ne!(one.hash_short(short), multiply.hash_short(short));
            let medium = u128::from_le_bytes([number; 16]);
            for (other, word) in [(add, "add"), (add_high, "add_high"), (multiply, "multiply")] {
                assert_ne!(one.hash_medium(medium), other.hash_medium(medium), "{word}");
                for len in [17, 32, 40] {
                    let key = &[number; 40][..len];
                    assert_ne!(one.hash_long(key), other.hash_long(key), "{word} {len}");
                }
            }
        }
    }

    #[test]
    fn a_chosen_seed_and_those_that_follow_it_are_the_same_every_time() {
        let chosen = Seed::chosen(Some(7));
        assert_eq!(chosen, Seed::chosen(Some(7)));
        assert_ne!(chosen, Seed::chosen(Some(8)));
        assert_eq!(chosen.another(), chosen.another());
        assert_ne!(chosen.another(), chosen);
        assert_ne!(chosen.another().another(), chosen.another());
        assert_ne!(Seed::chosen(None), Seed::chosen(None));
        let found = Seed::from_words(1, 2, 3);
        assert_ne!(found.another(), found.another(), "nobody can know it");
    }

    /// Runs with the same seed have the same results, in later versions too.
    #[test]
    fn a_chosen_seed_is_made_of_the_generators_published_numbers() {
        let chosen = |add, add_high, multiply| Seed {
            is_chosen: true,
            ..Seed::from_words(add, add_high, multiply)
        };
        let published = chosen(
            0xe220_a839_7b1d_cdaf,
            0x6e78_9e6a_a1b9_65f4,
            0x06c4_5d18_8009_454f,
        );
        assert_eq!(Seed::chosen(Some(0)), published);
        // And the one that follows it when keys collide.
        let next = chosen(
            0x9bab_8f93_080d_447d,
            0x173c_acb1_d840_aa84,
            0xb53a_f22a_d0d4_478f,
        );
        assert_eq!(published.another(), next);
    }
}
