//! Named points at which a test can end the process, like a power cut.
//!
//! The rule it keeps: they exist in debug builds only; a release has no such code.
//!
//! `ERASURE_CRASH_AT` lists places, separated by commas; `ERASURE_CRASH_LIST` names a file with one a line: `POINT`
//! or `POINT.DETAIL` (a step, or the kind of a publish), then `@MESSAGE` (the message id), then `#N` (only the Nth
//! time), the last two optional; and `panic:` before it if the process must end by a panic. If `ERASURE_CRASH_LOG`
//! names a file, the place of an end is first written there, and a place that is already in it is passed; times then
//! count over all processes with the same file. `ERASURE_CRASH_TRACE` names a file for every passed point. If
//! `ERASURE_CRASH_TOGETHER` is a number, a job that reaches its place waits there, and the process ends when that
//! many wait, or no task moves any more: each job ends at a place of its own, in one process.
//!
//! A place that can never be reached is refused at the start: a test that waits for it would prove nothing.

#[cfg(debug_assertions)]
pub use armed::check;
#[cfg(debug_assertions)]
pub(crate) use armed::{of, point};

/// A requested place that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum NoPlace {
    /// There is no such point.
    #[error("there is no crash point {0:?}")]
    Unknown(String),
    /// The count is no number.
    #[error("{0:?} has no valid number after the #")]
    Times(String),
    /// The list cannot be read.
    #[error("the list of points cannot be read: {0}")]
    Unread(std::io::Error),
}

/// Names each point once, so that a test can go through all of them.
macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A place in the work on a message. Between two of them there is one action that is durable, or visible
        /// outside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$name,)*];

            /// The name that a test uses.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Point::$name => $text,)*
                }
            }
        }
    };
}

points! {
    /// Delivered; its start is not noted.
    BeforeStart = "before_start",
    /// Its start is noted for the next process.
    AfterStart = "after_start",
    /// Unsealed if it was sealed, and not parsed.
    BeforeParse = "before_parse",
    /// Parsed.
    AfterParse = "after_parse",
    /// Its record is submitted to the store.
    AfterOpen = "after_open",
    /// Before an intent.
    BeforeIntent = "before_intent",
    /// The intent is durable.
    AfterIntent = "after_intent",
    /// The earlier answers are submitted to the store; the next call follows.
    AfterCheckpoint = "after_checkpoint",
    /// The call has its pass; it is not sent yet.
    BeforeCall = "before_call",
    /// The call has ended, with an answer or without.
    AfterCall = "after_call",
    /// The answer is in the journal, and not submitted to the store.
    AfterAnswer = "after_answer",
    /// The failure is in the journal, if it counts.
    AfterFailure = "after_failure",
    /// Every target ended; the outcome is not written.
    BeforeOutcome = "before_outcome",
    /// Outcome and event are durable.
    AfterOutcome = "after_outcome",
    /// The job will wait; its park number is not written.
    BeforePark = "before_park",
    /// The park number is durable.
    AfterParkNumber = "after_park_number",
    /// Before the publish of the copy.
    BeforeParkPublish = "before_park_publish",
    /// The copy is confirmed; the store does not know it.
    AfterParkPublish = "after_park_publish",
    /// The confirm is submitted to the store.
    AfterParkNoted = "after_park_noted",
    /// Before the publish of an event.
    BeforeEvent = "before_event",
    /// The event is confirmed.
    AfterEvent = "after_event",
    /// Before the publish of a dead letter.
    BeforeDeadLetter = "before_dead_letter",
    /// The dead letter is confirmed.
    AfterDeadLetter = "after_dead_letter",
    /// Published; the confirm is not seen.
    BeforeConfirm = "before_confirm",
    /// Every required publish is confirmed; not acked.
    BeforeAck = "before_ack",
    /// Acked.
    AfterAck = "after_ack",
}

/// Whether the process could end at every requested place: a release ends nowhere.
///
/// # Errors
/// Never.
#[cfg(not(debug_assertions))]
pub fn check() -> Result<(), NoPlace> {
    Ok(())
}

