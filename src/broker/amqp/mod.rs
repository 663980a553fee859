//! The broker over AMQP 0-9-1: RabbitMQ through lapin, which is used nowhere else.
//!
//! The rule it keeps: connection, channels and consumers are watched and reopened here. The client's own recovery
//! stays off: it redelivers messages while their first run still works, and it leaves a consumer silent after its
//! queue is deleted.

mod control;
mod dead_letters;
mod declare;
mod dial;
mod error;
mod filter;
mod intake;
mod link;
mod losses;
mod message;
mod names;
mod publisher;
mod reminder;
mod size;
mod standby;
mod supervisor;
mod tap;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use secrecy::SecretString;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::control::ControlLog;
use self::dial::Dial;
pub use self::error::{AmqpError, Unequal};
use self::losses::Losses;
use self::names::Names;
use self::publisher::Publisher;
use self::reminder::Reminder;
use super::inbox::Inbox;
use super::topology::{DEFAULT_PREFIX, Topology};
use super::{Ailment, Broker, Control, DeadLetter, Delivery, Link, Place, Publication, PublishError, Tallies, Verdict};
pub use tap::EventTap;

/// The broker's address, and the client's behaviour.
#[derive(Debug, Clone)]
pub struct AmqpConfig {
    /// `amqp[s]://USER:PASSWORD@HOST:PORT/VHOST`.
    pub url: SecretString,
    /// The file of the URL, if there is one: it is read again at each login, like the certificates.
    pub url_file: Option<PathBuf>,
    /// For `amqps`: the only trusted authority, PEM. Without it the system's roots.
    pub ca_file: Option<PathBuf>,
    /// For `amqps`: this worker's certificate chain, PEM.
    pub client_cert_file: Option<PathBuf>,
    /// For `amqps`: its key, PEM, not encrypted.
    pub client_key_file: Option<PathBuf>,
    /// The prefix of all names.
    pub prefix: String,
    /// True to declare the topology; otherwise it is only checked.
    pub declare_topology: bool,
    /// Most deliveries in hand; also most publishes at once.
    pub prefetch: u16,
    /// The time limit of a publish with its confirm.
    pub publish_timeout: Duration,
    /// The requested heartbeat; two missed ones end the connection. A whole number of seconds.
    pub heartbeat: Duration,
    /// The time limit of one attempt to connect, with TLS and login.
    pub connect_timeout: Duration,
    /// The pause between checks of the names.
    pub look_every: Duration,
    /// The name in the broker's list of connections.
    pub connection_name: String,
    /// True to take jobs. Otherwise this is a plain client that publishes and reads.
    pub consume: bool,
    /// True to read the control stream.
    pub want_control: bool,
    /// The first wait before a reconnect.
    pub backoff_min: Duration,
    /// The longest wait before a reconnect.
    pub backoff_max: Duration,
}

impl AmqpConfig {
    /// A consuming worker with the usual settings.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            url_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            declare_topology: true,
            prefetch: 64,
            publish_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            look_every: Duration::from_secs(30),
            connection_name: "erasure-worker".to_owned(),
            consume: true,
            want_control: true,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
        }
    }

    /// The same broker for a client that only publishes and reads.
    pub fn publish_only(self) -> Self {
        Self { consume: false, want_control: false, ..self }
    }
}

/// The broker's time to answer one call; a publish has a limit of its own.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The time for which a stop waits for the consumer's end. Later deliveries are requeued with the channel.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The broker's answer, within the time limit.
async fn within<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, AmqpError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answered) => Ok(answered?),
        Err(_) => {
            Err(AmqpError::Link(format!("the broker was asked to {what} and has not answered in {CALL_TIMEOUT:?}")))
        }
    }
}

/// The wanted state of intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Jobs,
    Pause,
    Stop,
}

