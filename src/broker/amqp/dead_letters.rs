//! Walks over the dead letters: the queue is taken without acks, each letter is decided on, and the kept ones are
//! requeued together.
//!
//! The rule it keeps: a dead letter is removed only after its replacement was confirmed.

use std::time::Duration;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::dial::Wire;
use super::error::text;
use super::link::CLOSE_TIMEOUT;
use super::message::{from_amqp, header, short};
use super::{AmqpError, Shared, publisher, within};
use crate::broker::{DeadLetter, PublishError, Verdict};

/// Most letters in one walk, so that it has an end. In a longer queue the letters that were read move behind the
/// rest.
const SWEEP_MAX: usize = 10_000;

/// The broker's header on a message that it dead-letters itself.
const WHY: &str = "x-first-death-reason";

/// The request's name in errors.
const COUNT: &str = "count the dead letters";

/// The checks whether the kept letters are back in the queue, and the pause between them.
const RETURN_LOOKS: usize = 100;
const RETURN_PAUSE: Duration = Duration::from_millis(10);

/// See [`crate::broker::Broker::dead_letters`].
pub(super) async fn look(
    shared: &Shared,
    connection: &Wire,
    limit: usize,
    decide: &mut (dyn for<'a> FnMut(&'a DeadLetter) -> Verdict + Send),
) -> Result<usize, PublishError> {
    let down = |error: AmqpError| PublishError::Down(error.to_string());
    let queue = short(&shared.topology.name("dead-letters"));
    let channel = within("open a channel", connection.create_channel()).await.map_err(down)?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let state =
        within(COUNT, channel.queue_declare(queue.clone(), passive, FieldTable::default())).await.map_err(down)?;
    // Later arrivals, also of a replay that failed again, are for the next walk.
    let count = SWEEP_MAX.min(state.message_count() as usize);

    let frame_max = connection.configuration().frame_max();
    let publishing = within("open a channel", publisher::open(connection)).await.map_err(down)?;
    let mut last_kept = None;
    let (mut looked, mut kept) = (0, 0);
    let mut outcome = Ok(());
    // Letters beyond `limit` are taken only to be requeued with the others: the broker puts requeued letters behind
    // the remaining ones, so a partial walk would change the order.
    for _ in 0..if limit == 0 { 0 } else { count } {
        let got = within("give a dead letter", channel.basic_get(queue.clone(), BasicGetOptions::default())).await;
        let got = got.map_err(down)?;
        let Some(mut message) = got else { break };
        let mut removed = false;
        if looked < limit && outcome.is_ok() {
            looked += 1;
            let mended = connection.marks.take(channel.id(), message.delivery_tag);
            let mut properties = from_amqp(&message.properties, mended);
            // On a job this header means nothing; on a dead letter it is the broker's reason.
            let why = message.properties.headers().as_ref().and_then(|headers| headers.inner().get(WHY));
            properties.headers.extend(why.and_then(header).map(|why| (WHY.to_owned(), why)));
            let letter = DeadLetter { properties, body: Bytes::from(std::mem::take(&mut message.data)) };
            removed = match decide(&letter) {
                Verdict::Keep => false,
                Verdict::Remove => true,
                Verdict::Replace(publication) => {
                    let (exchange, key) = shared.topology.address(&publication.to);
                    let publish = publisher::publish_on(&publishing, &exchange, &key, &publication, frame_max);
                    let timeout = shared.config.publish_timeout;
                    outcome =
                        tokio::time::timeout(timeout, publish).await.unwrap_or(Err(PublishError::TimedOut(timeout)));
                    outcome.is_ok()
                }
            };
        }
        if !removed {
            kept += 1;
            last_kept = Some(message.delivery.acker);
        } else if !within("remove a dead letter", message.ack(BasicAckOptions::default())).await.map_err(down)? {
            return Err(PublishError::Down("the channel closed during the look".to_owned()));
        }
    }
    if let Some(last) = last_kept {
        // One frame for all of them, so that they are requeued together and in order.
        let all = BasicNackOptions { multiple: true, requeue: true };
        within("take dead letters back", last.nack(all)).await.map_err(down)?;
        // The broker does not answer a nack, and applies it a little later; an earlier walk would find too few
        // letters.
        for _ in 0..RETURN_LOOKS {
            let state = within(COUNT, channel.queue_declare(queue.clone(), passive, FieldTable::default()))
                .await
                .map_err(down)?;
            if state.message_count() as usize >= kept {
                break;
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
    }
    // Everything is settled; a channel whose close gets no answer ends with its connection.
    if let Ok(closed) = tokio::time::timeout(CLOSE_TIMEOUT, channel.close(200, short("done"))).await {
        closed.map_err(|error| PublishError::Down(text(&error)))?;
    }
    outcome.map(|()| looked)
}
