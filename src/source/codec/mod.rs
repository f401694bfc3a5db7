//! Turns the bytes of an input into text.
//!
//! `decompress` decompresses, `encoding` turns UTF-16 into UTF-8, and `decoder` runs one behind the
//! other.

pub(crate) mod decoder;
#[cfg_attr(
    not(feature = "compress"),
    allow(dead_code, reason = "nothing asks for decompression")
)]
pub(crate) mod decompress;
pub(crate) mod encoding;

/// A reader of `bytes` for tests: in reads of the given sizes, over and over, each of which would
/// block once first.
#[cfg(test)]
fn torn_reads<'a>(
    mut bytes: &'a [u8],
    sizes: &'a [usize],
) -> impl FnMut(&mut [u8]) -> std::io::Result<usize> + 'a {
    let (mut sizes, mut is_ready) = (sizes.iter().cycle(), false);
    move |space| {
        is_ready = !is_ready;
        if is_ready {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let count = (*sizes.next().unwrap()).min(space.len()).min(bytes.len());
        let (read, rest) = bytes.split_at(count);
        space[..count].copy_from_slice(read);
        bytes = rest;
        Ok(count)
    }
}
