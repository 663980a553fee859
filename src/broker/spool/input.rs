//! Jobs from lines: a file, standard input, or a list.
//!
//! The rule it keeps: memory stays flat, whatever the input holds. Lines are read when somebody
//! wants one, and of a line that is too long only the beginning is kept.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use super::SpoolError;

/// The longest line kept whole; the limit of a message. A longer one is cut one byte beyond it,
/// so that it is still seen to be too long.
pub const LINE_MAX: usize = 1024 * 1024;

/// Lines read ahead.
const AHEAD: usize = 4;

/// Where the jobs come from.
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

    /// Anything that can be read.
    pub fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Lines::Reader(Box::new(reader)))
    }

    /// A list of bodies.
    pub fn jobs(bodies: Vec<Bytes>) -> Self {
        Self(Lines::List(bodies))
    }

    /// The lines, read by a task that stays a little ahead.
    pub(super) fn read(self) -> mpsc::Receiver<std::io::Result<Bytes>> {
        let (lines, received) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            match self.0 {
                Lines::List(bodies) => {
                    for body in bodies {
                        if lines.send(Ok(body)).await.is_err() {
                            return;
                        }
                    }
                }
                Lines::Reader(reader) => {
                    let mut reader = BufReader::with_capacity(64 * 1024, reader);
                    while let Some(line) = line(&mut reader).await.transpose() {
                        let failed = line.is_err();
                        if lines.send(line).await.is_err() || failed {
                            return;
                        }
                    }
                }
            }
        });
        received
    }
}

/// The next line that is not blank, without its end; `None` at the end of the input.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Bytes>> {
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
            if !line.trim_ascii().is_empty() {
                return Ok(Some(Bytes::from(line)));
            }
            if last {
                return Ok(None);
            }
            line.clear();
        }
    }
}
