//! A block of the archive: neighbouring pairs, compressed together.
//!
//! The rule it keeps: a block whose checksum is wrong is not read at all.
//!
//! ```text
//! 1                     version
//! u32                   bytes before compression, big-endian
//! zstd frame            with a checksum, of: { u16 key length, u32 value length, key, value }…
//! ```

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::Pair;

const VERSION: u8 = 1;
/// Most bytes of a block: with its key it fills a page of 16 KiB, and pages are powers of two.
const MOST: usize = (16 << 10) - 64;
/// A higher level costs more time than its saved bytes are worth.
const LEVEL: i32 = 3;
/// No block is longer; a longer one is damaged.
const LONGEST: usize = 1 << 30;

/// The compression ratio, in parts of a thousand: learnt from one block for the next.
#[derive(Debug)]
pub(super) struct Squeeze(usize);

impl Default for Squeeze {
    fn default() -> Self {
        Squeeze(200)
    }
}

/// A block of as many of the first pairs as fill it, and their number; `None` if all pairs do not fill one.
pub(super) fn fill(pairs: &[Pair], squeeze: &mut Squeeze) -> io::Result<Option<(usize, Vec<u8>)>> {
    let mut is_first = true;
    loop {
        let Some((count, plain)) = within(pairs, MOST * 1000 / squeeze.0) else { return Ok(None) };
        let bytes = write(&pairs[..count])?;
        // A little more than before; otherwise every second block would be too full.
        squeeze.0 = bytes.len() * 1000 / plain * 33 / 32 + 1;
        let is_too_full = bytes.len() > MOST && count > 1;
        let is_too_empty = bytes.len() < MOST * 3 / 4 && is_first;
        if !is_too_full && !is_too_empty {
            return Ok(Some((count, bytes)));
        }
        is_first = false;
    }
}

/// The number of first pairs with at most this many bytes (at least one pair), and their bytes; `None` if all pairs
/// fit.
fn within(pairs: &[Pair], most: usize) -> Option<(usize, usize)> {
    let mut bytes = 0;
    for (count, (key, value)) in pairs.iter().enumerate() {
        let more = bytes + 6 + key.len() + value.len();
        if more > most {
            return Some(if count == 0 { (1, more) } else { (count, bytes) });
        }
        bytes = more;
    }
    None
}

/// The pairs as a block.
pub(super) fn write(pairs: &[Pair]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    for (key, value) in pairs {
        let lengths = (u16::try_from(key.len()), u32::try_from(value.len()));
        let (Ok(key_length), Ok(value_length)) = lengths else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a value is too long for a block"));
        };
        plain.extend_from_slice(&key_length.to_be_bytes());
        plain.extend_from_slice(&value_length.to_be_bytes());
        plain.extend_from_slice(key);
        plain.extend_from_slice(value);
    }
    let length = u32::try_from(plain.len()).ok().filter(|length| *length as usize <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a block is too long"))?;
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let frame = compressor.compress(&plain)?;
    Ok([&[VERSION], &length.to_be_bytes()[..], &frame].concat())
}

/// The pairs of a block; `None` if it is damaged.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Pair>> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (length, frame) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= LONGEST)?;
    let plain = Decompressor::new().ok()?.decompress(frame, length).ok()?;
    let mut pairs = Vec::new();
    let mut rest = plain.as_slice();
    while let Some((key_length, after)) = rest.split_first_chunk::<2>() {
        let (value_length, after) = after.split_first_chunk::<4>()?;
        let (key, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*key_length)))?;
        let (value, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*value_length)).ok()?)?;
        pairs.push((key.to_vec(), value.to_vec()));
        rest = after;
    }
    (rest.is_empty() && plain.len() == length).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn pair(number: u32, length: usize) -> Pair {
        // Incompressible bytes.
        let mut random = StdRng::seed_from_u64(u64::from(number));
        (number.to_be_bytes().to_vec(), (0..length).map(|_| random.random()).collect())
    }

    #[test]
    fn pairs_of_every_length_come_back() {
        for lengths in [vec![], vec![0], vec![1, 0, 70_000], vec![300; 90]] {
            let pairs: Vec<Pair> = (0..).zip(lengths).map(|(number, length)| pair(number, length)).collect();
            assert_eq!(read(&write(&pairs).unwrap()).unwrap(), pairs);
        }
    }

    #[test]
    fn a_block_is_filled_and_never_too_full() {
        for length in [10, 100, 1000, 5000] {
            let mut pairs: Vec<Pair> =
                (0..4_000_000 / (length as u32 + 100)).map(|number| pair(number, length)).collect();
            let (mut squeeze, mut blocks) = (Squeeze::default(), 0);
            while let Some((count, bytes)) = fill(&pairs, &mut squeeze).unwrap() {
                assert!(bytes.len() <= MOST && bytes.len() > MOST / 2, "{length}: {count} in {}", bytes.len());
                pairs.drain(..count);
                blocks += 1;
            }
            assert!(blocks > 0, "{length}");
        }
        let fill = |pairs: &[Pair]| fill(pairs, &mut Squeeze::default()).unwrap();
        assert_eq!(fill(&[pair(1, 100)]), None);
        let (count, bytes) = fill(&[pair(1, 100_000), pair(2, 1)]).unwrap();
        assert_eq!((count, bytes.len() > MOST), (1, true), "one that is longer than a page has a block of its own");
    }

    #[test]
    fn a_damaged_block_is_not_read() {
        let bytes = write(&[pair(1, 500), pair(2, 500)]).unwrap();
        for place in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[place] ^= 0x10;
            assert!(read(&torn).is_none_or(|pairs| pairs == read(&bytes).unwrap()), "{place}");
            assert_eq!(read(&bytes[..place]), None);
        }
    }
}