/// The state that the supervisor and the callers share.
struct Shared {
    config: AmqpConfig,
    dial: Dial,
    topology: Topology,
    link: watch::Sender<Link>,
    wanted: watch::Sender<Wanted>,
    consuming: watch::Sender<bool>,
    jobs: Inbox<Delivery>,
    control: ControlLog,
    publisher: Publisher,
    epoch: AtomicU64,
    losses: Arc<Losses>,
    room: size::Room,
    names: Names,
    standby: standby::Standby,
    /// The log state of a missing link.
    absence: std::sync::Mutex<Reminder>,
    closing: CancellationToken,
}

impl Shared {
    fn up(&self) {
        let changed = self.link.send_if_modified(|link| {
            let changed = *link != Link::Up;
            *link = Link::Up;
            changed
        });
        let lasted = self.absence.lock().unwrap_or_else(PoisonError::into_inner).over(Instant::now());
        if changed {
            let seconds = lasted.map(|lasted| lasted.as_secs());
            tracing::info!(prefix = %self.config.prefix, seconds, "connected to the broker");
        }
    }

    fn down(&self, why: &str) {
        self.link.send_replace(Link::Down(why.to_owned()));
        let due = self.absence.lock().unwrap_or_else(PoisonError::into_inner).lasts(why, Instant::now());
        if let Some(lasts) = due {
            let seconds = lasts.as_secs();
            tracing::warn!(prefix = %self.config.prefix, why, seconds, "the link to the broker is down");
        }
    }
}

/// A [`Broker`] over AMQP.
pub struct AmqpBroker {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    looking: Mutex<()>,
    _close_on_drop: DropGuard,
}

impl AmqpBroker {
    /// Checks URL, certificates and key without connecting.
    pub fn check(config: &AmqpConfig) -> Result<(), AmqpError> {
        Dial::new(config).map(drop)
    }

