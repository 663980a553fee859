//! The embedded queue of `batch` and `demo`: jobs from lines, waits in memory, events to a sink.
//!
//! The rule it keeps: the input is the durable part of the queue. Nothing is removed from it, so jobs in hand or
//! waiting at the process's end are read again by the next run.

pub(crate) mod gather;
mod hand;
mod input;
mod letters;
mod lines;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::hand::{InHand, Message, Shared};
use self::input::Entry;
pub use self::input::{LINE_MAX, Source};
use self::letters::Letters;
pub use self::lines::EventFile;
use super::inbox::Inbox;
use super::{
    Broker, Control, DeadLetter, Delivery, Destination, Link, Place, Properties, Publication, PublishError, Tier,
    Verdict, Via,
};

/// The header with the reason of a parked job's wait.
pub const WAIT_HEADER: &str = "x-erasure-wait";
/// Its value if only a person's input can help; such a job has no time here and is only counted.
pub const WAIT_FOR_INPUT: &str = "input";
/// Its value if an operator must release the job; that cannot happen while this queue is worked on.
pub const WAIT_FOR_OPERATOR: &str = "guard";

/// The reason why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file for events holds something else.
    #[error("{path}, line {line}: not an event; events are only added to a file of events", path = .path.display())]
    NotEvents {
        /// The file.
        path: PathBuf,
        /// The first line that is no event, from 1.
        line: usize,
    },
}

/// The destination of events. A publish returns `Ok` when they are there.
pub enum Events {
    /// A file, one event a line, synced; an event that is already there is not written again.
    File(EventFile),
    /// Standard output, one event a line.
    Stdout,
    /// A receiver in this process.
    Channel(mpsc::UnboundedSender<Publication>),
}

/// The spool's settings.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Most deliveries in hand.
    pub in_hand: usize,
    /// Most jobs in hand or waiting for a time; above it no more input is read.
    pub held_max: usize,
    /// The factor by which waits pass faster: 1 in production, more in a demonstration.
    pub speed: u32,
    /// The file for dead letters; without one they are kept in memory.
    pub dead_letters: Option<PathBuf>,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { in_hand: 64, held_max: 10_000, speed: 1, dead_letters: None }
    }
}

/// A [`Broker`] within the process.
pub struct SpoolBroker {
    shared: Arc<Shared>,
    input: tokio::sync::Mutex<mpsc::Receiver<std::io::Result<Entry>>>,
    events: Events,
    letters: Letters,
    control: Inbox<Control>,
    stdout: tokio::sync::Mutex<()>,
    /// The reason why stdout accepts no more events.
    shut: watch::Sender<Option<String>>,
    link: watch::Sender<Link>,
    config: SpoolConfig,
}

/// The next action of `next` when no delivery is ready.
enum Step {
    Deliver(Box<Message>),
    End,
    Wait { until: Option<Instant>, read: bool },
}

impl SpoolBroker {
    /// A spool over these jobs. It must be called within the runtime.
    pub fn open(source: Source, events: Events, config: SpoolConfig) -> Result<Arc<Self>, SpoolError> {
        Ok(Arc::new(Self {
            shared: Arc::default(),
            input: tokio::sync::Mutex::new(source.read()),
            events,
            letters: Letters::open(config.dead_letters.as_deref())?,
            control: Inbox::new(),
            stdout: tokio::sync::Mutex::new(()),
            shut: watch::Sender::new(None),
            link: watch::Sender::new(Link::Up),
            config,
        }))
    }

    /// The number of jobs that wait for a time.
    pub fn waiting(&self) -> usize {
        self.shared.state().waiting.len()
    }

    /// The number of parks for a person's input or release. The job stays in the input: a later run reads it again.
    pub fn waiting_for_input(&self) -> usize {
        self.shared.state().for_input
    }

    /// The number of deliveries dropped without a settlement; a later run reads them again.
    pub fn abandoned(&self) -> usize {
        self.shared.state().abandoned
    }

    /// The reason why the input could not be read to its end, if it could not.
    pub fn input_error(&self) -> Option<String> {
        self.shared.state().read_error.clone()
    }

    /// The reason why no more events can be written, once there is one: their reader is gone.
    pub fn shut(&self) -> watch::Receiver<Option<String>> {
        self.shut.subscribe()
    }

