//! From the text of a connector file to the model.
//!
//! The rule it keeps: every fault is reported, each with its line; a file with a fault does not load.

mod call;
pub(crate) mod cursor;
pub(crate) mod head;
pub(crate) mod keys;
pub(crate) mod matcher;
mod parts;
mod template;

use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::cursor::{At, Keys, Reader};
use crate::fault::{Fault, Faults};
use crate::model::{Act, Connector, Outcome, Read};
use crate::refuse;
use crate::sql::{self, SqlFile};

/// The longest file.
pub const LARGEST: usize = 256 * 1024;
/// Syntax errors that are listed; after some, the rest follows from the first.
const SYNTAX_ERRORS: usize = 20;

/// The bytes of a file; one byte more than the largest, so that a longer file is refused without being read whole.
///
/// # Errors
/// The file cannot be read.
pub fn bytes_of(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, LARGEST as u64 + 1), &mut bytes)?;
    Ok(bytes)
}

/// Reads a connector file and refuses it if it could report a person as erased without proof.
///
/// # Errors
/// Every fault, in the file's order.
pub fn load(bytes: &[u8]) -> Result<Connector, Faults> {
    let (connector, mut r) = read(bytes)?;
    let whole = r.faults.is_empty();
    let mut faults = std::mem::take(&mut r.faults);
    faults.extend(refuse::refuse(&connector, &r.lines, &r.broken, whole));
    if faults.is_empty() { Ok(connector) } else { Err(sorted(faults)) }
}

/// Reads a file without the rules of the loader, for tests of its parts.
#[cfg(test)]
pub(crate) fn unchecked(text: &str) -> Result<Connector, Faults> {
    let (connector, r) = read(text.as_bytes())?;
    if r.faults.is_empty() { Ok(connector) } else { Err(sorted(r.faults)) }
}

/// An accepted file of either form.
#[derive(Debug)]
pub enum File {
    /// A vendor's interface.
    Calls(Box<Connector>),
    /// A database.
    Sql(Box<SqlFile>),
}

/// Reads a file of either form: one with `database` is for a database.
///
/// # Errors
/// Every fault, in the file's order.
pub fn load_file(bytes: &[u8]) -> Result<File, Faults> {
    let (mut r, table) = parsed(bytes)?;
    if !table.get_ref().contains_key("database") {
        return load(bytes).map(|file| File::Calls(Box::new(file)));
    }
    let keys = r.table(String::new(), 1, table.get_ref(), sql::keys::FILE);
    let file = sql::file(&mut r, keys, hex::encode(Sha256::digest(bytes)));
    if r.faults.is_empty() { Ok(File::Sql(Box::new(file))) } else { Err(sorted(r.faults)) }
}

fn read(bytes: &[u8]) -> Result<(Connector, Reader), Faults> {
    let (mut r, table) = parsed(bytes)?;
    let keys = r.table(String::new(), 1, table.get_ref(), keys::FILE);
    let connector = file(&mut r, keys, hex::encode(Sha256::digest(bytes)));
    Ok((connector, r))
}

/// The file as TOML.
fn parsed(bytes: &[u8]) -> Result<(Reader, Spanned<DeTable<'_>>), Faults> {
    if bytes.len() > LARGEST {
        return Err(single(1, "is longer than 256 KiB", "write a file for each system"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(single(line, "is not UTF-8", "save the file as UTF-8"));
        }
    };
    let mut r = Reader::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_ERRORS) {
        let line = r.line(error.span().map_or(0, |span| span.start));
        let message: String = error.message().lines().collect::<Vec<_>>().join(", ");
        r.fault(line, "", format!("is not TOML here: {message}"), "mend this line");
    }
    if !errors.is_empty() {
        return Err(sorted(r.faults));
    }
    Ok((r, table))
}

fn single(line: usize, problem: &str, instead: &str) -> Faults {
    Faults(vec![Fault { line, place: "file".to_owned(), problem: problem.to_owned(), instead: instead.to_owned() }])
}

