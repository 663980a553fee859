//! A delivery's origin, and the headers of the messages that the worker publishes.
//!
//! The rule it keeps: `x-erasure-*` headers count only under our MAC over them and the body, and a copy's headers
//! only on a delivery through the resume exchange. Every other message is a publisher's.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::dead_letter_head::{self, LetterHead, Vouched};
use super::header;
use crate::broker::{Cut, HeaderValue, Message, Properties, Via};
use crate::job::record::{DeadLetterNote, Event};
use crate::job::{At, Carried, JobKey, Reason};
use crate::seal::{DEAD_LETTER, Keyring, PARKED, SealError, looks_sealed};

const CARRIED_PURPOSE: &str = "carried";

/// The sender of a copy of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A publisher.
    Publisher,
    /// The worker: a parked copy, or a replay as a new run.
    Ours {
        /// The job.
        key: JobKey,
        /// The run.
        run: u32,
        /// Its park number.
        park: u64,
        /// The parts of the job that must not go back; empty for a copy of an earlier release.
        carried: Box<Carried>,
    },
}

/// A delivery that was opened.
pub struct Unsealed {
    /// The publisher's body.
    pub body: Zeroizing<Vec<u8>>,
    /// The sender of this copy.
    pub origin: Origin,
    /// The reason of the copy's wait, if we sent it.
    pub wait: Option<String>,
}

/// Opens a delivery. A parked copy whose seal cannot be opened is an error. A copy without a valid MAC is a
/// publisher's message.
pub fn open(message: &Message, keyring: &Keyring) -> Result<Unsealed, SealError> {
    open_as(message.via, &message.properties, &message.body, keyring)
}

/// As [`open`], for a message that is no longer a delivery.
pub fn open_as(via: Via, properties: &Properties, body: &Bytes, keyring: &Keyring) -> Result<Unsealed, SealError> {
    let headers = &properties.headers;
    let ours = || -> Option<Origin> {
        if via != Via::Resume {
            return None;
        }
        let text = |name: &str| headers.get(name).and_then(HeaderValue::as_text);
        let number = |name: &str| headers.get(name).and_then(HeaderValue::as_int);
        let key = dead_letter_head::claimed_key(properties)?;
        let run = u32::try_from(number(header::RUN)?).ok()?;
        let park = u64::try_from(number(header::PARK)?).ok()?;
        let mac = hex::decode(text(header::MAC)?).ok()?;
        let fields = header::mac_fields(&key, run, park, text(header::WAIT)?, body);
        let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        if !keyring.verify_mac(header::MAC_PURPOSE, &parts, &mac) {
            return None;
        }
        let carried = Box::new(read_carried(keyring, headers, &parts));
        Some(Origin::Ours { key, run, park, carried })
    };
    match ours() {
        // Sealed with another key, or moved here by the broker's tools. No publisher's message has this form.
        None if is_misplaced(properties, body, keyring) => Err(SealError::Misplaced),
        None => Ok(Unsealed { body: Zeroizing::new(body.to_vec()), origin: Origin::Publisher, wait: None }),
        Some(origin) => {
            let Origin::Ours { key, .. } = &origin else { return Err(SealError::NotSealed) };
            let body = keyring.open_for_master(PARKED, &key.to_bytes(), body)?;
            let wait = headers.get(header::WAIT).and_then(HeaderValue::as_text).map(str::to_owned);
            Ok(Unsealed { body: Zeroizing::new(body), origin, wait })
        }
    }
}

/// True for one of our messages on a queue where it has no meaning: a sealed message, or a plain dead letter with a
/// valid MAC over its headers.
fn is_misplaced(properties: &Properties, body: &Bytes, keyring: &Keyring) -> bool {
    let is_letter = || LetterHead::read(keyring, properties, body).vouched == Vouched::Wholly;
    looks_sealed(body) || (properties.headers.contains_key(header::HEAD_MAC) && is_letter())
}

/// The carried part of one of our messages, if its MAC is valid.
fn read_carried(keyring: &Keyring, headers: &Headers, place: &[&[u8]]) -> Carried {
    let text = |name: &str| headers.get(name).and_then(HeaderValue::as_text);
    let vouched = || {
        let carried = text(header::CARRIED)?;
        let mac = hex::decode(text(header::CARRIED_MAC)?).ok()?;
        let parts = [place, &[carried.as_bytes()]].concat();
        keyring.verify_mac(CARRIED_PURPOSE, &parts, &mac).then_some(carried)
    };
    // A later release may carry more: unknown fields are ignored.
    vouched().and_then(|carried| serde_json::from_str(carried).ok()).unwrap_or_default()
}

