//! How states are written down, and read again.
//!
//! Promise: whatever bytes are read, the answer is a value or an error: no panic, and no more
//! memory than there were bytes. What is saved is read back equal, floats bit by bit.
//! Must not know: files, `stream`, `table`.
//!
//! Numbers are little-endian. A list is its length in 8 bytes, then its items. A section, which
//! holds the state of one operator, is cut into chunks, each with its length in 4 bytes before it;
//! a chunk of no bytes ends the section. So its length need not be known before it is written.

use std::any::Any;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

/// A value that is part of a state, and can be saved with it and loaded again.
///
/// Numbers, `bool`, `char`, `()`, `String`, and `Vec`, `Option` and tuples of such types implement
/// it. For other types, write down what another process needs to make an equal value:
///
/// ```
/// use std::io::{self, Read, Write};
/// use microtally::stream::Saved;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Session {
///     user: String,
///     clicks: u64,
/// }
///
/// impl Saved for Session {
///     fn save(&self, to: &mut dyn Write) -> io::Result<()> {
///         self.user.save(to)?;
///         self.clicks.save(to)
///     }
///
///     fn load(from: &mut dyn Read) -> io::Result<Self> {
///         Ok(Session { user: Saved::load(from)?, clicks: Saved::load(from)? })
///     }
/// }
///
/// let session = Session { user: "ada".into(), clicks: 3 };
/// let mut bytes = Vec::new();
/// session.save(&mut bytes)?;
/// assert_eq!(Session::load(&mut &bytes[..])?, session);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Saved: Sized + 'static {
    /// Writes the value: at least one byte.
    ///
    /// # Errors
    ///
    /// Those of `to`.
    fn save(&self, to: &mut dyn Write) -> io::Result<()>;

    /// Reads a value that [`save`](Self::save) wrote, and nothing behind it.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    fn load(from: &mut dyn Read) -> io::Result<Self>;

    /// Writes the items of a list.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    fn save_items(items: &[Self], to: &mut dyn Write) -> io::Result<()> {
        items.iter().try_for_each(|item| item.save(to))
    }

    /// Reads the items of a list of this length.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    fn load_items(count: u64, from: &mut dyn Read) -> io::Result<Vec<Self>> {
        // Memory grows with what was read: a length may be anything.
        (0..count).map(|_| Self::load(from)).collect()
    }
}

/// The error of bytes that no [`Saved::save`] writes.
pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn load_array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

macro_rules! saved_numbers {
    ($($number:ident)*) => { $(
        impl Saved for $number {
            fn save(&self, to: &mut dyn Write) -> io::Result<()> {
                to.write_all(&self.to_le_bytes())
            }

            fn load(from: &mut dyn Read) -> io::Result<Self> {
                load_array(from).map($number::from_le_bytes)
            }
        }
    )* };
}

saved_numbers!(u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

impl Saved for u8 {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&[*self])
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        load_array(from).map(|[byte]| byte)
    }

    fn save_items(items: &[u8], to: &mut dyn Write) -> io::Result<()> {
        to.write_all(items)
    }

    fn load_items(count: u64, from: &mut dyn Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        from.take(count).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == count {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Saved for bool {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        u8::from(*self).save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        match u8::load(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(invalid("a truth value is neither 0 nor 1")),
        }
    }
}

impl Saved for char {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        u32::from(*self).save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        char::from_u32(u32::load(from)?).ok_or_else(|| invalid("a number is no character"))
    }
}

impl Saved for () {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        0u8.save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        u8::load(from).map(drop)
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        (self.len() as u64).save(to)?;
        T::save_items(self, to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        let count = u64::load(from)?;
        T::load_items(count, from)
    }
}

impl Saved for String {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        (self.len() as u64).save(to)?;
        to.write_all(self.as_bytes())
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        String::from_utf8(Vec::load(from)?).map_err(|_| invalid("a text is not UTF-8"))
    }
}

impl<T: Saved> Saved for Option<T> {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.is_some().save(to)?;
        self.iter().try_for_each(|value| value.save(to))
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        bool::load(from)?.then(|| T::load(from)).transpose()
    }
}

