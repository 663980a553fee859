//! Dead letters of the embedded queue: in memory, or as lines of a file that only its owner can read.
//!
//! The rule it keeps: a letter is removed from the file only after its replacement was published.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{SpoolBroker, SpoolError, down};
use crate::broker::{Broker, DeadLetter, Destination, HeaderValue, Properties, Publication, PublishError, Verdict};

/// A dead letter as a line of JSON; the body in base64, because a sealed one is not text.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    headers: BTreeMap<String, WrittenValue>,
    body: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenValue {
    Bool(bool),
    Int(i64),
    Text(String),
}

impl From<&DeadLetter> for Written {
    fn from(letter: &DeadLetter) -> Self {
        let from = &letter.properties;
        let value = |value: &HeaderValue| match value {
            HeaderValue::Text(text) => WrittenValue::Text(text.clone()),
            HeaderValue::Int(number) => WrittenValue::Int(*number),
            HeaderValue::Bool(flag) => WrittenValue::Bool(*flag),
        };
        Self {
            content_type: from.content_type.clone(),
            message_id: from.message_id.clone(),
            correlation_id: from.correlation_id.clone(),
            kind: from.kind.clone(),
            app_id: from.app_id.clone(),
            timestamp: from.timestamp,
            headers: from.headers.iter().map(|(name, it)| (name.clone(), value(it))).collect(),
            body: BASE64.encode(&letter.body),
        }
    }
}

impl Written {
    fn letter(self) -> Option<DeadLetter> {
        let value = |value| match value {
            WrittenValue::Text(text) => HeaderValue::Text(text),
            WrittenValue::Int(number) => HeaderValue::Int(number),
            WrittenValue::Bool(flag) => HeaderValue::Bool(flag),
        };
        Some(DeadLetter {
            body: Bytes::from(BASE64.decode(self.body).ok()?),
            properties: Properties {
                content_type: self.content_type,
                message_id: self.message_id,
                correlation_id: self.correlation_id,
                kind: self.kind,
                app_id: self.app_id,
                timestamp: self.timestamp,
                headers: self.headers.into_iter().map(|(name, it)| (name, value(it))).collect(),
                ..Properties::default()
            },
        })
    }
}

/// The dead letters.
pub(super) struct Letters {
    kept: Mutex<Kept>,
    count: AtomicUsize,
}

enum Kept {
    Memory(Vec<DeadLetter>),
    File(PathBuf),
}

impl Letters {
    /// Counts the letters in the file; a line that a crash left incomplete is cut off.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, SpoolError> {
        let (kept, count) = match file {
            Some(path) => {
                let held = read(path).map_err(|source| SpoolError::Io { path: path.to_owned(), source })?;
                (Kept::File(path.to_owned()), held.len())
            }
            None => (Kept::Memory(Vec::new()), 0),
        };
        Ok(Self { kept: Mutex::new(kept), count: AtomicUsize::new(count) })
    }

    /// The number of letters.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds one; it is on the disk when this returns.
    pub(super) async fn add(&self, publication: Publication) -> Result<(), PublishError> {
        let letter = DeadLetter { properties: publication.properties, body: publication.body };
        match &mut *self.kept.lock().await {
            Kept::Memory(letters) => letters.push(letter),
            Kept::File(path) => {
                let (path, line) = (path.clone(), lines(&[letter])?);
                blocking(move || append(&path, &line)).await?;
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// See [`Broker::dead_letters`].
    pub(super) async fn look(
        &self,
        broker: &SpoolBroker,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        let mut kept = self.kept.lock().await;
        let mut letters = match &*kept {
            Kept::Memory(letters) => letters.clone(),
            Kept::File(path) => read(path).map_err(unreadable)?,
        };
        let (mut looked, mut removed) = (0, Vec::new());
        let mut outcome = Ok(());
        while looked < limit.min(letters.len()) && outcome.is_ok() {
            let gone = match decide(&letters[looked]) {
                Verdict::Keep => false,
                Verdict::Remove => true,
                Verdict::Replace(publication) => {
                    outcome = match publication.to {
                        // It would wait for the end of this walk.
                        Destination::DeadLetter => {
                            Err(PublishError::Unrouted("a dead letter cannot replace a dead letter".to_owned()))
                        }
                        _ => broker.publish(*publication).await,
                    };
                    outcome.is_ok()
                }
            };
            if gone {
                removed.push(looked);
            }
            looked += 1;
        }
        for index in removed.iter().rev() {
            letters.remove(*index);
        }
        if !removed.is_empty() {
            self.count.store(letters.len(), Ordering::Relaxed);
            match &mut *kept {
                Kept::Memory(held) => *held = letters,
                Kept::File(path) => {
                    let (path, text) = (path.clone(), lines(&letters)?);
                    blocking(move || rewrite(&path, &text)).await?;
                }
            }
        }
        outcome.map(|()| looked)
    }
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), PublishError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(down)?;
    done.map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> PublishError {
    down(format!("the file of dead letters: {error}"))
}

/// Adds a line whole, or leaves the file unchanged.
fn append(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut file = options().append(true).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.sync_all());
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}

fn options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.create(true).mode(0o600);
    options
}

fn lines(letters: &[DeadLetter]) -> Result<Vec<u8>, PublishError> {
    let mut text = Vec::new();
    for letter in letters {
        serde_json::to_writer(&mut text, &Written::from(letter)).map_err(down)?;
        text.push(b'\n');
    }
    Ok(text)
}

fn read(path: &Path) -> std::io::Result<Vec<DeadLetter>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut letters = Vec::new();
    for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let written = serde_json::from_slice::<Written>(line).ok().and_then(Written::letter);
        letters.push(written.ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, "a line of it is not a dead letter")
        })?);
    }
    if whole < text.len() {
        let file = File::options().write(true).open(path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    Ok(letters)
}

fn rewrite(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = options().write(true).truncate(true).open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