fn carried_headers(keyring: &Keyring, carried: &Carried, place: &[&[u8]]) -> [(&'static str, HeaderValue); 2] {
    let carried = serde_json::to_string(carried).unwrap_or_default();
    let mac = keyring.mac(CARRIED_PURPOSE, &[place, &[carried.as_bytes()]].concat());
    [(header::CARRIED, HeaderValue::Text(carried)), (header::CARRIED_MAC, HeaderValue::Text(hex::encode(mac)))]
}

type Headers = BTreeMap<String, HeaderValue>;

/// A copy's place among the copies of its job, and the part that it carries.
#[derive(Clone, Copy)]
pub struct CopyHead<'a> {
    /// The job.
    pub key: &'a JobKey,
    /// The run.
    pub run: u32,
    /// The park number.
    pub park: u64,
    /// The reason of its wait.
    pub wait: &'a str,
    /// The parts of the job that must not go back.
    pub carried: &'a Carried,
}

/// A parked copy of the job. Only a worker with the master key can read it and make its MAC.
pub fn parked(
    keyring: &Keyring,
    original: &Properties,
    head: &CopyHead<'_>,
    body: &[u8],
) -> Result<(Properties, Bytes), SealError> {
    let CopyHead { key, run, park, wait, carried } = *head;
    let sealed = keyring.seal_for_master(PARKED, &key.to_bytes(), body)?;
    let fields = header::mac_fields(key, run, park, wait, &sealed);
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    let mac = keyring.mac(header::MAC_PURPOSE, &parts);
    let mut properties = repeated(original);
    let mut put = |name: &str, value: HeaderValue| properties.headers.insert(name.to_owned(), value);
    for (name, value) in carried_headers(keyring, carried, &parts) {
        put(name, value);
    }
    put(header::TENANT, HeaderValue::Text(key.tenant.clone()));
    put(header::JOB_ID, HeaderValue::Text(key.job_id.to_string()));
    put(header::RUN, HeaderValue::Int(run.into()));
    put(header::PARK, HeaderValue::Int(i64::try_from(park).unwrap_or(i64::MAX)));
    put(header::WAIT, HeaderValue::Text(wait.to_owned()));
    put(header::MAC, HeaderValue::Text(hex::encode(mac)));
    Ok((properties, sealed.into()))
}

/// The publisher's properties for our copies. Our own headers are removed: they are written again, and a publisher's
/// have no meaning. An invalid message id or trace is removed too: it could be anything, even a person's name.
fn repeated(original: &Properties) -> Properties {
    let mut properties = original.clone();
    properties.user_id = None;
    properties.mended = None;
    properties.line = None;
    properties.message_id = properties.message_id.filter(|id| Uuid::try_parse(id).is_ok());
    properties.headers.retain(|name, value| {
        let is_trace = || value.as_text().is_some_and(is_traceparent);
        !name.starts_with("x-erasure-") && (name != header::TRACEPARENT || is_trace())
    });
    properties
}

/// True for `00-<32 hex>-<16 hex>-<2 hex>`; other values are neither stored nor repeated.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let shaped = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(parts.as_slice(), [version, trace, span, flags]
        if shaped(version, 2) && shaped(trace, 32) && shaped(span, 16) && shaped(flags, 2))
}

/// The headers of a dead letter.
pub struct DeadLetterHead<'a> {
    /// The job, if it is known.
    pub key: Option<&'a JobKey>,
    /// The run; 0 if the message never became a job.
    pub run: u32,
    /// The last park number: a replay takes the next one.
    pub park: u64,
    /// The parts of the job that must not go back.
    pub carried: &'a Carried,
    /// The time.
    pub at: At,
    /// The reason.
    pub note: &'a DeadLetterNote,
    /// A more exact sentence than the reason's own; no personal data.
    pub detail: Option<&'a str>,
}

/// The length of a body's beginning in a dead letter that does not hold it whole.
const BEGINNING: usize = 2048;

/// The part of a body for a dead letter with at most `most` bytes; and length and digest of the whole, if that is not
/// all.
fn kept<'a>(original: &Properties, body: &'a [u8], most: usize) -> (&'a [u8], Option<Cut>) {
    if let Some(cut) = original.mended.as_ref().and_then(|mended| mended.cut.clone()) {
        return (body, Some(cut));
    }
    if body.len() <= most {
        return (body, None);
    }
    (&body[..body.len().min(BEGINNING)], Some(Cut { bytes: body.len() as u64, sha256: body_sha256(body) }))
}