macro_rules! saved_tuples {
    ($($($name:ident)+;)*) => { $(
        impl<$($name: Saved),+> Saved for ($($name,)+) {
            #[expect(non_snake_case, reason = "each part is named after its type")]
            fn save(&self, to: &mut dyn Write) -> io::Result<()> {
                let ($($name,)+) = self;
                $($name.save(to)?;)+
                Ok(())
            }

            fn load(from: &mut dyn Read) -> io::Result<Self> {
                Ok(($($name::load(from)?,)+))
            }
        }
    )* };
}

saved_tuples! {
    A B;
    A B C;
    A B C D;
}

/// How values of a type are saved and loaded.
pub(crate) struct ValueCodec<T> {
    pub(crate) save: fn(&T, &mut dyn Write) -> io::Result<()>,
    pub(crate) load: fn(&mut dyn Read) -> io::Result<T>,
}

impl<T> Clone for ValueCodec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ValueCodec<T> {}

impl<T: Saved> ValueCodec<T> {
    /// The codec of a type that says itself how it is saved.
    pub(crate) fn of_saved() -> Self {
        ValueCodec {
            save: T::save,
            load: T::load,
        }
    }
}

macro_rules! known_codecs {
    ($($simple:ident)*) => {
        impl<T: 'static> ValueCodec<T> {
            /// The codec of a number, text or bytes, or of a pair of `()`, text or bytes and a
            /// number. `None` for other types.
            pub(crate) fn known() -> Option<Self> {
                let none = None;
                $(
                    let none = none.or_else(Self::if_it_is::<$simple>);
                    let none = none.or_else(Self::if_it_is::<((), $simple)>);
                    let none = none.or_else(Self::if_it_is::<(String, $simple)>);
                    let none = none.or_else(Self::if_it_is::<(Vec<u8>, $simple)>);
                )*
                none.or_else(Self::if_it_is::<String>).or_else(Self::if_it_is::<Vec<u8>>)
            }
        }
    };
}

known_codecs!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 bool char);

impl<T: 'static> ValueCodec<T> {
    fn if_it_is<U: Saved>() -> Option<Self> {
        (&ValueCodec::<U>::of_saved() as &dyn Any)
            .downcast_ref()
            .copied()
    }
}

/// The codec of a type that may not have one. Clones share it.
pub(crate) struct CodecSlot<T>(Arc<OnceLock<ValueCodec<T>>>);

impl<T> Clone for CodecSlot<T> {
    fn clone(&self) -> Self {
        CodecSlot(Arc::clone(&self.0))
    }
}

impl<T> Default for CodecSlot<T> {
    fn default() -> Self {
        CodecSlot(Arc::default())
    }
}

impl<T: 'static> CodecSlot<T> {
    /// The codec that was set, or that of a known type.
    pub(crate) fn get(&self) -> Option<ValueCodec<T>> {
        self.0.get().copied().or_else(ValueCodec::known)
    }

    /// As [`get`](Self::get), where there must be one.
    pub(crate) fn codec(&self) -> io::Result<ValueCodec<T>> {
        self.get()
            .ok_or_else(|| io::Error::other("its type cannot be saved"))
    }

    /// Whether a state of such values can be saved.
    pub(crate) fn state(&self) -> StateKind {
        match self.get() {
            Some(_) => StateKind::Savable,
            None => StateKind::Unsavable("call `checkpointed` on it"),
        }
    }
}

impl<T: Saved> CodecSlot<T> {
    /// Sets the codec of a type that says itself how it is saved.
    pub(crate) fn set(&self) {
        self.0.get_or_init(ValueCodec::of_saved);
    }
}

/// What is kept from batch to batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateKind {
    Nothing,
    Savable,
    /// It cannot be saved. What can be done about that.
    Unsavable(&'static str),
}

impl StateKind {
    /// That of both together.
    pub(crate) fn and(self, other: StateKind) -> StateKind {
        use StateKind::{Nothing, Savable, Unsavable};
        match (self, other) {
            (Unsavable(why), _) | (_, Unsavable(why)) => Unsavable(why),
            (Nothing, Nothing) => Nothing,
            _ => Savable,
        }
    }
}

/// Bytes of a chunk, at most.
const CHUNK_BYTES: usize = 1 << 16;

