//! The file of events: one a line, written and synced by one thread for all publishes.
//!
//! The rule it keeps: an event that was reported as written is on the disk, once. After a failed write or sync
//! nothing more is written.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{SpoolError, down};
use crate::broker::{Publication, PublishError};

/// Most lines in one write and one sync.
const TOGETHER: usize = 1024;

/// The part of an event that is read.
#[derive(Deserialize)]
struct Head<'a> {
    specversion: &'a str,
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

/// A file to which events are added.
pub struct EventFile {
    lines: mpsc::Sender<Line>,
}

struct Line {
    id: Uuid,
    text: Vec<u8>,
    done: oneshot::Sender<Result<(), String>>,
}

impl EventFile {
    /// Opens or creates the file. Its events' ids are read, and a last line that a crash left incomplete is cut off.
    /// A file with any other content is refused.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let io = |source| SpoolError::Io { path: path.to_owned(), source };
        let new = !path.exists();
        let mut file = File::options().read(true).append(true).create(true).truncate(false).open(path).map_err(io)?;
        let regular = file.metadata().map_err(io)?.is_file();
        let seen = if regular { existing(path, &mut file)? } else { HashSet::new() };
        if new && regular {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let (lines, queue) = mpsc::channel();
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write(&mut file, regular, seen, &queue))
            .map_err(io)?;
        Ok(Self { lines })
    }

    /// Adds an event, unless it is there already; returns when it is on the disk.
    pub(super) async fn append(&self, event: &Publication) -> Result<(), PublishError> {
        let (done, answer) = oneshot::channel();
        let line = Line { id: id(event), text: one_line(&event.body), done };
        self.lines.send(line).map_err(|_| down("the file of events is closed"))?;
        answer.await.map_err(|_| down("the file of events is closed"))?.map_err(PublishError::Down)
    }
}

/// The event's id as a UUID; for any other id a UUID made from the text.
fn id(event: &Publication) -> Uuid {
    let text = match &event.properties.message_id {
        Some(id) => id.clone(),
        None => serde_json::from_slice::<Head<'_>>(&event.body).map(|head| head.id.into_owned()).unwrap_or_default(),
    };
    as_uuid(&text)
}

fn as_uuid(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()))
}

/// A body as one line; in JSON a line end is only white space.
pub(super) fn one_line(body: &Bytes) -> Vec<u8> {
    let mut line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    line
}

/// True for the beginning of an event, however short.
fn begins_as_event(line: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"specversion\":";
    let head: Vec<u8> = line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(BEGINNING.len()).collect();
    BEGINNING.starts_with(&head)
}

/// The ids in the file. Afterwards the file ends with a whole line.
fn existing(path: &Path, file: &mut File) -> Result<HashSet<Uuid>, SpoolError> {
    let io = |source| SpoolError::Io { path: path.to_owned(), source };
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut seen = HashSet::new();
    let mut whole = 0;
    let mut line = Vec::new();
    let mut reader = BufReader::new(&mut *file);
    let mut torn = false;
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(io)? as u64;
        if read == 0 {
            break;
        }
        if line.last() != Some(&b'\n') {
            // Complete or not: its publish was never reported as done, and it is written again. Only the beginning of
            // an event is cut: this may be a file of jobs.
            torn = begins_as_event(&line);
            if !torn {
                return Err(SpoolError::NotEvents { path: path.to_owned(), line: number });
            }
            break;
        }
        whole += read;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Head<'_>>(&line) {
            Ok(head) if head.specversion == "1.0" => seen.insert(as_uuid(&head.id)),
            _ => return Err(SpoolError::NotEvents { path: path.to_owned(), line: number }),
        };
    }
    if torn {
        file.set_len(whole).map_err(io)?;
        file.sync_all().map_err(io)?;
    }
    Ok(seen)
}

/// The writing thread: collects lines, writes and syncs them together, then answers.
fn write(file: &mut File, sync: bool, mut seen: HashSet<Uuid>, queue: &mpsc::Receiver<Line>) {
    let mut failed: Option<String> = None;
    while let Ok(first) = queue.recv() {
        let batch: Vec<Line> = std::iter::once(first).chain(queue.try_iter().take(TOGETHER)).collect();
        if failed.is_none() {
            let text: Vec<u8> =
                batch.iter().filter(|line| seen.insert(line.id)).flat_map(|line| line.text.iter().copied()).collect();
            let written = file.write_all(&text).and_then(|()| if sync { file.sync_data() } else { file.flush() });
            // A failed sync may have lost bytes for good: a repeated one could report a false success.
            failed = written.err().map(|error| format!("the file of events: {error}"));
        }
        for line in batch {
            let _ = line.done.send(failed.clone().map_or(Ok(()), Err));
        }
    }
}