/// Nothing: a release has no such points.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn point(_point: Point, _detail: &str) -> std::future::Ready<()> {
    std::future::ready(())
}

/// The future alone: a release has no such points.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn of<F: Future>(_message_id: Option<&str>, work: F) -> F {
    work
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::{HashMap, HashSet};
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use super::{NoPlace, Point};

    tokio::task_local! {
        static MESSAGE: String;
    }

    /// Ties the points that `work` reaches to this message.
    pub(crate) fn of<F: Future>(message_id: Option<&str>, work: F) -> impl Future<Output = F::Output> {
        MESSAGE.scope(message_id.unwrap_or_default().to_owned(), work)
    }

    /// Ends the process if that was requested for this point.
    pub(crate) async fn point(point: Point, detail: &str) {
        let Some(plan) = plan() else { return };
        plan.moves.send_modify(|moves| moves.passed += 1);
        let message = MESSAGE.try_with(String::clone).unwrap_or_default();
        match plan.last(point, detail, &message) {
            None => {}
            Some(End::Abort) if plan.together > 1 => plan.wait_for_the_others().await,
            Some(End::Abort) => std::process::abort(),
            #[allow(clippy::panic, reason = "asked for by a test; a release has none of this")]
            Some(End::Panic) => std::panic::panic_any(format!("asked to end at {}@{message}", point.as_str())),
        }
    }

    /// Whether the process could end at every requested place.
    ///
    /// # Errors
    /// The first place that does not exist.
    pub fn check() -> Result<(), NoPlace> {
        asked().map_err(NoPlace::Unread)?.lines().filter(|text| !text.is_empty()).try_for_each(is_place)
    }

    fn is_place(text: &str) -> Result<(), NoPlace> {
        let (_, place) = Place::read(text);
        let name = place.point.split_once('.').map_or(place.point.as_str(), |(name, _)| name);
        if !Point::ALL.iter().any(|point| point.as_str() == name) {
            return Err(NoPlace::Unknown(place.point));
        }
        let is_counted = text.contains('#');
        if is_counted && place.nth.is_none() { Err(NoPlace::Times(place.text)) } else { Ok(()) }
    }

    /// Every requested place, one a line.
    fn asked() -> std::io::Result<String> {
        let mut asked = std::env::var("ERASURE_CRASH_AT").unwrap_or_default().replace(',', "\n");
        if let Some(list) = std::env::var_os("ERASURE_CRASH_LIST") {
            asked = format!("{asked}\n{}", std::fs::read_to_string(list)?);
        }
        Ok(asked)
    }

    struct Plan {
        /// By message; the places of all messages have the empty name.
        places: HashMap<String, Vec<Place>>,
        log: Option<PathBuf>,
        trace: Option<PathBuf>,
        /// The number of jobs that must end together.
        together: usize,
        moves: tokio::sync::watch::Sender<Moves>,
        seen: Mutex<HashMap<String, u32>>,
    }

    #[derive(Default)]
    struct Moves {
        /// The number of jobs that wait at their places.
        waiting: usize,
        /// The number of points passed by all tasks.
        passed: u64,
    }

    /// If no task passes a point for this long, the waiting jobs are enough.
    const NOBODY_MOVES: Duration = Duration::from_millis(300);

    #[derive(Clone, Copy)]
    enum End {
        Abort,
        Panic,
    }

    struct Place {
        end: End,
        text: String,
        point: String,
        nth: Option<u32>,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(Plan::read).as_ref()
    }

    /// The prefix in the log of a point that was passed and will be passed again.
    const PASSED: &str = "passed ";

    impl Place {
        /// The message of the place, and the place.
        fn read(text: &str) -> (String, Place) {
            let (end, rest) = text.strip_prefix("panic:").map_or((End::Abort, text), |rest| (End::Panic, rest));
            let (rest, nth) = rest.split_once('#').map_or((rest, None), |(rest, nth)| (rest, nth.parse().ok()));
            let (point, message) = rest.split_once('@').unwrap_or((rest, ""));
            (message.to_owned(), Place { end, text: text.to_owned(), point: point.to_owned(), nth })
        }

        fn is_at(&self, name: &str, full: &str, times: &HashMap<String, u32>, message: &str) -> bool {
            let is_here = self.point == full || self.point == name;
            let seen = times.get(&format!("{}@{message}", self.point)).copied().unwrap_or_default();
            is_here && self.nth.is_none_or(|nth| nth == seen)
        }
    }

    impl Plan {
        fn read() -> Option<Plan> {
            let file = |name| std::env::var_os(name).map(PathBuf::from);
            let (log, trace) = (file("ERASURE_CRASH_LOG"), file("ERASURE_CRASH_TRACE"));
            let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
            // An unreadable list was refused at the start.
            let asked = asked().unwrap_or_default();
            if asked.is_empty() && trace.is_none() {
                return None;
            }
            let before = log.as_deref().map(text).unwrap_or_default();
            let done: HashSet<&str> = before.lines().collect();
            let mut places: HashMap<String, Vec<Place>> = HashMap::new();
            for text in asked.lines().filter(|text| !text.is_empty() && !done.contains(text)) {
                let (message, place) = Place::read(text);
                places.entry(message).or_default().push(place);
            }
            let mut seen = HashMap::new();
            for passed in before.lines().filter_map(|line| line.strip_prefix(PASSED)) {
                *seen.entry(passed.to_owned()).or_default() += 1;
            }
            let together = std::env::var("ERASURE_CRASH_TOGETHER").ok().and_then(|most| most.parse().ok());
            let (together, moves) = (together.unwrap_or(1), tokio::sync::watch::Sender::default());
            Some(Plan { places, log, trace, together, moves, seen: Mutex::new(seen) })
        }

        /// The way in which the process ends here, if it does.
        fn last(&self, point: Point, detail: &str, message: &str) -> Option<End> {
            let name = point.as_str();
            let full = if detail.is_empty() { name.to_owned() } else { format!("{name}.{detail}") };
            note(self.trace.as_deref(), &format!("{full}@{message}"));
            let places: Vec<&Place> =
                [message, ""].iter().filter_map(|message| self.places.get(*message)).flatten().collect();
            let here = |place: &&&Place| place.point == full || place.point == name;
            let counted: HashSet<&str> = places.iter().filter(here).map(|place| place.point.as_str()).collect();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            for point in &counted {
                *seen.entry(format!("{point}@{message}")).or_default() += 1;
            }
            if let Some(place) = places.into_iter().find(|place| place.is_at(name, &full, &seen, message)) {
                note(self.log.as_deref(), &place.text);
                return Some(place.end);
            }
            for point in counted {
                note(self.log.as_deref(), &format!("{PASSED}{point}@{message}"));
            }
            None
        }

        /// Waits until the process ends: with the last expected job, or when no more arrive.
        async fn wait_for_the_others(&self) {
            let mut moves = self.moves.subscribe();
            self.moves.send_modify(|moves| moves.waiting += 1);
            while moves.borrow_and_update().waiting < self.together {
                if tokio::time::timeout(NOBODY_MOVES, moves.changed()).await.is_err() {
                    break;
                }
            }
            std::process::abort();
        }
    }

    /// One write a line: lines of several tasks do not mix.
    fn note(file: Option<&Path>, line: &str) {
        let open = |path| OpenOptions::new().create(true).append(true).open(path).ok();
        if let Some(mut file) = file.and_then(open) {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_point_may_be_asked_for_and_nothing_else() {
            for point in Point::ALL {
                for text in ["", ".delete_customer", "@some-message", ".job#2", "@some-message#12"] {
                    is_place(&format!("{}{text}", point.as_str())).unwrap();
                }
            }
            is_place("panic:after_open").unwrap();
            for text in
                ["befor_ack", "before_ac.job", "@some-message", "panic:", "panic:after", "after_ack#", "after_ack#x"]
            {
                is_place(text).unwrap_err();
            }
        }
    }
}
