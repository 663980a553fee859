//! Finds the rows of a file whose member is already in an earlier row.
//!
//! The rule it keeps: no member is stored, only its digest. The digest's key is new for each run and is never written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The members so far: for each, half of its digest (a collision is practically impossible), with its line and the
/// beginning of a digest of its other values.
pub(crate) struct SeenMembers {
    mac: Hmac<Sha256>,
    seen: HashMap<[u8; 16], (u64, [u8; 8])>,
}

/// The member that a line repeats.
#[derive(Debug, PartialEq, Eq)]
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

impl SeenMembers {
    /// No members yet; `rows` are expected at most.
    pub fn new(rows: usize) -> SeenMembers {
        let key: [u8; 64] = rand::random();
        SeenMembers { mac: Hmac::new(&key.into()), seen: HashMap::with_capacity(rows) }
    }

    /// Adds the values of a line, the member first; returns the repeated member, if there is one.
    pub fn add(&mut self, line: u64, values: &[Zeroizing<String>]) -> Option<Repeat> {
        let (member, others) = (self.digest(&values[..1]), self.digest(&values[1..]));
        match self.seen.entry(member) {
            Entry::Vacant(place) => {
                place.insert((line, others));
                None
            }
            Entry::Occupied(seen) => {
                let (first, its) = *seen.get();
                Some(if its == others { Repeat::Same { first } } else { Repeat::Other { first } })
            }
        }
    }

    fn digest<const N: usize>(&self, values: &[Zeroizing<String>]) -> [u8; N] {
        let all = values.iter().fold(self.mac.clone(), |mac, value| {
            mac.chain_update((value.len() as u64).to_be_bytes()).chain_update(value.as_bytes())
        });
        let all: [u8; 32] = all.finalize().into_bytes().into();
        std::array::from_fn(|place| all[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_refers_to_the_first_line_and_shows_whether_other_values_differ() {
        let line =
            |values: &[&str]| -> Vec<_> { values.iter().map(|value| Zeroizing::new((*value).to_owned())).collect() };
        let mut members = SeenMembers::new(0);
        let cases = [
            (&["ann", "x"][..], None),
            (&["bob", "x"], None),
            (&["ann", "x"], Some(Repeat::Same { first: 0 })),
            (&["ann", "y"], Some(Repeat::Other { first: 0 })),
            // The first line counts, not the last one.
            (&["ann", "y"], Some(Repeat::Other { first: 0 })),
            // The same characters, split at another place.
            (&["annx", ""], None),
            (&["cid", "ab", "c"], None),
            (&["cid", "a", "bc"], Some(Repeat::Other { first: 6 })),
        ];
        for (number, (values, repeat)) in (0..).zip(cases) {
            assert_eq!(members.add(number, &line(values)), repeat, "{values:?}");
        }
    }
}
