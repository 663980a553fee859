//! Which rows of a file name a member that a row before them names.
//!
//! The rule it keeps: on the disk a member is a digest, under a key that is made for this one look
//! and stands nowhere.

use std::io;
use std::iter::Peekable;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::sorting::{Row, Sorted, Sorter};

/// Takes the members of a file, line by line.
pub struct Members {
    mac: Hmac<Sha256>,
    seen: Sorter,
}

impl Members {
    /// None yet. What memory does not hold (`most` rows) lies in this folder meanwhile.
    pub fn new(scratch: &Path, most: usize) -> Members {
        let key: [u8; 64] = rand::random();
        Members { mac: Hmac::new(&key.into()), seen: Sorter::new(scratch, most) }
    }

    /// The values of a line, the member's name first.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn add(&mut self, line: u64, values: &[Zeroizing<String>]) -> io::Result<()> {
        let member = self.mac.clone().chain_update(values[0].as_bytes()).finalize().into_bytes();
        let others = values[1..].iter().fold(self.mac.clone(), |mac, value| {
            mac.chain_update((value.len() as u64).to_be_bytes()).chain_update(value.as_bytes())
        });
        let others = others.finalize().into_bytes();
        // Half of the digest: no two members among any number of rows share it but by a wonder.
        self.seen.add([number(&member[..8]), number(&member[8..16]), line, number(&others[..8])])
    }

    /// The lines that are repeats, in order.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn repeats(self, scratch: &Path, most: usize) -> io::Result<Repeats> {
        let mut repeats = Sorter::new(scratch, most);
        let mut first = None;
        for row in self.seen.sorted()? {
            let [high, low, line, others] = row?;
            match first {
                Some((member, first, its)) if member == (high, low) => {
                    repeats.add([line, first, u64::from(its == others), 0])?;
                }
                _ => first = Some(((high, low), line, others)),
            }
        }
        Ok(Repeats(repeats.sorted()?.peekable()))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte))
}

/// What a line repeats.
pub enum Repeat {
    /// A member with the same values.
    Same {
        /// Its first line.
        first: u64,
    },
    /// A member whose other values differ.
    Other {
        /// Its first line.
        first: u64,
    },
}

/// The lines that name a member once more.
pub struct Repeats(Peekable<Sorted>);

impl Repeats {
    /// What this line repeats, where it does. Lines are asked for in order.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn of(&mut self, line: u64) -> io::Result<Option<Repeat>> {
        let is_it = |row: &io::Result<Row>| !matches!(row, Ok([next, ..]) if *next != line);
        let found = self.0.next_if(is_it).transpose()?;
        Ok(found.map(|[_, first, same, _]| if same == 1 { Repeat::Same { first } } else { Repeat::Other { first } }))
    }
}
