//! Rows in memory: the rows of jobs in hand, and rows that were read before.
//!
//! The rule it keeps: a row here is the row in the database, because only this process writes. While a row is being
//! read, the commits that are answered meanwhile are kept for it, and applied after it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use super::super::Pair;
use super::super::layout::{Change, Changes};

/// Most single rows, and most prefixes.
const ROWS: usize = 32_768;
const PREFIXES: usize = 8_192;
/// A row with a longer value is not kept.
const LONGEST: usize = 64 << 10;

/// What is known of a row, or of the rows below a prefix.
#[derive(Debug)]
enum Known<T> {
    /// It is being read by this many readers; the changes since the first of them began, in order.
    Reading {
        readers: usize,
        since: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    },
    Here(T),
}

/// Values by their flat keys.
pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows, by their flat keys.
#[derive(Debug, Default)]
pub(super) struct Cache {
    rows: HashMap<Vec<u8>, Known<Option<Vec<u8>>>>,
    below: HashMap<Vec<u8>, Known<Rows>>,
    /// The lengths of the prefixes, and their counts.
    lengths: BTreeMap<usize, usize>,
    oldest_rows: VecDeque<Vec<u8>>,
    oldest_prefixes: VecDeque<Vec<u8>>,
}

impl Cache {
    /// A row: `None` if it is not known here.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        match self.rows.get(key)? {
            Known::Here(value) => Some(value.clone()),
            Known::Reading { .. } => None,
        }
    }

    /// The rows below a prefix: `None` if they are not known here.
    pub(super) fn scan(&self, prefix: &[u8], start: Bound<Vec<u8>>, limit: usize) -> Option<Vec<Pair>> {
        let Known::Here(rows) = self.below.get(prefix)? else { return None };
        let range = rows.range::<Vec<u8>, _>((start, Bound::Unbounded)).take(limit);
        Some(range.map(|(key, value)| (key[1..].to_vec(), value.clone())).collect())
    }

    /// Begins to read rows, and returns the ones that are not known here.
    pub(super) fn begin(&mut self, rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        rows.into_iter().filter(|key| begin(&mut self.rows, key)).collect()
    }

    /// As [`Cache::begin`], for the rows below prefixes.
    pub(super) fn begin_below(&mut self, prefixes: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut new = Vec::new();
        for prefix in prefixes {
            let is_first = !self.below.contains_key(&prefix);
            if begin(&mut self.below, &prefix) {
                if is_first {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                }
                new.push(prefix);
            }
        }
        new
    }

    /// Ends a read of a row; `None`: it failed.
    pub(super) fn end(&mut self, key: &[u8], read: Option<Option<Vec<u8>>>) {
        let Some(known) = self.rows.get_mut(key) else { return };
        let Known::Reading { readers, since } = known else { return };
        *readers -= 1;
        match read {
            None if *readers > 0 => {}
            None => drop(self.rows.remove(key)),
            Some(value) => {
                let value = since.pop().map_or(value, |(_, newest)| newest);
                if value.as_ref().is_some_and(|value| value.len() > LONGEST) {
                    self.rows.remove(key);
                    return;
                }
                *known = Known::Here(value);
                self.oldest_rows.push_back(key.to_vec());
            }
        }
        while self.oldest_rows.len() > ROWS {
            if let Some(key) = self.oldest_rows.pop_front()
                && matches!(self.rows.get(&key), Some(Known::Here(_)))
            {
                self.rows.remove(&key);
            }
        }
    }

    /// As [`Cache::end`], for the rows below a prefix.
    pub(super) fn end_below(&mut self, prefix: &[u8], read: Option<Rows>) {
        let Some(known) = self.below.get_mut(prefix) else { return };
        let Known::Reading { readers, since } = known else { return };
        *readers -= 1;
        match read {
            None if *readers > 0 => {}
            None => self.forget_below(prefix),
            Some(mut rows) => {
                for (key, value) in std::mem::take(since) {
                    match value {
                        Some(value) => rows.insert(key, value),
                        None => rows.remove(&key),
                    };
                }
                *known = Known::Here(rows);
                self.oldest_prefixes.push_back(prefix.to_vec());
            }
        }
        while self.oldest_prefixes.len() > PREFIXES {
            if let Some(prefix) = self.oldest_prefixes.pop_front()
                && matches!(self.below.get(&prefix), Some(Known::Here(_)))
            {
                self.forget_below(&prefix);
            }
        }
    }

    fn forget_below(&mut self, prefix: &[u8]) {
        self.below.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Applies a group that the database has committed.
    pub(super) fn apply(&mut self, changes: &Changes) {
        for (key, change) in changes {
            let value = match change {
                Change::Put(value) => Some(value),
                Change::Removed | Change::Archived => None,
            };
            match self.rows.get_mut(key) {
                None => {}
                Some(Known::Reading { since, .. }) => since.push((key.clone(), value.cloned())),
                Some(Known::Here(here)) => *here = value.cloned(),
            }
            for length in self.lengths.range(..=key.len()).map(|(length, _)| *length) {
                match self.below.get_mut(&key[..length]) {
                    None => {}
                    Some(Known::Reading { since, .. }) => since.push((key.clone(), value.cloned())),
                    Some(Known::Here(rows)) => {
                        match value {
                            Some(value) => rows.insert(key.clone(), value.clone()),
                            None => rows.remove(key),
                        };
                    }
                }
            }
        }
    }
}

