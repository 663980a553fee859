//! The publisher: a job of each form in turn, at a bounded rate, through the disturbed proxy.
//!
//! The rule it keeps: a job that was not confirmed is published again until it is.

use std::time::Duration;

use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use testkit::amqp;
use testkit::forms::{Case, Form};
use tokio_util::sync::CancellationToken;

use crate::ground::Ground;

/// The timeout of a confirm, and of a connection.
const ATTEMPT: Duration = Duration::from_secs(8);

/// A connection, and its channel in confirm mode.
type Link = (Connection, Channel);

/// With more open jobs than this it waits, so that the run ends.
const OPEN_MOST: usize = 300;

const FORMS: [Form; 19] = {
    let [backend, mediastore, program, member, easycms, vitalsource, everything] = Form::PLAIN;
    [
        backend,
        mediastore,
        program,
        member,
        easycms,
        vitalsource,
        everything,
        Form::Preview,
        backend,
        mediastore,
        program,
        member,
        easycms,
        vitalsource,
        everything,
        Form::WrongPassword,
        Form::Shop,
        Form::Club,
        Form::Crm,
    ]
};

/// A job that the broker has confirmed.
pub struct Published {
    pub case: Case,
    /// The time of the first attempt, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Publishes until `stop`, and returns the confirmed jobs.
pub async fn publish(ground: &Ground, rate: u32, stop: &CancellationToken) -> Vec<Published> {
    let mut confirmed = Vec::new();
    let mut link: Option<Link> = None;
    // After a time without a broker the missed jobs are published at once.
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut ended = ground.rig.events.ended();
    while !stop.is_cancelled() {
        beat.tick().await;
        let number = confirmed.len();
        let room = ended.wait_for(|ended| number.saturating_sub(*ended) < OPEN_MOST);
        if stop.run_until_cancelled(room).await.is_none() {
            break;
        }
        let case = Case::new(ground.rig.sandbox(), FORMS[number % FORMS.len()], number as u64 + 1);
        let at_ms = jiff::Timestamp::now().as_millisecond();
        loop {
            let Some((_, channel)) = &link else {
                link = tokio::time::timeout(ATTEMPT, connect(ground)).await.ok().and_then(Result::ok);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Ok(Ok(true)) = tokio::time::timeout(ATTEMPT, attempt(ground, channel, &case)).await {
                break;
            }
            ground.count("published again");
            link = None;
        }
        confirmed.push(Published { case, at_ms });
        ground.count("confirmed");
    }
    confirmed
}

async fn connect(ground: &Ground) -> lapin::Result<Link> {
    let connection = Connection::connect(&ground.rough.url(), ConnectionProperties::default()).await?;
    let channel = amqp::confirming(&connection).await?;
    Ok((connection, channel))
}

async fn attempt(ground: &Ground, channel: &Channel, case: &Case) -> lapin::Result<bool> {
    let properties = BasicProperties::default().with_message_id(case.id.as_str().into());
    let exchange = format!("{}.requests", ground.rig.prefix);
    amqp::publish(channel, &exchange, "job", case.body.to_string().as_bytes(), properties).await
}
