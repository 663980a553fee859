//! The result file: one row for each row of the CSV file, by its line, without identifiers.
//!
//! The rule it keeps: a row says `queued` only after the broker's confirm. A cut file is continued after its last whole
//! row. Its first row records the arguments.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::arguments::Arguments;

const HEADER: &str = "line,job_id,state,code,note\n";
/// The state of the row with the arguments.
const ARGUMENTS: &str = "arguments";
/// The rows of one write.
const BATCH: u64 = 256;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The line of the CSV file.
    pub line: u64,
    /// The job, if there is one.
    pub job_id: Option<Uuid>,
    /// `queued`, `skipped`, or the job's state.
    pub state: String,
    /// The error code.
    pub code: String,
    /// The row's fault.
    pub note: String,
}

impl Outcome {
    /// A published job.
    pub fn queued(line: u64, job_id: Uuid) -> Outcome {
        let (code, note) = (String::new(), String::new());
        Outcome { line, job_id: Some(job_id), state: "queued".to_owned(), code, note }
    }

    /// An unusable row, or a repeated member.
    pub fn skipped(line: u64, note: &str) -> Outcome {
        Outcome { line, job_id: None, state: "skipped".to_owned(), code: String::new(), note: note.to_owned() }
    }

    /// The row with the arguments; it has no line.
    pub fn arguments(arguments: &Arguments) -> Outcome {
        Outcome { line: 0, job_id: None, state: ARGUMENTS.to_owned(), code: String::new(), note: arguments.to_note() }
    }

    /// The arguments, if this is their row.
    pub(crate) fn as_arguments(&self) -> Option<Arguments> {
        (self.line == 0 && self.state == ARGUMENTS).then(|| Arguments::of_note(&self.note))
    }

    fn read(text: &str) -> Option<Outcome> {
        let mut parts = text.splitn(5, ',');
        let line = parts.next()?.parse().ok()?;
        let id = parts.next()?;
        let job_id = if id.is_empty() { None } else { Some(Uuid::try_parse(id).ok()?) };
        let (state, code) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let note = parts.next()?.trim_matches('"').to_owned();
        Some(Outcome { line, job_id, state, code, note })
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let id = self.job_id.map(|id| id.to_string()).unwrap_or_default();
        let note: String = self.note.chars().map(|c| if c == '"' { '\'' } else { c }).collect();
        let quote = if note.is_empty() { "" } else { "\"" };
        writeln!(to, "{},{id},{},{},{quote}{note}{quote}", self.line, self.state, self.code)
    }
}

/// The default path of a file's result.
pub(crate) fn path_for(members: &Path) -> PathBuf {
    let mut name = members.as_os_str().to_owned();
    name.push(".result.csv");
    PathBuf::from(name)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Calls `each` with the rows of a result file; returns the length of its whole rows.
///
/// # Errors
/// It cannot be read, or is not a result file.
pub fn read(path: &Path, mut each: impl FnMut(Outcome) -> io::Result<()>) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path)?);
    let mut text = String::new();
    let mut whole = file.read_line(&mut text)? as u64;
    if text != HEADER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is not a result file of submit-csv"));
    }
    loop {
        text.clear();
        let count = file.read_line(&mut text)? as u64;
        let Some(line) = text.strip_suffix('\n') else { return Ok(whole) };
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "has a row that submit-csv did not write");
        each(Outcome::read(line).ok_or_else(bad)?)?;
        whole += count;
    }
}

/// An open result file.
pub(crate) struct Results {
    file: BufWriter<File>,
    unwritten: u64,
}

impl Results {
    /// Continues a file after its first `whole` bytes. With 0, begins the file and records the arguments.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path, whole: u64, arguments: Option<&Arguments>) -> io::Result<Results> {
        let mut file = options().open(path)?;
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let mut results = Results { file: BufWriter::new(file), unwritten: 0 };
        if whole == 0 {
            results.file.write_all(HEADER.as_bytes())?;
            arguments.map_or(Ok(()), |arguments| Outcome::arguments(arguments).write(&mut results.file))?;
            results.file.flush()?;
        }
        Ok(results)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, outcome: &Outcome) -> io::Result<()> {
        outcome.write(&mut self.file)?;
        self.unwritten += 1;
        if self.unwritten >= BATCH {
            self.unwritten = 0;
            self.file.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

/// Replaces a result file, completely or not at all.
pub(crate) struct Rewritten {
    results: Results,
    scratch: PathBuf,
    path: PathBuf,
}

impl Rewritten {
    /// Begins.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(path: &Path) -> io::Result<Rewritten> {
        let mut scratch = path.as_os_str().to_owned();
        scratch.push(".part");
        let scratch = PathBuf::from(scratch);
        Ok(Rewritten { results: Results::open(&scratch, 0, None)?, scratch, path: path.to_owned() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.results.add(outcome)
    }

    /// Replaces the old file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.results.finish()?;
        std::fs::rename(self.scratch, self.path)
    }
}