/// True if the row must be read.
fn begin<T>(known: &mut HashMap<Vec<u8>, Known<T>>, key: &[u8]) -> bool {
    match known.get_mut(key) {
        Some(Known::Here(_)) => false,
        Some(Known::Reading { readers, .. }) => {
            *readers += 1;
            true
        }
        None => {
            known.insert(key.to_vec(), Known::Reading { readers: 1, since: Vec::new() });
            true
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::super::Table;
    use super::super::super::layout::{flat, start};
    use super::*;

    /// An event of readers and the committer. The database's state changes at a commit; its answer comes later.
    #[derive(Debug, Clone)]
    enum Event {
        Begin(u8),
        Snapshot(usize),
        End(usize, bool),
        Commit(u8, Option<u8>),
        Answer,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let one = prop_oneof![
            (0..4_u8).prop_map(Event::Begin),
            (0..4_usize).prop_map(Event::Snapshot),
            (0..4_usize, any::<bool>()).prop_map(|(reader, fails)| Event::End(reader, fails)),
            (0..4_u8, proptest::option::of(any::<u8>())).prop_map(|(key, value)| Event::Commit(key, value)),
            Just(Event::Answer),
        ];
        proptest::collection::vec(one, 0..60)
    }

    /// A read that has begun: its key, and the rows at its snapshot.
    type Read = (Vec<u8>, Option<Rows>);

    proptest! {
        /// Readers and commits in any order: what is here is the database, up to commits without an answer.
        #[test]
        fn a_row_here_is_never_older_than_the_last_answered_commit(events in events()) {
            let mut cache = Cache::default();
            let prefix = flat(Table::Journal, b"");
            let (mut database, mut answered) = (Rows::new(), Rows::new());
            let mut unanswered: VecDeque<Changes> = VecDeque::new();
            let mut reads: Vec<Read> = Vec::new();
            for event in events {
                match event {
                    Event::Begin(key) => {
                        let key = flat(Table::Journal, &[key]);
                        for key in cache.begin(vec![key]) {
                            reads.push((key, None));
                        }
                        for prefix in cache.begin_below(vec![prefix.clone()]) {
                            reads.push((prefix, None));
                        }
                    }
                    Event::Snapshot(reader) => {
                        if let Some((_, rows)) = reads.get_mut(reader) {
                            rows.get_or_insert_with(|| database.clone());
                        }
                    }
                    Event::End(reader, fails) => {
                        if reads.get(reader).is_some_and(|(_, rows)| rows.is_some()) {
                            let (key, rows) = reads.remove(reader);
                            let rows = rows.filter(|_| !fails);
                            if key == prefix {
                                cache.end_below(&key, rows);
                            } else {
                                cache.end(&key, rows.map(|rows| rows.get(&key).cloned()));
                            }
                        }
                    }
                    Event::Commit(key, value) if unanswered.is_empty() => {
                        let key = flat(Table::Journal, &[key]);
                        match value {
                            Some(value) => database.insert(key.clone(), vec![value]),
                            None => database.remove(&key),
                        };
                        let change = value.map_or(Change::Removed, |value| Change::Put(vec![value]));
                        unanswered.push_back(Changes::from([(key, change)]));
                    }
                    Event::Commit(..) => {}
                    Event::Answer => {
                        if let Some(changes) = unanswered.pop_front() {
                            cache.apply(&changes);
                            answered = database.clone();
                        }
                    }
                }
                for key in 0..4 {
                    let key = flat(Table::Journal, &[key]);
                    if let Some(here) = cache.get(&key) {
                        prop_assert!(
                            here.as_ref() == answered.get(&key) || here.as_ref() == database.get(&key),
                            "{key:?}: {here:?} in place of {:?}", answered.get(&key)
                        );
                    }
                }
                if let Some(here) = cache.scan(&prefix, start(Table::Journal, b"", None), 99) {
                    let pairs = |rows: &Rows| {
                        rows.iter().map(|(key, value)| (key[1..].to_vec(), value.clone())).collect::<Vec<_>>()
                    };
                    prop_assert!(here == pairs(&answered) || here == pairs(&database));
                }
            }
        }
    }

    #[test]
    fn the_oldest_rows_leave_first_and_the_number_is_bounded() {
        let mut cache = Cache::default();
        for number in 0..ROWS + 10 {
            let key = number.to_be_bytes().to_vec();
            assert_eq!(cache.begin(vec![key.clone()]).len(), 1);
            cache.end(&key, Some(None));
            assert_eq!(cache.begin_below(vec![key.clone()]).len(), 1);
            cache.end_below(&key, Some(BTreeMap::new()));
        }
        assert_eq!((cache.rows.len(), cache.below.len()), (ROWS, PREFIXES));
        assert_eq!(cache.lengths, BTreeMap::from([(8, PREFIXES)]));
        assert_eq!((cache.get(&0_usize.to_be_bytes()), cache.get(&(ROWS + 9).to_be_bytes())), (None, Some(None)));
    }
}
