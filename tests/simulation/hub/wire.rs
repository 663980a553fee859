//! One worker's link to the broker: it can be cut, lose its active place to another consumer, and ends with its worker.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use erasure_worker::broker::{
    Broker, Control, DeadLetter, Delivery, Destination, Link, Lost, Place, Properties, Publication, PublishError,
    Settle, Verdict, Via,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Hub, Message, is_aside, place};

/// After a reconnect the control stream is read this much later than the jobs, at most.
const LAG_MS: u64 = 4_000;

pub(super) struct Line {
    epoch: u64,
    lost: CancellationToken,
    up: bool,
    takes: bool,
    /// The control stream has its own connection, which may reconnect later than the jobs' connection.
    reads_from: Instant,
}

impl Line {
    pub(super) fn up(epoch: u64) -> Line {
        Line { epoch, lost: CancellationToken::new(), up: true, takes: true, reads_from: Instant::now() }
    }
}

/// One worker's link to the broker. After the worker's death every use of the link waits for ever.
pub struct Wire {
    pub(super) hub: Hub,
    /// The number of this life among all lives of workers.
    pub life: u64,
    pub(super) prefetch: usize,
    pub(super) line: Mutex<Line>,
    pub(super) link: watch::Sender<Link>,
    pub(super) dead: CancellationToken,
    pub(super) stopped: CancellationToken,
}

impl Wire {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    /// The connection breaks, and is there again after `pause`.
    pub async fn cut(&self, pause: Duration) {
        let old = {
            let mut line = self.line();
            if !line.up {
                return;
            }
            line.up = false;
            line.lost.cancel();
            line.epoch
        };
        self.link.send_replace(Link::Down("cut".to_owned()));
        self.hub.requeue_unsettled(old);
        tokio::time::sleep(pause).await;
        if self.dead.is_cancelled() {
            return;
        }
        let lag = self.hub.millis(LAG_MS);
        {
            let mut state = self.hub.state();
            state.epochs += 1;
            let mut line = self.line();
            let takes = line.takes;
            *line = Line { takes, reads_from: Instant::now() + lag, ..Line::up(state.epochs) };
        }
        self.link.send_replace(Link::Up);
        self.hub.changed.notify_waiters();
    }

    /// True if the broker delivers to this link.
    pub fn is_active(&self) -> bool {
        let epoch = self.line().epoch;
        self.hub.state().active == epoch
    }

    /// The broker makes another consumer the active one; the connection stays.
    pub fn pass_on(&self) {
        // The next link that consumes becomes active; it may be this one.
        self.hub.free_active_place(self.line().epoch);
    }

    /// The worker is dead.
    pub fn die(&self) {
        self.dead.cancel();
        let epoch = self.line().epoch;
        self.line().up = false;
        self.hub.requeue_unsettled(epoch);
    }

    fn is_up(&self) -> bool {
        self.line().up && !self.dead.is_cancelled()
    }

