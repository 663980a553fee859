//! Log lines to stderr, by a thread of their own: a reader who does not read stops the lines, and nothing else.
//!
//! The rule it keeps: no task waits for stderr. Lines without room are lost and counted, and the count is logged
//! after somebody reads again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Most lines that wait for a reader.
const WAITING: usize = 8192;
/// The time limit of the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The pause between checks for lost lines.
const LOOK: Duration = Duration::from_secs(1);

/// The lines of this process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// The state of the lines.
struct Lines {
    lost: ErrorCounter,
    /// The number of written lines.
    written: Arc<AtomicU64>,
    /// The number of lost lines that the log has reported.
    reported: AtomicU64,
}

/// Counts the written lines.
struct Counting<W> {
    to: W,
    written: Arc<AtomicU64>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Lines {
    /// A writer that never waits, and the state of its lines. They are written as long as the guard lives.
    fn begin<W: Write + Send + 'static>(to: W, waiting: usize) -> (NonBlocking, WorkerGuard, Lines) {
        let written = Arc::<AtomicU64>::default();
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(waiting)
            .thread_name("log")
            .finish(Counting { to, written: Arc::clone(&written) });
        let lost = writer.error_counter();
        (writer, guard, Lines { lost, written, reported: AtomicU64::new(0) })
    }

    fn lost(&self) -> u64 {
        self.lost.dropped_lines() as u64
    }

    fn unreported(&self) -> u64 {
        self.lost().saturating_sub(self.reported.load(Ordering::Relaxed))
    }

    /// Reports the number of lost lines, if somebody has read since `written` lines; returns the present number of
    /// written ones.
    fn report(&self, written: u64) -> u64 {
        let (lost, now) = (self.lost(), self.written.load(Ordering::Relaxed));
        let unreported = self.unreported();
        if unreported > 0 && now > written {
            self.reported.store(lost, Ordering::Relaxed);
            tracing::warn!(lines = unreported, "log lines were lost: stderr was not read fast enough");
        }
        now
    }
}

/// The writer of this process's log lines, once.
pub(super) fn to_stderr() -> (NonBlocking, WorkerGuard) {
    let (writer, guard, lines) = Lines::begin(io::stderr(), WAITING);
    // If there is one already, logging is already set up, which is reported elsewhere.
    let _ = LINES.set(lines);
    (writer, guard)
}

/// The number of log lines lost since the start.
pub fn lost() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// The number of lost lines that the log has not reported yet, because nobody reads it.
pub fn unreported() -> u64 {
    LINES.get().map_or(0, Lines::unreported)
}

/// Reports lost lines repeatedly. Never returns.
pub async fn report_losses() {
    let mut written = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(lines) = LINES.get() {
            written = lines.report(written);
        }
    }
}

/// Runs work that may wait for a reader, for a second at most.
pub(super) fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let _ = ended.recv_timeout(LAST_WORDS);
}

/// Writes a line to stderr besides the log, and waits for its reader for a second at most.
pub fn last_words(text: &str) {
    let _ = LastWords.write_all(format!("{text}\n").as_bytes());
}

/// Stderr for the last lines of a command: each write waits for its reader for a second at most.
#[derive(Debug, Clone, Copy)]
pub struct LastWords;

impl Write for LastWords {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let words = bytes.to_vec();
        in_time(move || {
            let _ = io::stderr().write_all(&words);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Accepts nothing while it is shut.
    #[derive(Clone, Default)]
    struct Door {
        shut: Arc<Mutex<()>>,
        came: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Door {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.shut.lock().unwrap();
            self.came.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_does_not_read_costs_lines_and_their_number_is_told_once_it_reads() {
        let door = Door::default();
        let (mut writer, guard, lines) = Lines::begin(door.clone(), 4);
        let shut = door.shut.lock().unwrap();
        for line in 0..100 {
            // The thread has one line, four wait.
            writer.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let lost = lines.lost();
        assert!((95..100).contains(&lost), "{lost}");
        assert_eq!((lines.report(0), lines.unreported()), (0, lost), "nobody has read");
        drop(shut);
        // Its drop waits until everything is written.
        drop(guard);
        let came = door.came.lock().unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(came + lost, 100);
        assert_eq!((lines.report(0), lines.unreported()), (came, 0));
    }
}
