//! Rows of numbers sorted in memory that does not grow with them.
//!
//! The rule it keeps: what does not fit in memory lies in files without a name, which are gone with
//! the process, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// A row: sorted by its first number, then by the next ones.
pub type Row = [u64; 4];

const BYTES: usize = size_of::<Row>();
/// Rows that are held in memory: 2 MiB.
pub const HELD: usize = 1 << 16;
/// Runs of one length that become one, sixteen times as long: no more than so many files are open
/// for each power of sixteen.
const TOGETHER: usize = 16;

/// Takes rows in any order.
pub struct Sorter {
    folder: PathBuf,
    most: usize,
    held: Vec<Row>,
    /// Sorted runs, each level of sixteen times the length of the one before.
    levels: Vec<Vec<File>>,
}

impl Sorter {
    /// Holds `most` rows, and puts the others into files in a folder, or where that takes none into
    /// the system's own for such files.
    pub fn new(folder: &Path, most: usize) -> Sorter {
        Sorter { folder: folder.to_owned(), most, held: Vec::new(), levels: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn add(&mut self, row: Row) -> io::Result<()> {
        self.held.push(row);
        if self.held.len() < self.most {
            return Ok(());
        }
        self.held.sort_unstable();
        let mut run = self.write(self.held.iter().copied().map(Ok))?;
        self.held.clear();
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < TOGETHER {
                return Ok(());
            }
            let runs = std::mem::take(&mut self.levels[level]);
            run = self.write(Sorted::of(Vec::new(), runs)?)?;
        }
        Ok(())
    }

    /// All rows in order.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.held.sort_unstable();
        Sorted::of(self.held, self.levels.into_iter().flatten().collect())
    }

    fn write(&self, rows: impl Iterator<Item = io::Result<Row>>) -> io::Result<File> {
        let file = tempfile::tempfile_in(&self.folder).or_else(|_| tempfile::tempfile())?;
        let mut to = BufWriter::new(file);
        for row in rows {
            for number in row? {
                to.write_all(&number.to_be_bytes())?;
            }
        }
        let mut file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// Rows in order.
pub struct Sorted {
    held: std::vec::IntoIter<Row>,
    runs: Vec<BufReader<File>>,
    /// The next row of each run, the least one first; the one held in memory counts as the last run.
    next: BinaryHeap<Reverse<(Row, usize)>>,
}

impl Sorted {
    fn of(held: Vec<Row>, runs: Vec<File>) -> io::Result<Sorted> {
        let runs: Vec<_> = runs.into_iter().map(BufReader::new).collect();
        let mut sorted = Sorted { held: held.into_iter(), runs, next: BinaryHeap::new() };
        (0..=sorted.runs.len()).try_for_each(|run| sorted.advance(run))?;
        Ok(sorted)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        let row = match self.runs.get_mut(run) {
            Some(file) => read(file)?,
            None => self.held.next(),
        };
        self.next.extend(row.map(|row| Reverse((row, run))));
        Ok(())
    }
}

fn read(file: &mut BufReader<File>) -> io::Result<Option<Row>> {
    let mut bytes = [0; BYTES];
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        // Runs are written whole: it ends between two rows.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (numbers, _) = bytes.as_chunks();
    Ok(Some([0, 1, 2, 3].map(|place: usize| u64::from_be_bytes(numbers[place]))))
}

impl Iterator for Sorted {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((row, run)) = self.next.pop()?;
        Some(self.advance(run).map(|()| row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_order_and_complete_whatever_memory_holds_of_them() {
        let folder = tempfile::tempdir().unwrap();
        // Any order with repeats: the multiples of a number, modulo another that it is prime to.
        let rows: Vec<Row> = (0..3_000_u64).map(|n| [n * 769 % 1_013, n * 31 % 7, n % 3, n % 2]).collect();
        let mut wanted = rows.clone();
        wanted.sort_unstable();
        // 5: three levels of files; 3,000: none is left in memory; 3,001: no file.
        for most in [5, 64, 3_000, 3_001] {
            let mut sorter = Sorter::new(folder.path(), most);
            rows.iter().try_for_each(|row| sorter.add(*row)).unwrap();
            let files: usize = sorter.levels.iter().map(Vec::len).sum();
            assert!(files < TOGETHER * 3 && (files > 0) == (most <= rows.len()), "{files}");
            let sorted: Vec<Row> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            assert!(sorted == wanted, "{most}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file has a name");
    }

    #[test]
    fn a_folder_that_takes_no_file_is_no_hindrance() {
        let mut sorter = Sorter::new(Path::new("/nowhere"), 2);
        (0..5).rev().try_for_each(|n| sorter.add([n, 0, 0, 0])).unwrap();
        let sorted: Vec<u64> = sorter.sorted().unwrap().map(|row| row.unwrap()[0]).collect();
        assert_eq!(sorted, [0, 1, 2, 3, 4]);
    }
}
