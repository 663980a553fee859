//! What the headers of a dead letter say, and how far that is vouched for.
//!
//! The rule it keeps: whoever may write to a queue may write any header. What is done, or told in a
//! tenant's name, follows only from headers that a MAC of ours covers.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::header;
use crate::broker::{HeaderValue, Properties};
use crate::job::JobKey;
use crate::seal::Keyring;

const PURPOSE: &str = "dead-letter-head";
/// The headers of ours that a dead letter shows. All of them are under the MAC, also where they are absent.
const SHOWN: [&str; 10] = [
    header::ATTEMPTS,
    header::AT,
    header::CODE,
    header::JOB_ID,
    header::PARK,
    header::REASON,
    header::RUN,
    header::STEP,
    header::SYSTEM,
    header::TENANT,
];
/// What the broker writes on a message that it dead-letters.
pub const BROKERS_WORD: &str = "x-first-death-reason";

/// How far the headers are vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// All of them.
    Wholly,
    /// The job and the run: a letter of an earlier release, or a parked copy as it was.
    ForTheJob,
    /// None: anybody may have written them.
    Not,
}

/// A dead letter's headers.
pub struct LetterHead<'a> {
    properties: &'a Properties,
    /// How far they are vouched for.
    pub vouched: Vouched,
}

impl<'a> LetterHead<'a> {
    /// Reads them.
    pub fn read(keyring: &Keyring, properties: &'a Properties, body: &[u8]) -> LetterHead<'a> {
        let mac = text(properties, header::HEAD_MAC).and_then(|mac| hex::decode(mac).ok()).unwrap_or_default();
        let fields = fields(properties, body);
        let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let vouched = if keyring.verify_mac(PURPOSE, &parts, &mac) {
            Vouched::Wholly
        } else if vouched_place(keyring, properties, body) {
            Vouched::ForTheJob
        } else {
            Vouched::Not
        };
        LetterHead { properties, vouched }
    }

    /// A header's text, whoever wrote it.
    pub fn claimed(&self, name: &str) -> Option<&'a str> {
        text(self.properties, name)
    }

    /// A header's number, whoever wrote it; 0 where there is none.
    pub fn claimed_number(&self, name: &str) -> i64 {
        number(self.properties, name).unwrap_or(0)
    }

    /// The job that is named, whoever named it.
    pub fn claimed_key(&self) -> Option<JobKey> {
        claimed_key(self.properties)
    }

    /// The job, where it is vouched for.
    pub fn key(&self) -> Option<JobKey> {
        self.claimed_key().filter(|_| self.vouched != Vouched::Not)
    }

    /// True where the broker put the message there by itself and the worker has not given it its code yet. A
    /// code that nothing vouches for is none, but for letters of earlier releases, which the broker never saw
    /// expire.
    pub fn is_bare(&self) -> bool {
        let has_code = self.claimed(header::CODE).is_some();
        match self.vouched {
            Vouched::Wholly => false,
            Vouched::ForTheJob => !has_code,
            Vouched::Not => !has_code || self.properties.headers.contains_key(BROKERS_WORD),
        }
    }
}

fn text<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.headers.get(name).and_then(HeaderValue::as_text)
}

fn number(properties: &Properties, name: &str) -> Option<i64> {
    properties.headers.get(name).and_then(HeaderValue::as_int)
}

/// The job that a message of ours names, whoever wrote it.
pub(super) fn claimed_key(properties: &Properties) -> Option<JobKey> {
    let job_id = Uuid::try_parse(text(properties, header::JOB_ID)?).ok()?;
    Some(JobKey { tenant: text(properties, header::TENANT)?.to_owned(), job_id })
}

/// The job that a parked copy names and its park number, whoever wrote them.
pub(super) fn claimed_place(properties: &Properties) -> Option<(JobKey, u64)> {
    Some((claimed_key(properties)?, u64::try_from(number(properties, header::PARK)?).ok()?))
}

/// True where a MAC ties a message of ours to the job and the run that it names: a parked copy's, or that of
/// a dead letter.
pub(super) fn vouched_place(keyring: &Keyring, properties: &Properties, body: &[u8]) -> bool {
    let place = || {
        let key = claimed_key(properties)?;
        let (run, park) = (
            u32::try_from(number(properties, header::RUN)?).ok()?,
            u64::try_from(number(properties, header::PARK)?).ok()?,
        );
        let holds = |purpose: &str, mac: &str, wait: &str| {
            let mac = text(properties, mac).and_then(|mac| hex::decode(mac).ok()).unwrap_or_default();
            let fields = header::mac_fields(&key, run, park, wait, body);
            let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            keyring.verify_mac(purpose, &parts, &mac)
        };
        let is_letter = holds(header::LETTER_PURPOSE, header::LETTER_MAC, "");
        Some(is_letter || holds(header::MAC_PURPOSE, header::MAC, text(properties, header::WAIT).unwrap_or("")))
    };
    place().unwrap_or(false)
}

/// Puts the MAC over the headers that are there, and the body.
pub fn vouch(keyring: &Keyring, properties: &mut Properties, body: &[u8]) {
    let fields = fields(properties, body);
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    let mac = hex::encode(keyring.mac(PURPOSE, &parts));
    properties.headers.insert(header::HEAD_MAC.to_owned(), HeaderValue::Text(mac));
}

fn fields(properties: &Properties, body: &[u8]) -> Vec<Vec<u8>> {
    let value = |name: &&str| match properties.headers.get(*name) {
        None => Vec::new(),
        Some(HeaderValue::Text(text)) => [b"t", text.as_bytes()].concat(),
        Some(other) => [b"n", other.as_int().map(|number| number.to_string()).unwrap_or_default().as_bytes()].concat(),
    };
    let mut fields: Vec<Vec<u8>> = SHOWN.iter().map(value).collect();
    fields.push(Sha256::digest(body).to_vec());
    fields
}
