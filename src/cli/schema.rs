//! `schema`: prints the JSON Schema of a message.
//!
//! The rule it keeps: what is printed is the file that the tests compare with the code.

use std::io::{self, Write};

use super::Exit;
use super::args::{Schema, SchemaOf};
use crate::job::schema;

/// Prints a schema.
///
/// # Errors
/// Where `out` can't be written.
pub fn schema(args: &Schema, out: &mut dyn Write) -> io::Result<Exit> {
    let text = match args.of {
        SchemaOf::Job => schema::JOB,
        SchemaOf::Event => schema::EVENT,
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}
