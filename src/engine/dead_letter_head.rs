//! A dead letter's headers, and how far a MAC covers them.
//!
//! The rule it keeps: everyone with write access to a queue may write any header. So every action, and every event in
//! a tenant's name, follows only from headers under our MAC.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::header;
use crate::broker::{HeaderValue, Properties};
use crate::job::JobKey;
use crate::seal::Keyring;

const PURPOSE: &str = "dead-letter-head";
/// Our visible headers of a dead letter. All of them are under the MAC, absent ones too.
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
/// The header that the broker writes on a message that it dead-letters.
pub const BROKERS_WORD: &str = "x-first-death-reason";

/// The extent of the valid MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// All headers.
    Wholly,
    /// Job and run: a dead letter of an earlier release, or an unchanged parked copy.
    ForTheJob,
    /// No header: anybody may have written them.
    Not,
}

/// A dead letter's headers.
pub struct LetterHead<'a> {
    properties: &'a Properties,
    /// The extent of the valid MAC.
    pub vouched: Vouched,
}

impl<'a> LetterHead<'a> {
    /// Reads the headers.
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

    /// A header's text, without proof of its writer.
    pub fn claimed(&self, name: &str) -> Option<&'a str> {
        text(self.properties, name)
    }

    /// A header's number, without proof of its writer; 0 if there is none.
    pub fn claimed_number(&self, name: &str) -> i64 {
        number(self.properties, name).unwrap_or(0)
    }

    /// The job that is named, without proof of the writer.
    pub fn claimed_key(&self) -> Option<JobKey> {
        claimed_key(self.properties)
    }

    /// The job, if a valid MAC covers it.
    pub fn key(&self) -> Option<JobKey> {
        self.claimed_key().filter(|_| self.vouched != Vouched::Not)
    }

    /// True if the broker dead-lettered the message and the worker has not given it a code yet. A code without a
    /// valid MAC does not count; the exception are letters of earlier releases, which the broker never dead-lettered
    /// itself.
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

/// The job that one of our messages names, without proof of the writer.
pub(super) fn claimed_key(properties: &Properties) -> Option<JobKey> {
    let job_id = Uuid::try_parse(text(properties, header::JOB_ID)?).ok()?;
    Some(JobKey { tenant: text(properties, header::TENANT)?.to_owned(), job_id })
}

/// The job and park number that a parked copy names, without proof of the writer.
pub(super) fn claimed_place(properties: &Properties) -> Option<(JobKey, u64)> {
    Some((claimed_key(properties)?, u64::try_from(number(properties, header::PARK)?).ok()?))
}

/// True if a MAC ties one of our messages to the job and run that it names: a parked copy's MAC or a dead letter's.
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

/// Adds the MAC over the present headers and the body.
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
