//! `schema`: prints the JSON Schema of a message.
//!
//! The rule it keeps: what is printed is the file that the tests compare with the code.

use std::io::{self, Write};

use super::Exit;
use super::args::{Schema, SchemaOf};

/// The schema of a job, JSON Schema 2020-12. Strict: unknown fields are refused.
pub const JOB: &str = include_str!("../job/schema/job.v1.json");
/// The schema of an event, JSON Schema 2020-12. Open: consumers ignore unknown fields.
pub const EVENT: &str = include_str!("../job/schema/event.v1.json");

/// Prints a schema.
///
/// # Errors
/// Where `out` can't be written.
pub fn schema(args: &Schema, out: &mut dyn Write) -> io::Result<Exit> {
    let text = match args.of {
        SchemaOf::Job => JOB,
        SchemaOf::Event => EVENT,
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}
