//! Jobs from lines: a file, standard input, or a list. A job may also have several lines.
//!
//! The rule it keeps: memory stays bounded, whatever the input holds. Lines are read when they are needed, and only
//! the beginning of an oversized line is kept.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use super::SpoolError;
use super::gather::{Gather, joined};

/// The longest line that is kept whole: the limit of a message. A longer line is cut one byte above it, so that it
/// still counts as too long.
pub const LINE_MAX: usize = 1024 * 1024;

/// Lines that are read ahead.
const AHEAD: usize = 4;

/// The source of the jobs.
pub struct Source(Lines);

enum Lines {
    Reader(Box<dyn AsyncRead + Send + Unpin>),
    List(Vec<Bytes>),
}

impl Source {
    /// A file with one job a line.
    pub async fn file(path: &Path) -> Result<Self, SpoolError> {
        match tokio::fs::File::open(path).await {
            Ok(file) => Ok(Self::reader(file)),
            Err(source) => Err(SpoolError::Io { path: path.to_owned(), source }),
        }
    }

    /// Standard input.
    pub fn stdin() -> Self {
        Self::reader(tokio::io::stdin())
    }

    /// Any reader.
    pub fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Lines::Reader(Box::new(reader)))
    }

    /// A list of bodies.
    pub fn jobs(bodies: Vec<Bytes>) -> Self {
        Self(Lines::List(bodies))
    }

    /// The jobs, read by a task that stays a little ahead.
    pub(super) fn read(self) -> mpsc::Receiver<std::io::Result<Entry>> {
        let (jobs, received) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            match self.0 {
                Lines::List(bodies) => {
                    for body in bodies {
                        if jobs.send(Ok(Entry { line: None, body })).await.is_err() {
                            return;
                        }
                    }
                }
                Lines::Reader(reader) => {
                    let failed = gather(&mut BufReader::with_capacity(64 * 1024, reader), &jobs).await.err();
                    if let Some(error) = failed {
                        let _ = jobs.send(Err(error)).await;
                    }
                }
            }
        });
        received
    }
}

/// A job in the input.
pub(super) struct Entry {
    /// The first of its lines, from 1.
    pub(super) line: Option<u64>,
    pub(super) body: Bytes,
}

/// Reads lines and sends them in groups, until the receiver is gone.
async fn gather(
    reader: &mut (impl AsyncBufRead + Unpin),
    jobs: &mpsc::Sender<std::io::Result<Entry>>,
) -> std::io::Result<()> {
    let (mut gather, mut groups, mut number) = (Gather::default(), VecDeque::new(), 0);
    loop {
        let line = line(reader, &mut number).await?;
        let is_last = line.is_none();
        match line {
            Some(line) => gather.push(number, line, &mut groups),
            None => gather.end(&mut groups),
        }
        for group in groups.drain(..) {
            let entry = match &group[..] {
                [(number, line)] => Entry { line: Some(*number), body: line.clone() },
                lines => {
                    let line = lines.first().map(|(number, _)| *number);
                    Entry { line, body: Bytes::from(joined(&group)) }
                }
            };
            if jobs.send(Ok(entry)).await.is_err() {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// The next line that is not blank, without its end and without a byte order mark; `None` at the end of the input.
/// `number` counts the lines.
async fn line(reader: &mut (impl AsyncBufRead + Unpin), number: &mut u64) -> std::io::Result<Option<Bytes>> {
    let mut line = Vec::new();
    loop {
        let part = reader.fill_buf().await?;
        let (taken, ended) = match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end, true),
            None => (part.len(), part.is_empty()),
        };
        let room = (LINE_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..taken.min(room)]);
        let last = part.is_empty();
        reader.consume(taken + usize::from(ended && !last));
        if ended {
            *number += 1;
            let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| *number == 1).unwrap_or(&line);
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Bytes::copy_from_slice(text)));
            }
            if last {
                return Ok(None);
            }
            line.clear();
        }
    }
}