fn sorted(mut faults: Vec<Fault>) -> Faults {
    faults.sort();
    faults.dedup();
    Faults(faults)
}

/// The whole file. A part that could not be read is replaced by one of which no rule has anything to say, so that the
/// rules can be tried on the others.
fn file(r: &mut Reader, mut keys: Keys<'_>, digest: String) -> Connector {
    let head = head::head(r, &mut keys);
    let reads = reads(r, &mut keys);
    let names: Vec<String> = reads.iter().map(|(name, _)| name.clone()).collect();
    let acts = acts(r, &mut keys, &names);
    let mut examples = Vec::new();
    if let Some(list) = keys.take(r, "example") {
        examples.extend(r.list(&list).iter().filter_map(|at| r.example(at)));
    }
    let probe = match keys.take(r, "probe") {
        Some(at) => head::probe(r, &at),
        None => {
            r.fault(
                1,
                "probe",
                "is missing: without a harmless read nobody knows whether address and credential work, and \"not \
                 found\" could mean the wrong account",
                "write [probe] with get = \"/path\" and ok = { at = \"/place\", type = \"number\" }",
            );
            None
        }
    };
    keys.finish(r);
    // Reads are numbered: each keeps its place.
    let unread =
        |name: String| Read { name, call: None, unchecked: None, same_as_asked: None, answers: Vec::new(), line: 1 };
    Connector {
        name: head.name.unwrap_or_default(),
        digest,
        outcome: head.outcome.unwrap_or(Outcome::Unproven),
        sources: head.sources,
        settings: head.settings,
        secrets: head.secrets,
        identifiers: head.identifiers,
        proofs: head.proofs,
        http: head.http.unwrap_or_else(head::no_http),
        limits: head.limits,
        probe: probe.unwrap_or_else(head::no_probe),
        reads: reads.into_iter().map(|(name, read)| read.unwrap_or_else(|| unread(name))).collect(),
        acts,
        examples,
        preserved: head.preserved,
    }
}

fn reads(r: &mut Reader, keys: &mut Keys<'_>) -> Vec<(String, Option<Read>)> {
    let no_person = |r: &mut Reader, line: usize| {
        r.fault(
            line,
            "read",
            "has no person: nobody would be compared before something is destroyed",
            "write [read.person] with a call that shows the person, or with unchecked = \"why nobody can be compared\"",
        );
    };
    let Some(at) = keys.take(r, "read") else {
        no_person(r, 1);
        return Vec::new();
    };
    let Some(mut table) = r.keys(&at, &[]) else { return Vec::new() };
    let mut reads = Vec::new();
    for (name, at) in table.all(r) {
        let named = r.name(at.line, &at.place, name);
        let read = r.read_part(name, &at).filter(|_| named);
        reads.push((name.to_owned(), read));
    }
    match reads.iter().position(|(name, _)| name == "person") {
        Some(0) => {}
        Some(_) => r.fault(
            at.line,
            "read.person",
            "is not the first read, but it is called first",
            "write [read.person] before the other reads",
        ),
        None => no_person(r, at.line),
    }
    reads
}

fn acts(r: &mut Reader, keys: &mut Keys<'_>, reads: &[String]) -> Vec<Act> {
    let missing = |r: &mut Reader| {
        r.fault(1, "act", "is missing: the file changes nothing", "write [[act]] with name, call, answers");
    };
    let Some(at) = keys.take(r, "act") else {
        missing(r);
        return Vec::new();
    };
    let DeValue::Array(_) = at.value else {
        r.fault_at(&at, "is one table", "write [[act]] with two brackets: acts are a list");
        return Vec::new();
    };
    let list: Vec<At<'_>> = r.list(&at);
    if list.is_empty() {
        missing(r);
    }
    let mut acts: Vec<Act> = Vec::new();
    for at in &list {
        let Some(act) = r.act_part(at, reads) else { continue };
        if acts.iter().any(|known| known.name == act.name) {
            r.fault(act.line, &format!("act.{}", act.name), "is there twice", "give each act a name of its own");
        }
        acts.push(act);
    }
    acts
}
