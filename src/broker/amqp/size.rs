//! The test whether the broker accepts a message as large as a parked copy can be: the broker does not report its
//! limit.
//!
//! The rule it keeps: the test message is routed to no queue, over a connection of its own: a broker that accepts no
//! messages for now blocks nothing by it.

use std::sync::atomic::{AtomicU8, Ordering};

use lapin::Confirmation;
use lapin::options::BasicPublishOptions;

use super::link::close;
use super::message::short;
use super::publisher;
use super::{Shared, within};
use crate::broker::Ailment;

/// The longest body of a job, sealed.
const LONGEST: usize = 1024 * 1024 + 48;

/// The result at the last link.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicU8);

const UNKNOWN: u8 = 0;
const ENOUGH: u8 = 1;
const TOO_LITTLE: u8 = 2;

impl Room {
    /// Whether the broker accepts every copy; `None` before the test.
    pub(super) fn is_enough(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => None,
            found => Some(found == ENOUGH),
        }
    }

    /// The report while the limit is too low.
    pub(super) fn ailment(&self) -> Option<Ailment> {
        let detail = format!(
            "the broker's max_message_size is smaller than {LONGEST} bytes: the parked copy of a large job would be \
             refused, and the job stay in hand. Set it to at least as much (docs/messages.md)"
        );
        (self.is_enough() == Some(false)).then_some(Ailment { what: "max_message_size", detail })
    }
}

/// Makes the test. Any other failure says nothing about the size.
pub(super) async fn look(shared: &Shared) {
    let Ok(wire) = shared.dial.connect(&shared.config, " size").await else { return };
    let tried = async {
        let channel = within("open a channel", publisher::open(&wire)).await?;
        // Through the default exchange to a queue that does not exist: confirmed, and dropped.
        let nobody = short(&format!("{}.nobody", shared.topology.name("size")));
        let options = BasicPublishOptions::default();
        let sent = async {
            let body = vec![b' '; LONGEST];
            channel.basic_publish(short(""), nobody, options, &body, lapin::BasicProperties::default()).await?.await
        };
        within("take a large message", sent).await
    };
    let found = match tried.await {
        Ok(Confirmation::Ack(_)) => ENOUGH,
        Ok(_) => UNKNOWN,
        Err(error) if error.to_string().contains("message size") => TOO_LITTLE,
        Err(error) => {
            tracing::debug!(%error, "it is not known whether the broker accepts large messages");
            UNKNOWN
        }
    };
    shared.room.0.store(found, Ordering::Relaxed);
    if let Some(ailment) = shared.room.ailment() {
        tracing::error!("{}", ailment.detail);
    }
    close(&wire).await;
}
