//! The way of log lines to stderr: by a thread of its own, so that a reader who does not read stops the
//! lines and nothing else.
//!
//! The rule it keeps: nobody waits for stderr. Lines that find no room are lost, counted, and the count is
//! said once somebody reads again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// So many lines wait for a reader.
const WAITING: usize = 8192;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked whether lines were lost.
const LOOK: Duration = Duration::from_secs(1);

/// The lines of this process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// What is known of the lines.
struct Lines {
    lost: ErrorCounter,
    /// How many were written.
    written: Arc<AtomicU64>,
    /// How many of the lost ones the log tells of.
    told: AtomicU64,
}

/// Counts what is written.
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
    /// A writer that never waits, and what is known of its lines. They are written for as long as the guard lives.
    fn begin<W: Write + Send + 'static>(to: W, waiting: usize) -> (NonBlocking, WorkerGuard, Lines) {
        let written = Arc::<AtomicU64>::default();
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(waiting)
            .thread_name("log")
            .finish(Counting { to, written: Arc::clone(&written) });
        let lost = writer.error_counter();
        (writer, guard, Lines { lost, written, told: AtomicU64::new(0) })
    }

    fn lost(&self) -> u64 {
        self.lost.dropped_lines() as u64
    }

    fn untold(&self) -> u64 {
        self.lost().saturating_sub(self.told.load(Ordering::Relaxed))
    }

    /// Says how many were lost, where somebody has read since `written` were; how many are written now.
    fn tell(&self, written: u64) -> u64 {
        let (lost, now) = (self.lost(), self.written.load(Ordering::Relaxed));
        let untold = self.untold();
        if untold > 0 && now > written {
            self.told.store(lost, Ordering::Relaxed);
            tracing::warn!(lines = untold, "log lines were lost: nobody read stderr, or not fast enough");
        }
        now
    }
}

/// The writer of this process's log lines, once.
pub(super) fn to_stderr() -> (NonBlocking, WorkerGuard) {
    let (writer, guard, lines) = Lines::begin(io::stderr(), WAITING);
    // Where there is one already, logging is set up already, which is told.
    let _ = LINES.set(lines);
    (writer, guard)
}

/// How many log lines were lost since the start.
pub fn lost() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// How many were lost that the log does not tell of yet: nobody reads it.
pub fn untold() -> u64 {
    LINES.get().map_or(0, Lines::untold)
}

/// Says again and again how many lines were lost. Never returns.
pub async fn tell_losses() {
    let mut written = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(lines) = LINES.get() {
            written = lines.tell(written);
        }
    }
}

/// Does what may wait for a reader who does not read, and waits a second for it at most.
pub(super) fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let _ = ended.recv_timeout(LAST_WORDS);
}

/// Writes a line to stderr beside the log, and waits a second at most for who reads it.
pub fn last_words(text: &str) {
    let _ = LastWords.write_all(format!("{text}\n").as_bytes());
}

/// Stderr for what is said at the end of work: each write waits a second at most for who reads it.
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

    /// Takes nothing as long as it is shut.
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
            // One is in the thread's hand, four wait.
            writer.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let lost = lines.lost();
        assert!((95..100).contains(&lost), "{lost}");
        assert_eq!((lines.tell(0), lines.untold()), (0, lost), "nobody has read");
        drop(shut);
        // Its drop waits until all is written.
        drop(guard);
        let came = door.came.lock().unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(came + lost, 100);
        assert_eq!((lines.tell(0), lines.untold()), (came, 0));
    }
}
