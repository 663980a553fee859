//! Tables, keys and values as keys and values of one flat tree.
//!
//! The rule it keeps: no stored value is longer than [`PIECE`] and one byte. If a leaf (up to 18 entries) outgrows a
//! quarter of a segment, sled moves it into a file of its own, which it never syncs. So a long value is cut into
//! pieces that keep every leaf well below that.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::{StoreError, Table};

/// Bytes of one segment of the log; part of the files, so never change it without a migration.
pub(super) const SEGMENT: usize = 1 << 20;
/// Most value bytes under one key.
pub(super) const PIECE: usize = 8 << 10;

const WHOLE: u8 = 0;
const CUT: u8 = 1;
/// The key has no value, even if the archive has one.
const GONE: u8 = 2;
const PIECES: u8 = 0xfe;

/// The change of a flat key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets this value.
    Put(Vec<u8>),
    /// It is removed.
    Removed,
    /// Its value is in the archive, and is removed here.
    Archived,
}

/// The last change of each flat key of a group.
pub(super) type Changes = BTreeMap<Vec<u8>, Change>;

/// The count of committed groups; our own key, outside every table.
pub(super) const GROUP_KEY: &[u8] = &[0, b'g'];
/// The lowest number that the archive must have; our own key too.
pub(super) const ARCHIVE_KEY: &[u8] = &[0, b'a'];

/// The tables whose rows are moved into the archive.
pub(super) const ARCHIVED: [Table; 2] = [Table::Ended, Table::Receipt];

/// True if a flat key belongs to such a table.
pub(super) fn is_archived(key: &[u8]) -> bool {
    ARCHIVED.iter().any(|table| key.first() == Some(&(*table as u8)))
}

/// The flat key of a table's key.
pub(super) fn flat(table: Table, key: &[u8]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(1 + key.len());
    flat.push(table as u8);
    flat.extend_from_slice(key);
    flat
}

/// The start of a scan: after `after`, or at the prefix if that is later.
pub(super) fn start(table: Table, prefix: &[u8], after: Option<&[u8]>) -> Bound<Vec<u8>> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(flat(table, after)),
        _ => Bound::Included(flat(table, prefix)),
    }
}

fn piece_key(flat: &[u8], number: u32) -> Vec<u8> {
    // The length separates the pieces of `ab` from those of `a` followed by a `b`.
    let length = (flat.len() as u32).to_be_bytes();
    [&[PIECES], &length[..], flat, &number.to_be_bytes()].concat()
}

/// The flat keys with a cut value, and the number of pieces.
#[derive(Debug, Default)]
pub(super) struct Cuts(HashMap<Vec<u8>, u32>);

impl Cuts {
    /// Reads one stored pair, when the store is opened.
    pub(super) fn learn(&mut self, key: &[u8], stored: &[u8]) -> Result<(), StoreError> {
        if matches!(key.first(), Some(1..=9))
            && let Stored::Cut(pieces) = Stored::read(stored)?
        {
            self.0.insert(key.to_vec(), pieces);
        }
        Ok(())
    }

    /// Turns a group into writes to the tree; the pieces of older values are removed.
    pub(super) fn lay_out(&mut self, changes: Changes) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut writes = Vec::with_capacity(changes.len() + 1);
        for (key, change) in changes {
            let before = self.0.remove(&key).unwrap_or(0);
            let mut pieces = 0;
            let stored = match change {
                Change::Put(value) if value.len() <= PIECE => Some([&[WHOLE], &value[..]].concat()),
                Change::Put(value) => {
                    for piece in value.chunks(PIECE) {
                        writes.push((piece_key(&key, pieces), Some(piece.to_vec())));
                        pieces += 1;
                    }
                    self.0.insert(key.clone(), pieces);
                    Some([&[CUT], &pieces.to_be_bytes()[..]].concat())
                }
                // The archive may hold it.
                Change::Removed => is_archived(&key).then(|| vec![GONE]),
                Change::Archived => None,
            };
            writes.extend((pieces..before).map(|number| (piece_key(&key, number), None)));
            writes.push((key, stored));
        }
        writes
    }
}

enum Stored<'a> {
    Whole(&'a [u8]),
    Cut(u32),
    Gone,
}

