//! The headers of the worker's messages, and the fields that their MAC covers.
//!
//! The rule it keeps: one of our headers counts only under our MAC.

use sha2::{Digest as _, Sha256};

use crate::job::JobKey;

/// The job's id.
pub const JOB_ID: &str = "x-erasure-job-id";
/// The tenant.
pub const TENANT: &str = "x-erasure-tenant";
/// The run.
pub const RUN: &str = "x-erasure-run";
/// The park number.
pub const PARK: &str = "x-erasure-park";
/// The reason of the wait.
pub const WAIT: &str = "x-erasure-wait";
/// The MAC over the headers above and the body.
pub const MAC: &str = "x-erasure-mac";
/// The parts of the job that must not go back.
pub const CARRIED: &str = "x-erasure-carried";
/// The MAC over these parts, the headers above and the body.
pub const CARRIED_MAC: &str = "x-erasure-carried-mac";
/// A dead letter's code.
pub const CODE: &str = "x-erasure-code";
/// A dead letter's sentence.
pub const REASON: &str = "x-erasure-reason";
/// The system of the failure.
pub const SYSTEM: &str = "x-erasure-system";
/// The step of the failure.
pub const STEP: &str = "x-erasure-step";
/// Failed attempts.
pub const ATTEMPTS: &str = "x-erasure-attempts";
/// The time.
pub const AT: &str = "x-erasure-at";
/// The MAC that ties a dead letter to the run that it names.
pub const LETTER_MAC: &str = "x-erasure-letter-mac";
/// The MAC over all visible headers of a dead letter, and its body.
pub const HEAD_MAC: &str = "x-erasure-head-mac";
/// The whole body's length, if the dead letter holds only its beginning.
pub const BODY_BYTES: &str = "x-erasure-body-bytes";
/// The whole body's SHA-256, in hex.
pub const BODY_SHA256: &str = "x-erasure-body-sha256";
/// A publisher's detached JWS over the body.
pub const SIGNATURE: &str = "x-signature";
/// The publisher's trace.
pub const TRACEPARENT: &str = "traceparent";

/// The purpose of the MAC over a parked copy.
pub(super) const MAC_PURPOSE: &str = "resume";
/// The purpose of the MAC over a dead letter's run.
pub(super) const LETTER_PURPOSE: &str = "dead-letter";

/// The fields that those MACs cover.
pub(super) fn mac_fields(key: &JobKey, run: u32, park: u64, wait: &str, body: &[u8]) -> [Vec<u8>; 5] {
    let (run, park) = (run.to_be_bytes().to_vec(), park.to_be_bytes().to_vec());
    [key.to_bytes(), run, park, wait.as_bytes().to_vec(), Sha256::digest(body).to_vec()]
}