/// Writes one section.
pub(crate) struct SectionWriter<'a> {
    to: &'a mut dyn Write,
    chunk: Vec<u8>,
}

impl<'a> SectionWriter<'a> {
    pub(crate) fn new(to: &'a mut dyn Write) -> Self {
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        SectionWriter { to, chunk }
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        (self.chunk.len() as u32).save(self.to)?;
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Ends the section.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.write_chunk()
    }
}

impl Write for SectionWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES {
            self.write_chunk()?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.chunk.is_empty() {
            true => Ok(()),
            false => self.write_chunk(),
        }
    }
}

/// Reads one section, which is all there is to read.
pub(crate) struct SectionReader<'a> {
    from: &'a mut dyn Read,
    /// Bytes of the chunk that were not read yet.
    left: usize,
    is_over: bool,
}

impl<'a> SectionReader<'a> {
    pub(crate) fn new(from: &'a mut dyn Read) -> Self {
        SectionReader {
            from,
            left: 0,
            is_over: false,
        }
    }

    /// Checks that the whole section was read.
    ///
    /// # Errors
    ///
    /// Something was left.
    pub(crate) fn end(mut self) -> io::Result<()> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(invalid("there is more than the state")),
        }
    }
}

impl Read for SectionReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            self.left = u32::load(self.from)? as usize;
            self.is_over = self.left == 0;
            if self.left > CHUNK_BYTES {
                return Err(invalid("a chunk is too long"));
            }
        }
        let count = out.len().min(self.left);
        self.from.read_exact(&mut out[..count])?;
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Example = (u64, (String, Vec<u8>), Option<Vec<(i8, char)>>, f64);

    fn saved<T: Saved>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.save(&mut bytes).expect("memory takes all");
        bytes
    }

    proptest! {
        #[test]
        fn what_is_saved_is_loaded(value: Example) {
            let bytes = saved(&value);
            let mut from = &bytes[..];
            let loaded = Example::load(&mut from).expect("it was saved");
            prop_assert_eq!(saved(&loaded), bytes.clone(), "also when it is not a number");
            prop_assert!(from.is_empty());
            for len in 0..bytes.len() {
                prop_assert!(Example::load(&mut &bytes[..len]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>) {
            if let Ok(value) = Example::load(&mut &bytes[..]) {
                prop_assert!(bytes.starts_with(&saved(&value)));
            }
            let _ = <Vec<()>>::load(&mut &bytes[..]);
            let _ = SectionReader::new(&mut &bytes[..]).read_to_end(&mut Vec::new());
        }

        #[test]
        fn a_section_is_what_was_written(len in 0..3 * CHUNK_BYTES, piece in 1..2 * CHUNK_BYTES) {
            let written: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mut bytes = Vec::new();
            let mut section = SectionWriter::new(&mut bytes);
            written.chunks(piece).try_for_each(|part| section.write_all(part)).expect("memory");
            section.end().expect("memory");
            bytes.push(7);
            let mut from = &bytes[..];
            let mut read = Vec::new();
            let mut section = SectionReader::new(&mut from);
            section.read_to_end(&mut read).expect("it was written");
            prop_assert!(read == written);
            section.end().expect("all was read");
            prop_assert_eq!(from, &[7]);
            if len > 0 {
                let mut from = &bytes[..];
                prop_assert!(SectionReader::new(&mut from).end().is_err());
            }
        }
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        let bytes = saved(&u64::MAX);
        assert!(<Vec<u8>>::load(&mut &bytes[..]).is_err());
        assert!(<Vec<String>>::load(&mut &bytes[..]).is_err());
        assert!(<Vec<()>>::load(&mut &bytes[..]).is_err());
    }

    #[test]
    fn numbers_texts_and_pairs_of_them_are_known() {
        assert!(ValueCodec::<u64>::known().is_some() && ValueCodec::<f64>::known().is_some());
        assert!(
            ValueCodec::<(Vec<u8>, u64)>::known().is_some()
                && ValueCodec::<String>::known().is_some()
        );
        assert!(ValueCodec::<Vec<u64>>::known().is_none() && ValueCodec::<&str>::known().is_none());
    }
}
