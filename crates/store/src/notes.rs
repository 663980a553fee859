//! Notes for the next process, in a file of their own beside the log.
//!
//! The rule it keeps: the kernel has a note when the call returns, so that the next process finds it, however this
//! one ends. It is never synced: a power cut may lose it, or restore an old one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::Pair;

/// Bytes of a note's place: two lengths, key, value, zeros, and the first bytes of their SHA-256. A place with any
/// other content is free.
const PLACE: usize = 64;
const SUM: usize = 8;
/// The longest key and value together.
const LONGEST: usize = PLACE - SUM - 2;

/// The notes of one store.
#[derive(Debug)]
pub(super) struct Notes {
    file: File,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    taken: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    free: Vec<u64>,
    count: u64,
}

impl Notes {
    /// Opens the file, or creates it, and reads the last process's notes.
    pub(super) fn open(store: &Path) -> io::Result<Notes> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = options.open(store.join("notes"))?;
        let mut places = Places { count: file.metadata()?.len() / PLACE as u64, ..Places::default() };
        for number in 0..places.count {
            let mut place = [0; PLACE];
            file.read_exact_at(&mut place, number * PLACE as u64)?;
            match read(&place) {
                Some((key, value)) if !places.taken.contains_key(&key) => {
                    places.taken.insert(key, (number, value));
                }
                _ => places.free.push(number),
            }
        }
        Ok(Notes { file, places: Mutex::new(places) })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a value under a key; `None` removes it.
    pub(super) fn note(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let mut places = self.places();
        let before = places.taken.get(key).map(|(number, _)| *number);
        let (number, bytes) = match (value, before) {
            (None, None) => return Ok(()),
            (None, Some(number)) => (number, [0; PLACE]),
            (Some(value), _) => {
                let bytes = place(key, value).ok_or_else(|| io::Error::other("a note that is too long"))?;
                (before.or_else(|| places.free.last().copied()).unwrap_or(places.count), bytes)
            }
        };
        self.file.write_all_at(&bytes, number * PLACE as u64)?;
        match value {
            None => {
                places.taken.remove(key);
                places.free.push(number);
            }
            Some(value) => {
                if before.is_none() && places.free.pop().is_none() {
                    places.count += 1;
                }
                places.taken.insert(key.to_vec(), (number, value.to_vec()));
            }
        }
        Ok(())
    }

    /// All notes.
    pub(super) fn all(&self) -> Vec<Pair> {
        self.places().taken.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }
}

fn place(key: &[u8], value: &[u8]) -> Option<[u8; PLACE]> {
    if key.len() + value.len() > LONGEST {
        return None;
    }
    let mut place = [0; PLACE];
    place[0] = u8::try_from(key.len()).ok()?;
    place[1] = u8::try_from(value.len()).ok()?;
    let rest = place[2..].iter_mut();
    rest.zip(key.iter().chain(value)).for_each(|(place, byte)| *place = *byte);
    let sum = Sha256::digest(&place[..PLACE - SUM]);
    place[PLACE - SUM..].copy_from_slice(&sum[..SUM]);
    Some(place)
}

fn read(place: &[u8; PLACE]) -> Option<Pair> {
    let (content, sum) = place.split_at(PLACE - SUM);
    if Sha256::digest(content)[..SUM] != *sum {
        return None;
    }
    let (key_length, value_length) = (usize::from(content[0]), usize::from(content[1]));
    let value = content.get(2 + key_length..)?.get(..value_length)?;
    Some((content[2..2 + key_length].to_vec(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn found(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
        Notes::open(dir).unwrap().all().into_iter().collect()
    }

    #[test]
    fn what_is_noted_is_there_for_the_next_process_and_what_is_crossed_out_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        for number in 0..50_u8 {
            notes.note(&[number; 36], Some(&[number; 10])).unwrap();
        }
        for number in 0..40 {
            notes.note(&[number; 36], None).unwrap();
        }
        notes.note(&[45; 36], Some(b"anew")).unwrap();
        notes.note(b"another", Some(b"")).unwrap();
        // Not closed: the process is killed.
        let mut expected: BTreeMap<_, _> = (40..50_u8).map(|number| (vec![number; 36], vec![number; 10])).collect();
        expected.insert(vec![45; 36], b"anew".to_vec());
        expected.insert(b"another".to_vec(), Vec::new());
        assert_eq!(found(dir.path()), expected);
        assert_eq!(notes.file.metadata().unwrap().len(), 50 * PLACE as u64, "places are used again");
    }

    #[test]
    fn a_torn_place_is_free_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        notes.note(b"one", Some(b"1")).unwrap();
        notes.note(b"two", Some(b"2")).unwrap();
        notes.file.write_all_at(b"x", 4).unwrap();
        notes.file.write_all_at(b"half a place", 2 * PLACE as u64).unwrap();
        assert_eq!(found(dir.path()), BTreeMap::from([(b"two".to_vec(), b"2".to_vec())]));
        Notes::open(dir.path()).unwrap().note(b"three", Some(b"3")).unwrap();
        assert_eq!(found(dir.path()).len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_the_rest_alone() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        notes.note(b"one", Some(b"1")).unwrap();
        assert!(notes.note(&[7; LONGEST], Some(b"2")).is_err());
        assert_eq!(found(dir.path()).len(), 1);
    }
}