/// The years 2000 to 2100, in seconds since 1970.
const TIMES: std::ops::Range<u64> = 946_684_800..4_102_444_800;

/// The time at which a message was sent, by its own property. AMQP counts seconds; some libraries write milliseconds,
/// which are recognised by their size. Any other number is no time.
pub fn own_time(properties: &Properties) -> Option<At> {
    let number = properties.timestamp?;
    let millis = if TIMES.contains(&number) { number.checked_mul(1000)? } else { number };
    let is_time = TIMES.contains(&(millis / 1000));
    i64::try_from(millis).ok().filter(|_| is_time).map(At)
}

/// The SHA-256 of a message's whole body, in hex.
pub fn whole_sha256(original: &Properties, body: &[u8]) -> String {
    let cut = original.mended.as_ref().and_then(|mended| mended.cut.as_ref());
    cut.map_or_else(|| body_sha256(body), |cut| cut.sha256.clone())
}

/// True if the dead letter holds only the beginning of its message.
pub fn is_beginning(letter: &Properties) -> bool {
    letter.headers.contains_key(header::BODY_SHA256)
}

/// Makes a dead letter: the original body, or only the beginning of a body above `most` bytes; sealed unless switched
/// off; with the contract's headers.
pub fn dead_letter(
    keyring: &Keyring,
    original: &Properties,
    head: &DeadLetterHead<'_>,
    body: &[u8],
    most: usize,
    seal: bool,
) -> Result<(Properties, Bytes), SealError> {
    let (body, whole) = kept(original, body, most);
    let body =
        if seal { keyring.seal_for_master(DEAD_LETTER, b"", body)?.into() } else { Bytes::copy_from_slice(body) };
    let mut properties = repeated(original);
    let mut put = |name: &str, value: HeaderValue| properties.headers.insert(name.to_owned(), value);
    let sentence = head.detail.map_or_else(|| head.note.reason.sentence().to_owned(), str::to_owned);
    put(header::CODE, HeaderValue::Text(head.note.reason.code().to_owned()));
    put(header::REASON, HeaderValue::Text(sentence));
    put(header::RUN, HeaderValue::Int(head.run.into()));
    put(header::PARK, HeaderValue::Int(i64::try_from(head.park).unwrap_or(i64::MAX)));
    put(header::ATTEMPTS, HeaderValue::Int(head.note.attempts.into()));
    put(header::AT, HeaderValue::Text(head.at.to_rfc3339()));
    if let Some(key) = head.key {
        put(header::JOB_ID, HeaderValue::Text(key.job_id.to_string()));
        put(header::TENANT, HeaderValue::Text(key.tenant.clone()));
        if head.run > 0 {
            // Without this MAC, everyone with write access to the queue could have a message of their own replayed as
            // a run of an accepted job.
            let fields = header::mac_fields(key, head.run, head.park, "", &body);
            let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            put(header::LETTER_MAC, HeaderValue::Text(hex::encode(keyring.mac(header::LETTER_PURPOSE, &parts))));
            for (name, value) in carried_headers(keyring, head.carried, &parts) {
                put(name, value);
            }
        }
    }
    if let Some(Cut { bytes, sha256 }) = whole {
        put(header::BODY_BYTES, HeaderValue::Int(i64::try_from(bytes).unwrap_or(i64::MAX)));
        put(header::BODY_SHA256, HeaderValue::Text(sha256));
    }
    if let Some(system) = &head.note.system {
        put(header::SYSTEM, HeaderValue::Text(system.clone()));
    }
    if let Some(step) = head.note.step {
        put(header::STEP, HeaderValue::Text(step.as_str().to_owned()));
    }
    dead_letter_head::vouch(keyring, &mut properties, &body);
    Ok((properties, body))
}

/// The job, run and park number of an accepted job's dead letter, if its MAC is valid.
fn placed(keyring: &Keyring, letter: &Properties, body: &[u8]) -> Option<(JobKey, u32, u64, Carried)> {
    let text = |name: &str| letter.headers.get(name).and_then(HeaderValue::as_text);
    let number = |name: &str| letter.headers.get(name).and_then(HeaderValue::as_int).unwrap_or(0);
    let key = dead_letter_head::claimed_key(letter)?;
    let run = u32::try_from(number(header::RUN)).ok().filter(|run| *run > 0)?;
    let park = u64::try_from(number(header::PARK)).unwrap_or(0);
    let fields = header::mac_fields(&key, run, park, "", body);
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    let mac = text(header::LETTER_MAC).and_then(|mac| hex::decode(mac).ok())?;
    let carried = || read_carried(keyring, &letter.headers, &parts);
    keyring.verify_mac(header::LETTER_PURPOSE, &parts, &mac).then(|| (key, run, park, carried()))
}