    fn step(&self) -> Step {
        let mut state = self.shared.state();
        if state.stopped {
            return Step::End;
        }
        let now = Instant::now();
        while let Some(due) = state.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, message) = due.remove();
            state.ready.push_back(message);
        }
        if state.read_out && state.ready.is_empty() && state.waiting.is_empty() && state.in_hand == 0 {
            return Step::End;
        }
        let free = !state.paused && state.in_hand < self.config.in_hand.max(1);
        if free && let Some(message) = state.ready.pop_front() {
            state.in_hand += 1;
            return Step::Deliver(Box::new(message));
        }
        Step::Wait {
            until: state.waiting.keys().next().map(|(due, _)| *due),
            read: free && !state.read_out && state.in_hand + state.waiting.len() < self.config.held_max.max(1),
        }
    }

    fn deliver(&self, message: Message) -> Delivery {
        Delivery {
            message: crate::broker::Message {
                body: message.body.clone(),
                properties: message.properties.clone(),
                via: message.via,
                redelivered: message.redelivered,
                lost: self.shared.closed.clone(),
                epoch: 1,
            },
            settle: Box::new(InHand::new(Arc::clone(&self.shared), message)),
        }
    }

    fn enqueue(&self, publication: Publication, via: Via) {
        let message = Message { body: publication.body, properties: publication.properties, via, redelivered: false };
        self.shared.change(|state| state.ready.push_back(message));
    }

    fn park(&self, publication: Publication, tier: Tier) {
        let waits_for = publication.properties.headers.get(WAIT_HEADER).and_then(|value| value.as_text());
        if matches!(waits_for, Some(WAIT_FOR_INPUT | WAIT_FOR_OPERATOR)) {
            self.shared.change(|state| state.for_input += 1);
            return;
        }
        let due = Instant::now() + tier.wait() / self.config.speed.max(1);
        let message = Message {
            body: publication.body,
            properties: publication.properties,
            via: Via::Resume,
            redelivered: false,
        };
        self.shared.change(|state| {
            state.sequence += 1;
            state.waiting.insert((due, state.sequence), (tier, message));
        });
    }

    async fn emit(&self, publication: Publication) -> Result<(), PublishError> {
        match &self.events {
            Events::File(file) => file.append(&publication).await,
            Events::Stdout => {
                let _alone = self.stdout.lock().await;
                let mut out = tokio::io::stdout();
                let line = lines::one_line(&publication.body);
                let written = async {
                    out.write_all(&line).await?;
                    out.flush().await
                };
                written.await.map_err(|error| {
                    if error.kind() == std::io::ErrorKind::BrokenPipe {
                        self.shut.send_replace(Some(error.to_string()));
                    }
                    down(error)
                })
            }
            Events::Channel(listener) => {
                listener.send(publication).map_err(|_| PublishError::Unrouted("nobody listens to events".to_owned()))
            }
        }
    }
}

fn down(error: impl std::fmt::Display) -> PublishError {
    PublishError::Down(error.to_string())
}

/// Sleeps until a moment; without one it never returns.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Broker for SpoolBroker {
    async fn next(&self) -> Option<Delivery> {
        let mut input = self.input.lock().await;
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let (until, read) = match self.step() {
                Step::Deliver(message) => return Some(self.deliver(*message)),
                Step::End => return None,
                Step::Wait { until, read } => (until, read),
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
                line = input.recv(), if read => {
                    let mut state = self.shared.state();
                    match line {
                        Some(Ok(Entry { line, body })) => state.ready.push_back(Message {
                            body,
                            properties: Properties { line, ..Properties::default() },
                            via: Via::Requests,
                            redelivered: false,
                        }),
                        Some(Err(error)) => state.read_error = Some(error.to_string()),
                        None => state.read_out = true,
                    }
                }
            }
        }
    }

    async fn next_control(&self, _after: Option<Place>) -> Option<Control> {
        self.control.pop().await
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        if self.shared.closed.is_cancelled() {
            return Err(PublishError::Down("closed".to_owned()));
        }
        match publication.to {
            Destination::Requests => self.enqueue(publication, Via::Requests),
            Destination::Resume => self.enqueue(publication, Via::Resume),
            Destination::Wait(tier) => self.park(publication, tier),
            Destination::Cancel | Destination::Control => {
                let mut state = self.shared.state();
                let Publication { properties, body, .. } = publication;
                self.control.push(Control { offset: state.controls, properties, body });
                state.controls += 1;
            }
            Destination::Event { .. } => return self.emit(publication).await,
            Destination::DeadLetter => return self.letters.add(publication).await,
        }
        Ok(())
    }

    async fn pause_intake(&self) {
        self.shared.change(|state| state.paused = true);
    }

    async fn resume_intake(&self) {
        self.shared.change(|state| state.paused = false);
    }

    async fn stop_intake(&self) {
        self.shared.change(|state| state.stopped = true);
        drop(self.control.close());
    }

    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        self.letters.look(self, limit, decide).await
    }

    async fn depth(&self, queue: &str) -> Option<u64> {
        let count = match queue {
            "jobs" => self.shared.state().ready.len(),
            "dead-letters" => self.letters.count(),
            other => {
                let tier = Tier::ALL.into_iter().find(|tier| other.strip_prefix("wait.") == Some(tier.label()))?;
                self.shared.state().waiting.values().filter(|(waits, _)| *waits == tier).count()
            }
        };
        u64::try_from(count).ok()
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {
        self.stop_intake().await;
        self.shared.closed.cancel();
        self.link.send_replace(Link::Down("closed".to_owned()));
    }
}