    async fn alive(&self) {
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    fn delivered(self: &Wire) -> Option<Delivery> {
        let line = self.line();
        let mut state = self.hub.state();
        if !line.up || !line.takes || self.dead.is_cancelled() {
            return None;
        }
        if state.active == 0 {
            state.active = line.epoch;
        }
        let in_hand = state.unacked.values().filter(|(owner, _)| *owner == line.epoch).count();
        if state.active != line.epoch || in_hand >= self.prefetch {
            return None;
        }
        let message = state.jobs.pop_front()?;
        if let Some((job, number)) = place(&message.properties, message.via) {
            let parks = state.parks_of(self.life, job);
            parks.given += u64::from(number >= parks.confirmed);
        }
        state.tags += 1;
        let tag = state.tags;
        state.unacked.insert(tag, (line.epoch, message.clone()));
        Some(Delivery {
            message: erasure_worker::broker::Message {
                body: message.body,
                properties: message.properties,
                via: message.via,
                redelivered: message.redelivered,
                lost: line.lost.clone(),
                epoch: line.epoch,
            },
            settle: Box::new(Right { hub: self.hub.clone(), dead: self.dead.clone(), tag, epoch: line.epoch }),
        })
    }
}

struct Right {
    hub: Hub,
    dead: CancellationToken,
    tag: u64,
    epoch: u64,
}

impl Right {
    async fn settle(&self, requeue: bool) -> Result<(), Lost> {
        let pause = self.hub.millis(2);
        tokio::time::sleep(pause).await;
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let mut state = self.hub.state();
        match state.unacked.get(&self.tag) {
            Some((epoch, _)) if *epoch == self.epoch => {}
            _ => return Err(Lost),
        }
        state.settled += 1;
        if let Some((_, message)) = state.unacked.remove(&self.tag)
            && requeue
        {
            state.jobs.push_front(Message { redelivered: true, ..message });
        }
        drop(state);
        self.hub.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Settle for Right {
    async fn ack(self: Box<Self>) -> Result<(), Lost> {
        self.settle(false).await
    }

    async fn requeue(self: Box<Self>) -> Result<(), Lost> {
        self.settle(true).await
    }
}

#[async_trait]
impl Broker for Wire {
    async fn next(&self) -> Option<Delivery> {
        loop {
            let changed = self.hub.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.alive().await;
            if self.stopped.is_cancelled() {
                return None;
            }
            if let Some(delivery) = self.delivered() {
                return Some(delivery);
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return None,
                () = changed => {}
            }
        }
    }

    async fn next_control(&self, after: Option<Place>) -> Option<Control> {
        let offset = after.map_or(0, |place| place.offset() + 1);
        loop {
            let changed = self.hub.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.alive().await;
            let reads_from = self.line().reads_from;
            let is_read = self.is_up() && reads_from <= Instant::now();
            let next = self.hub.state().control.get(usize::try_from(offset).unwrap()).cloned();
            if let Some((_, body)) = next.filter(|_| is_read) {
                return Some(Control { offset, properties: Properties::default(), body });
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return None,
                () = tokio::time::sleep_until(reads_from), if !is_read && self.is_up() => {}
                () = changed => {}
            }
        }
    }

    async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let (before, after) = (self.hub.millis(2), self.hub.millis(2));
        tokio::time::sleep(before).await;
        self.alive().await;
        if !self.is_up() {
            return Err(PublishError::Down("cut".to_owned()));
        }
        let troubled = self.hub.state().troubled;
        if troubled && self.hub.chance(0.05) {
            return Err(PublishError::Refused);
        }
        let copy = publication.clone();
        let parked = match publication.to {
            // A copy that was set aside does not count: it only waits for a newer one.
            Destination::Wait(_) if !is_aside(&publication.properties) => place(&publication.properties, Via::Resume),
            _ => None,
        };
        if let Some((job, number)) = parked.clone() {
            self.hub.state().parks_of(self.life, job).taken.insert(number);
        }
        self.hub.accept(publication);
        if troubled && self.hub.chance(0.02) {
            // The message arrives twice, as after a lost confirm and a second publish.
            self.hub.accept(copy);
        }
        tokio::time::sleep(after).await;
        self.alive().await;
        let confirm_is_lost = troubled && self.hub.chance(0.05);
        if confirm_is_lost || !self.is_up() {
            return Err(PublishError::TimedOut(Duration::from_secs(5)));
        }
        if let Some((job, number)) = parked {
            let mut state = self.hub.state();
            let parks = state.parks_of(self.life, job);
            parks.confirmed = parks.confirmed.max(number);
        }
        Ok(())
    }

    async fn pause_intake(&self) {
        self.line().takes = false;
        // After the consumer is cancelled another link may become active.
        self.hub.free_active_place(self.line().epoch);
    }

    async fn resume_intake(&self) {
        self.line().takes = true;
        self.hub.changed.notify_waiters();
    }

    async fn stop_intake(&self) {
        self.stopped.cancel();
    }

    async fn dead_letters(
        &self,
        _limit: usize,
        _decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
    ) -> Result<usize, PublishError> {
        Ok(0)
    }

    async fn depth(&self, _queue: &str) -> Option<u64> {
        None
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}
