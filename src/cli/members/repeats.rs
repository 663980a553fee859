//! Which rows of a file name a member that a row before them names.
//!
//! The rule it keeps: on the disk a member is a digest, under a key that is made for this one look
//! and stands nowhere.

use std::io;
use std::iter::Peekable;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

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

    /// The member of a line.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn add(&mut self, line: u64, member: &str) -> io::Result<()> {
        let digest = self.mac.clone().chain_update(member).finalize().into_bytes();
        let number = |from: usize| digest[from..from + 8].iter().fold(0, |all, byte| (all << 8) | u64::from(*byte));
        // Half of the digest: no two members among any number of rows share it but by a wonder.
        self.seen.add([number(0), number(8), line])
    }

    /// The lines that are repeats, in order.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn repeats(self, scratch: &Path, most: usize) -> io::Result<Repeats> {
        let mut repeats = Sorter::new(scratch, most);
        let mut first = None;
        for row in self.seen.sorted()? {
            let [high, low, line] = row?;
            match first {
                Some((member, first)) if member == (high, low) => repeats.add([line, first, 0])?,
                _ => first = Some(((high, low), line)),
            }
        }
        Ok(Repeats(repeats.sorted()?.peekable()))
    }
}

/// The lines that name a member once more.
pub struct Repeats(Peekable<Sorted>);

impl Repeats {
    /// The first line with the member of this line, where it is another. Lines are asked for in order.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn first_of(&mut self, line: u64) -> io::Result<Option<u64>> {
        let is_it = |row: &io::Result<Row>| !matches!(row, Ok([next, ..]) if *next != line);
        Ok(self.0.next_if(is_it).transpose()?.map(|[_, first, _]| first))
    }
}
