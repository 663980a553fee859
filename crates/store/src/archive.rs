//! The archive: the records of ended jobs, in one file beside the tree.
//!
//! The rule it keeps: it holds rows moved out of the tree. A row is durable here before the tree deletes it. So if
//! the tree has a row, that row is always the right one.
//!
//! sled keeps an entry in memory for each of its pages, and reads its whole file at the opening. That is good for
//! open jobs, and too much for a million ended ones. redb needs neither.
//!
//! Receipts arrive in the order of their numbers and are rarely read, so they are stored in compressed blocks, each
//! under its first key. Rows that are looked up by a job's key are stored singly.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError,
};

use super::block::{self, Squeeze};
use super::folder::CLOSING;
use super::{Pair, Table};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const BLOCKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("blocks");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The number of the last put.
const NUMBER: &str = "number";

/// A flat key, and its value; `None`: it was removed.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// The reason why the archive failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// The disk, or redb, failed.
    #[error("the archive failed: {0}")]
    Failed(#[source] redb::Error),
    /// Its content is invalid.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for ArchiveError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(why) => ArchiveError::Damaged(why),
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                ArchiveError::Damaged(error.to_string())
            }
            error => ArchiveError::Failed(error),
        }
    }
}

/// True if the value of this flat key is in a block.
fn is_in_blocks(key: &[u8]) -> bool {
    key.first() == Some(&(Table::Receipt as u8))
}

/// The open file.
pub(super) struct Archive {
    db: Database,
    path: PathBuf,
}

