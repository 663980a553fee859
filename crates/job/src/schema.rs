//! The JSON Schemas of the messages (2020-12), as files that the tests compare with the code.

/// A job. Strict: unknown fields are refused.
pub const JOB: &str = include_str!("schema/job.v1.json");
/// An event. Open: consumers ignore unknown fields.
pub const EVENT: &str = include_str!("schema/event.v1.json");
