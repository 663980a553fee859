//! Named points at which a test can end the process, as a power cut would.
//!
//! The rule it keeps: they exist in debug builds only; a release has none of it.
//!
//! `ERASURE_CRASH_AT` lists places, parted by commas: `POINT`, `POINT@MESSAGE` (the message id) or
//! either with `#N` (only the Nth time that somebody comes by), and `panic:` before it where the
//! process is to end by a panic. Where `ERASURE_CRASH_LOG` names a
//! file, a place at which the process ends is written there first, and one that stands there
//! already is passed; times are then counted over all processes that share the file.
//! `ERASURE_CRASH_TRACE` names a file that every point passed is written to.

#[cfg(debug_assertions)]
pub(crate) use armed::{of, point};

/// Nothing: a release has no such points.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) const fn point(_name: &'static str) {}

/// The future alone: a release has no such points.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn of<F: Future>(_message_id: Option<&str>, work: F) -> F {
    work
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::HashMap;
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};

    tokio::task_local! {
        static MESSAGE: String;
    }

    /// Points reached by `work` are those of this message.
    pub(crate) fn of<F: Future>(message_id: Option<&str>, work: F) -> impl Future<Output = F::Output> {
        MESSAGE.scope(message_id.unwrap_or_default().to_owned(), work)
    }

    /// Ends the process where it was asked for at this point.
    pub(crate) fn point(name: &'static str) {
        let Some(plan) = plan() else { return };
        let message = MESSAGE.try_with(String::clone).unwrap_or_default();
        match plan.last(name, &message) {
            None => {}
            Some(End::Abort) => std::process::abort(),
            #[allow(clippy::panic, reason = "asked for by a test; a release has none of this")]
            Some(End::Panic) => std::panic::panic_any(format!("asked to end at {name}@{message}")),
        }
    }

    struct Plan {
        places: Vec<Place>,
        log: Option<PathBuf>,
        trace: Option<PathBuf>,
        seen: Mutex<HashMap<String, u32>>,
    }

    #[derive(Clone, Copy)]
    enum End {
        Abort,
        Panic,
    }

    struct Place {
        end: End,
        text: String,
        point: String,
        message: Option<String>,
        nth: Option<u32>,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let read = || {
            let places = std::env::var("ERASURE_CRASH_AT").unwrap_or_default();
            let file = |name| std::env::var_os(name).map(PathBuf::from);
            let (log, trace) = (file("ERASURE_CRASH_LOG"), file("ERASURE_CRASH_TRACE"));
            if places.is_empty() && trace.is_none() {
                return None;
            }
            let before = log.as_deref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            let is_open = |text: &&str| !text.is_empty() && !before.lines().any(|line| line == *text);
            let places = places.split(',').filter(is_open).map(Place::read).collect();
            let mut seen = HashMap::new();
            for passed in before.lines().filter_map(|line| line.strip_prefix(PASSED)) {
                *seen.entry(passed.to_owned()).or_default() += 1;
            }
            Some(Plan { places, log, trace, seen: Mutex::new(seen) })
        };
        PLAN.get_or_init(read).as_ref()
    }

    /// Before a point in the log that was passed, and will be passed again.
    const PASSED: &str = "passed ";

    impl Place {
        fn read(text: &str) -> Place {
            let (end, rest) = text.strip_prefix("panic:").map_or((End::Abort, text), |rest| (End::Panic, rest));
            let (rest, nth) = rest.split_once('#').map_or((rest, None), |(rest, nth)| (rest, nth.parse().ok()));
            let (point, message) = rest.split_once('@').map_or((rest, None), |(point, id)| (point, Some(id)));
            Place { end, text: text.to_owned(), point: point.to_owned(), message: message.map(str::to_owned), nth }
        }

        fn is_at(&self, name: &str, message: &str) -> bool {
            self.point == name && self.message.as_deref().is_none_or(|wanted| wanted == message)
        }
    }

    impl Plan {
        /// How the process ends here, if it does.
        fn last(&self, name: &'static str, message: &str) -> Option<End> {
            let here = format!("{name}@{message}");
            note(self.trace.as_deref(), &here);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let times = seen.entry(here.clone()).or_default();
            *times += 1;
            let mut places = self.places.iter().filter(|place| place.is_at(name, message)).peekable();
            places.peek()?;
            match places.find(|place| place.nth.is_none_or(|nth| nth == *times)) {
                Some(place) => {
                    note(self.log.as_deref(), &place.text);
                    Some(place.end)
                }
                None => {
                    note(self.log.as_deref(), &format!("{PASSED}{here}"));
                    None
                }
            }
        }
    }

    /// One write a line: lines of several tasks do not mix.
    fn note(file: Option<&Path>, line: &str) {
        let open = |path| OpenOptions::new().create(true).append(true).open(path).ok();
        if let Some(mut file) = file.and_then(open) {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