    /// Checks the configuration and makes the first attempt to connect.
    ///
    /// A broker that cannot be reached is no error here: the attempts continue, and [`Broker::link`] shows the state.
    /// An error is a fault that only a person can repair ([`AmqpError::is_permanent`]): an invalid URL or file,
    /// another queue with one of our names, a missing permission, missing names. If such a fault appears later, the
    /// link stays down and is tried again at the longest interval.
    pub async fn connect(config: AmqpConfig) -> Result<Arc<Self>, AmqpError> {
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            dial: Dial::new(&config)?,
            topology: Topology::new(&config.prefix),
            link: watch::Sender::new(Link::Down("not connected yet".to_owned())),
            wanted: watch::Sender::new(Wanted::Jobs),
            consuming: watch::Sender::new(false),
            jobs: Inbox::new(),
            control: ControlLog::new(),
            publisher: Publisher::new(usize::from(config.prefetch), config.publish_timeout),
            epoch: AtomicU64::new(0),
            losses: Arc::default(),
            room: size::Room::default(),
            names: Names::default(),
            standby: standby::Standby::default(),
            absence: std::sync::Mutex::default(),
            closing: closing.clone(),
            config,
        });
        let tasks = TaskTracker::new();
        let (reports, first) = oneshot::channel();
        tasks.spawn(supervisor::supervise(Arc::clone(&shared), reports));
        tasks.close();
        let broker = Arc::new(Self { shared, tasks, looking: Mutex::new(()), _close_on_drop: closing.drop_guard() });
        match first.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(broker),
        }
    }

    /// Declares the topology over a connection of its own, whatever `declare_topology` says.
    pub async fn declare_topology(config: &AmqpConfig) -> Result<(), AmqpError> {
        let connection = Dial::new(config)?.connect(config, "").await?;
        declare::declare(&connection, &Topology::new(&config.prefix)).await?;
        // The declaration is complete, however the connection ends.
        link::close(&connection).await;
        Ok(())
    }

    /// Whether the broker accepts a message as large as a parked copy can be; `None` before the test.
    pub fn takes_every_copy(&self) -> Option<bool> {
        self.shared.room.is_enough()
    }

    async fn want(&self, wanted: Wanted) {
        let mut state = self.shared.wanted.subscribe();
        self.shared.wanted.send_if_modified(|now| {
            let changes = *now != wanted && *now != Wanted::Stop;
            if changes {
                *now = wanted;
            }
            changes
        });
        if wanted != Wanted::Jobs {
            // Until the consumer has ended, or jobs are wanted again.
            let mut consuming = self.shared.consuming.subscribe();
            let limit = if wanted == Wanted::Stop { STOP_TIMEOUT } else { CALL_TIMEOUT };
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                _ = consuming.wait_for(|consuming| !consuming) => {}
                _ = state.wait_for(|now| *now == Wanted::Jobs) => {}
                () = self.shared.closing.cancelled() => {}
            }
        }
    }

    /// The broker's state of one of our queues.
    async fn state_of(&self, queue: &str) -> Option<lapin::Queue> {
        let connection = self.shared.publisher.connection().ok()?;
        let asked = async {
            // A channel of its own: a missing queue closes the channel of the request.
            let channel = connection.create_channel().await.ok()?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let name = message::short(&self.shared.topology.name(queue));
            channel.queue_declare(name, passive, FieldTable::default()).await.ok()
        };
        tokio::time::timeout(self.shared.config.publish_timeout, asked).await.ok().flatten()
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn next(&self) -> Option<Delivery> {
        if !self.shared.config.consume {
            return None;
        }
        loop {
            let delivery = self.shared.jobs.pop().await?;
            if delivery.message.lost.is_cancelled() {
                continue;
            }
            if *self.shared.wanted.borrow() != Wanted::Jobs {
                // Delivered between the request to pause and the consumer's end.
                let _ = delivery.settle.requeue().await;
                continue;
            }
            return Some(delivery);
        }
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        if !self.shared.config.want_control {
            return None;
        }
        self.shared.control.next(after).await
    }

    fn has_control(&self) -> bool {
        self.shared.config.want_control
    }

    fn jobs_queue(&self) -> String {
        self.shared.topology.name("jobs")
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let done = self.shared.publisher.publish(&self.shared.topology, &publication).await;
        self.shared.names.published(&done);
        done
    }

    async fn pause_intake(&self) {
        self.want(Wanted::Pause).await;
    }

    async fn resume_intake(&self) {
        self.want(Wanted::Jobs).await;
    }

    async fn stop_intake(&self) {
        self.want(Wanted::Stop).await;
        self.shared.control.close();
        let back = async {
            for delivery in self.shared.jobs.close() {
                let _ = delivery.settle.requeue().await;
            }
        };
        let _ = tokio::time::timeout(STOP_TIMEOUT, back).await;
    }

    async fn dead_letters(
        &self,
        limit: usize,
        decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        // Two walks at once would hide letters from each other.
        let _alone = self.looking.lock().await;
        self.shared.publisher.connection()?;
        // A connection of its own: a letter that the broker cannot deliver ends it, but no job's connection.
        let wire = self.shared.dial.connect(&self.shared.config, " letters").await;
        let wire = wire.map_err(|error| PublishError::Down(error.to_string()))?;
        let looked = dead_letters::look(&self.shared, &wire, limit, decide).await;
        link::close(&wire).await;
        looked
    }

    async fn depth(&self, queue: &str) -> Option<u64> {
        Some(u64::from(self.state_of(queue).await?.message_count()))
    }

    fn ailments(&self) -> Vec<Ailment> {
        let control = self.shared.control.why_down();
        let control =
            control.map(|why| Ailment { what: "control_stream", detail: format!("cancellations are not read: {why}") });
        let losses = self.shared.losses.ailment(self.shared.losses.lived(), &self.shared.topology);
        let names = self.shared.names.ailment();
        control.into_iter().chain(losses).chain(names).chain(self.shared.room.ailment()).collect()
    }

    fn standby(&self) -> Option<String> {
        self.shared.standby.why()
    }

    fn tallies(&self) -> Tallies {
        Tallies {
            links_lost_idle: self.shared.losses.count(),
            control_skipped: self.shared.control.skipped(),
            names_restored: self.shared.names.restored(),
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    async fn close(&self) {
        self.shared.closing.cancel();
        self.tasks.wait().await;
    }
}
