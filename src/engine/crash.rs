//! Named points at which a test can end the process, as a power cut would.
//!
//! The rule it keeps: they exist in debug builds only; a release has none of it.
//!
//! `ERASURE_CRASH_AT` lists places, parted by commas: `POINT`, `POINT@MESSAGE` (the message id) or
//! either with `#N` (only the Nth time that this process comes by). Where `ERASURE_CRASH_LOG` names
//! a file, a place at which the process ends is written there first, and one that stands there
//! already is passed. `ERASURE_CRASH_TRACE` names a file that every place passed is written to.

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
    use std::fs::{File, OpenOptions};
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
        if plan.is_last(name, &message) {
            std::process::abort();
        }
    }

    struct Plan {
        places: Vec<Place>,
        log: Option<PathBuf>,
        trace: Option<Mutex<File>>,
        seen: Mutex<HashMap<(&'static str, String), u32>>,
    }

    struct Place {
        text: String,
        point: String,
        message: Option<String>,
        nth: Option<u32>,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let read = || {
            let places = std::env::var("ERASURE_CRASH_AT").unwrap_or_default();
            let trace = std::env::var_os("ERASURE_CRASH_TRACE");
            if places.is_empty() && trace.is_none() {
                return None;
            }
            let log = std::env::var_os("ERASURE_CRASH_LOG").map(PathBuf::from);
            let gone = log.as_deref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            let is_open = |text: &&str| !text.is_empty() && !gone.lines().any(|line| line == *text);
            Some(Plan {
                places: places.split(',').filter(is_open).map(Place::read).collect(),
                trace: trace.and_then(|path| append(Path::new(&path)).map(Mutex::new)),
                log,
                seen: Mutex::default(),
            })
        };
        PLAN.get_or_init(read).as_ref()
    }

    fn append(path: &Path) -> Option<File> {
        OpenOptions::new().create(true).append(true).open(path).ok()
    }

    impl Place {
        fn read(text: &str) -> Place {
            let (rest, nth) = text.split_once('#').map_or((text, None), |(rest, nth)| (rest, nth.parse().ok()));
            let (point, message) = rest.split_once('@').map_or((rest, None), |(point, id)| (point, Some(id)));
            Place { text: text.to_owned(), point: point.to_owned(), message: message.map(str::to_owned), nth }
        }
    }

    impl Plan {
        fn is_last(&self, name: &'static str, message: &str) -> bool {
            if let Some(trace) = &self.trace {
                // One write a line: lines of several tasks do not mix.
                let _ = trace
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .write_all(format!("{name}@{message}\n").as_bytes());
            }
            let times = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let times = seen.entry((name, message.to_owned())).or_default();
                *times += 1;
                *times
            };
            let hit = self.places.iter().find(|place| {
                place.point == name
                    && place.message.as_deref().is_none_or(|wanted| wanted == message)
                    && place.nth.is_none_or(|nth| nth == times)
            });
            let Some(place) = hit else { return false };
            if let Some(mut log) = self.log.as_deref().and_then(append) {
                let _ = log.write_all(format!("{}\n", place.text).as_bytes());
            }
            true
        }
    }
}