impl<'a> Stored<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((&WHOLE, rest)) => Ok(Stored::Whole(rest)),
            Some((&CUT, rest)) => match <[u8; 4]>::try_from(rest) {
                Ok(pieces) => Ok(Stored::Cut(u32::from_be_bytes(pieces))),
                Err(_) => Err(StoreError::Unreadable("a cut value names no number of pieces".into())),
            },
            Some((&GONE, [])) => Ok(Stored::Gone),
            _ => Err(StoreError::Unreadable("a value has an unknown form".into())),
        }
    }
}

/// The original value, from the stored bytes of its flat key and a function for the pieces; `None` if it was removed.
pub(super) fn restore<P: AsRef<[u8]>>(
    key: &[u8],
    stored: &[u8],
    get: impl Fn(&[u8]) -> Result<Option<P>, StoreError>,
) -> Result<Option<Vec<u8>>, StoreError> {
    match Stored::read(stored)? {
        Stored::Gone => Ok(None),
        Stored::Whole(value) => Ok(Some(value.to_vec())),
        Stored::Cut(pieces) => {
            let mut value = Vec::new();
            for number in 0..pieces {
                let piece = get(&piece_key(key, number))?;
                let piece = piece.ok_or_else(|| StoreError::Unreadable("a piece of a value is missing".into()))?;
                value.extend_from_slice(piece.as_ref());
            }
            Ok(Some(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(tree: &mut BTreeMap<Vec<u8>, Vec<u8>>, cuts: &mut Cuts, key: Vec<u8>, change: Change) {
        for (key, value) in cuts.lay_out(Changes::from([(key, change)])) {
            match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(&key),
            };
        }
    }

    #[test]
    fn values_of_every_length_come_back_and_leave_no_piece_behind() {
        let (mut tree, mut cuts) = (BTreeMap::new(), Cuts::default());
        for length in [0, 1, PIECE, PIECE + 1, 5 * PIECE, 2 * PIECE, 3 * PIECE + 7, PIECE] {
            let value: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let key = flat(Table::Job, b"k");
            apply(&mut tree, &mut cuts, key.clone(), Change::Put(value.clone()));
            let got = restore(&key, &tree[&key], |piece| Ok(tree.get(piece))).unwrap();
            assert_eq!(got, Some(value));
            assert!(tree.values().all(|stored| stored.len() <= PIECE + 1));
            let pieces = if length <= PIECE { 0 } else { length.div_ceil(PIECE) };
            assert_eq!(tree.len(), 1 + pieces);
        }
        let key = flat(Table::Job, b"k");
        apply(&mut tree, &mut cuts, key.clone(), Change::Put(vec![0; 3 * PIECE]));
        let mut learnt = Cuts::default();
        tree.iter().for_each(|(key, value)| learnt.learn(key, value).unwrap());
        apply(&mut tree, &mut learnt, key, Change::Removed);
        assert!(tree.is_empty());
    }

    #[test]
    fn what_the_archive_may_hold_leaves_a_mark_when_it_is_removed_and_none_when_it_is_archived() {
        let (mut tree, mut cuts) = (BTreeMap::new(), Cuts::default());
        for table in ARCHIVED {
            let key = flat(table, b"k");
            apply(&mut tree, &mut cuts, key.clone(), Change::Put(vec![0; 3 * PIECE]));
            apply(&mut tree, &mut cuts, key.clone(), Change::Removed);
            assert_eq!(restore(&key, &tree[&key], |piece| Ok(tree.get(piece))).unwrap(), None);
            apply(&mut tree, &mut cuts, key, Change::Archived);
            assert!(tree.is_empty());
        }
    }

    #[test]
    fn a_missing_piece_is_an_error_and_no_shorter_value() {
        let (mut tree, mut cuts) = (BTreeMap::new(), Cuts::default());
        let key = flat(Table::Job, b"k");
        apply(&mut tree, &mut cuts, key.clone(), Change::Put(vec![1; 3 * PIECE]));
        tree.remove(&piece_key(&key, 1));
        assert!(matches!(restore(&key, &tree[&key], |piece| Ok(tree.get(piece))), Err(StoreError::Unreadable(_))));
    }
}