impl Archive {
    /// Opens the file, or creates it. After an unclean stop redb reads all of it and checks its checksums.
    pub(super) fn open(path: PathBuf, cache: usize) -> Result<Self, ArchiveError> {
        let began = Instant::now();
        loop {
            match Builder::new().set_cache_size(cache).create(&path) {
                Ok(db) => return Ok(Self { db, path }),
                // The directory is ours, so this process has just closed the file; a forked child keeps the lock
                // until it executes a program.
                Err(DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < CLOSING => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The number of the last [`Archive::put`].
    pub(super) fn number(&self) -> Result<u64, ArchiveError> {
        let Some(meta) = self.table(META)? else { return Ok(0) };
        Ok(meta.get(NUMBER)?.map_or(0, |number| number.value()))
    }

    /// A table's present state; `None` if nothing was put yet.
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, ArchiveError> {
        match self.db.begin_read()?.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file's bytes on the disk.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.blocks().saturating_mul(512))
    }

    /// The value under a flat key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        if !is_in_blocks(key) {
            let Some(rows) = self.table(ROWS)? else { return Ok(None) };
            return Ok(rows.get(key)?.map(|value| value.value().to_vec()));
        }
        let Some(blocks) = self.table(BLOCKS)? else { return Ok(None) };
        let Some(block) = blocks.range(..=key)?.next_back().transpose()? else { return Ok(None) };
        let pairs = read_block(block.1.value())?;
        Ok(pairs.into_iter().find_map(|(other, value)| (other == key).then_some(value)))
    }

    /// The pairs from a flat key on, in order; the caller stops at the end of its table.
    pub(super) fn range(&self, start: &Bound<Vec<u8>>) -> Result<Range, ArchiveError> {
        let (Bound::Included(from) | Bound::Excluded(from)) = start else { return Ok(Range::default()) };
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (start.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let in_blocks = is_in_blocks(from);
        let Some(table) = self.table(if in_blocks { BLOCKS } else { ROWS })? else { return Ok(Range::default()) };
        if !in_blocks {
            return Ok(Range { rest: Some(table.range::<&[u8]>(bounds)?), ..Range::default() });
        }
        // The first of them may be in a block that begins earlier.
        let mut ready = VecDeque::new();
        if let Some(block) = table.range::<&[u8]>(..from.as_slice())?.next_back().transpose()? {
            ready.extend(read_block(block.1.value())?);
        }
        let after = |key: &[u8]| match start {
            Bound::Excluded(from) => key > from.as_slice(),
            _ => key >= from.as_slice(),
        };
        ready.retain(|(key, _)| after(key));
        // The excluded key may be the first of a block.
        let rest = table.range::<&[u8]>(from.as_slice()..)?;
        let skipped = matches!(start, Bound::Excluded(_)).then(|| from.clone());
        Ok(Range { ready, rest: Some(rest), in_blocks, skipped })
    }

    /// Puts rows, sorted by key, and returns the rows that are now in the archive: receipts that do not fill a block
    /// wait for more. Durable when this returns.
    pub(super) fn put(&self, rows: Vec<Row>, number: u64) -> Result<Vec<Row>, ArchiveError> {
        let (receipts, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|(key, _)| is_in_blocks(key));
        let write = self.db.begin_write()?;
        let mut done = rows;
        {
            let mut table = write.open_table(ROWS)?;
            for (key, value) in &done {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
            let mut blocks = write.open_table(BLOCKS)?;
            done.extend(put_receipts(&mut blocks, receipts)?);
            write.open_table(META)?.insert(NUMBER, number)?;
        }
        if !done.is_empty() {
            write.commit()?;
        }
        Ok(done)
    }
}

type Blocks<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

fn put_receipts(blocks: &mut Blocks<'_>, receipts: Vec<Row>) -> Result<Vec<Row>, ArchiveError> {
    let last = match blocks.last()? {
        Some(block) => read_block(block.1.value())?.pop().map(|(key, _)| key),
        None => None,
    };
    let (new, known): (Vec<Row>, Vec<Row>) =
        receipts.into_iter().partition(|(key, value)| value.is_some() && last.as_ref().is_none_or(|last| key > last));
    // Changes within existing blocks, by block, so that each block is written once.
    let mut changed: BTreeMap<Vec<u8>, Vec<&Row>> = BTreeMap::new();
    for row in &known {
        if let Some(block) = blocks.range::<&[u8]>(..=row.0.as_slice())?.next_back().transpose()? {
            changed.entry(block.0.value().to_vec()).or_default().push(row);
        }
    }
    for (first, rows) in changed {
        let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = match blocks.get(first.as_slice())? {
            Some(block) => read_block(block.value())?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        for (key, value) in rows {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        if pairs.is_empty() {
            blocks.remove(first.as_slice())?;
        } else {
            let pairs: Vec<Pair> = pairs.into_iter().collect();
            blocks.insert(first.as_slice(), write_block(&pairs)?.as_slice())?;
        }
    }
    let mut done = known;
    let mut rest: Vec<Pair> = new.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let mut squeeze = Squeeze::default();
    while let Some((count, bytes)) = block::fill(&rest, &mut squeeze).map_err(unusable)? {
        blocks.insert(rest[0].0.as_slice(), bytes.as_slice())?;
        done.extend(rest.drain(..count).map(|(key, value)| (key, Some(value))));
    }
    Ok(done)
}

fn read_block(bytes: &[u8]) -> Result<Vec<Pair>, ArchiveError> {
    block::read(bytes).ok_or_else(|| ArchiveError::Damaged("a block cannot be read".into()))
}

fn write_block(pairs: &[Pair]) -> Result<Vec<u8>, ArchiveError> {
    block::write(pairs).map_err(unusable)
}

fn unusable(error: io::Error) -> ArchiveError {
    ArchiveError::Failed(redb::Error::Io(error))
}

/// Pairs in the order of their keys.
#[derive(Default)]
pub(super) struct Range {
    ready: VecDeque<Pair>,
    rest: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    in_blocks: bool,
    skipped: Option<Vec<u8>>,
}

impl Iterator for Range {
    type Item = Result<Pair, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.ready.pop_front() {
                if self.skipped.as_ref() == Some(&pair.0) {
                    continue;
                }
                return Some(Ok(pair));
            }
            let (key, value) = match self.rest.as_mut()?.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            if !self.in_blocks {
                return Some(Ok((key.value().to_vec(), value.value().to_vec())));
            }
            match read_block(value.value()) {
                Ok(pairs) => self.ready.extend(pairs),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