/// Makes a dead letter of a message that cannot be opened: body and headers unchanged, so that it can be replayed
/// later. A dead letter that was moved stays as it is. A message without a code gets one, but a MAC only if it has
/// one that ties it to its job.
pub fn dead_letter_as_it_came(keyring: &Keyring, original: &Properties, body: &Bytes, at: At) -> (Properties, Bytes) {
    let is_letter = original.headers.contains_key(header::CODE);
    let note = note(Reason::Unopenable);
    if !is_letter && dead_letter_head::vouched_place(keyring, original, body) {
        return unopened(keyring, original, body, &note, at);
    }
    let mut properties = original.clone();
    properties.user_id = None;
    properties.mended = None;
    properties.line = None;
    properties.message_id = properties.message_id.filter(|id| Uuid::try_parse(id).is_ok());
    if !is_letter {
        put_note(&mut properties, &note, at);
    }
    (properties, body.clone())
}

/// Makes a dead letter of a parked copy that has a valid MAC but cannot be opened: body and headers unchanged.
/// Headers that the MAC does not cover are removed.
pub fn unopened(
    keyring: &Keyring,
    original: &Properties,
    body: &Bytes,
    note: &DeadLetterNote,
    at: At,
) -> (Properties, Bytes) {
    let mut properties = original.clone();
    properties.user_id = None;
    for name in [header::SYSTEM, header::STEP, header::LETTER_MAC] {
        properties.headers.remove(name);
    }
    put_note(&mut properties, note, at);
    dead_letter_head::vouch(keyring, &mut properties, body);
    (properties, body.clone())
}

fn put_note(properties: &mut Properties, note: &DeadLetterNote, at: At) {
    let mut put =
        |name: &str, value: &str| properties.headers.insert(name.to_owned(), HeaderValue::Text(value.to_owned()));
    put(header::CODE, note.reason.code());
    put(header::REASON, note.reason.sentence());
    put(header::AT, &at.to_rfc3339());
    // No step was attempted.
    properties.headers.insert(header::ATTEMPTS.to_owned(), HeaderValue::Int(0));
}

/// Opens a dead letter's body, sealed or not.
pub fn open_dead_letter(keyring: &Keyring, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if looks_sealed(body) {
        return keyring.open_for_master(DEAD_LETTER, b"", body).map(Zeroizing::new);
    }
    Ok(Zeroizing::new(body.to_vec()))
}

/// Makes the replay of a dead letter, as the next run of its job. `None` if the message never became a job, or if no
/// valid MAC says so: it is then checked like every publisher's message.
pub fn replayed(keyring: &Keyring, letter: &Properties, body: &[u8]) -> Result<Option<(Properties, Bytes)>, SealError> {
    if letter.headers.contains_key(header::MAC) {
        // A parked copy that could not be opened at its time: it is published unchanged, since the key may be
        // available again.
        return Ok(Some((letter.clone(), Bytes::copy_from_slice(body))));
    }
    let Some((key, run, park, carried)) = placed(keyring, letter, body) else {
        if letter.headers.get(header::RUN).and_then(HeaderValue::as_int).is_some_and(|run| run > 0) {
            tracing::warn!("a dead letter's run has no valid MAC; it is replayed as a publisher's message");
        }
        return Ok(None);
    };
    let plain = open_dead_letter(keyring, body)?;
    let (run, park) = (run.saturating_add(1), park.saturating_add(1));
    parked(keyring, letter, &CopyHead { key: &key, run, park, wait: "replay", carried: &carried }, &plain).map(Some)
}

/// An event's properties.
pub fn event_properties(event: &Event, key: &JobKey, correlation_id: Option<&str>) -> Properties {
    Properties {
        content_type: Some("application/cloudevents+json".to_owned()),
        message_id: Some(event.id.clone()),
        correlation_id: Some(correlation_id.map_or_else(|| key.job_id.to_string(), str::to_owned)),
        kind: Some(format!("erasure.job.{}.v1", event.what)),
        app_id: Some("erasure-worker".to_owned()),
        timestamp: u64::try_from(event.at.0 / 1000).ok(),
        ..Properties::default()
    }
}

/// The plain SHA-256 of a body, in hex, for `rejected` events.
pub fn body_sha256(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// A dead letter's note without a system.
pub const fn note(reason: Reason) -> DeadLetterNote {
    DeadLetterNote { reason, system: None, step: None, attempts: 0 }
}
