//! From the text of a file for a database to the model.
//!
//! The rule it keeps: every fault is reported, each with its line. A ceiling is never left to a default.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use erasure_statement::{Condition, Literal, Name, Operand, Select, Statement, Table};

use super::Database;
use super::model::{Act, Change, Counts, Lost, Rows, SqlFile};
use super::{keys, refuse};
use crate::model::IdentifierForm;
use crate::read::cursor::{At, Keys, Reader, repeat};
use crate::read::head;
use crate::words::nearest;

/// The most rows that a ceiling may permit.
const MOST_ROWS: u64 = 1_000_000;
/// The most statements of an act, and the most counts of a read.
const MOST_STATEMENTS: usize = 64;

/// Reads the whole file, and refuses what could report a person as erased without proof.
pub(crate) fn file(r: &mut Reader, mut keys: Keys<'_>, digest: String) -> SqlFile {
    head::format(r, &mut keys);
    let name = head::vendor(r, &mut keys);
    let database = keys
        .must(r, "database", "write database = \"postgresql\" or \"mysql\"")
        .and_then(|at| r.word::<Database>(&at))
        .unwrap_or(Database::Postgresql);
    let mut identifiers = BTreeMap::new();
    let missing = "write identifiers = { user_id = { type = \"digits\", required = true } }";
    if let Some(at) = keys.must(r, "identifiers", missing) {
        head::identifiers(r, &at, &mut identifiers);
    }
    let watch = watch(r, &mut keys);
    let keep = keep(r, &mut keys, database);
    let preserved = head::texts(r, &mut keys, "preserved");
    let ledger = keys.take(r, "ledger").and_then(|at| {
        let text = r.text(&at)?;
        let table = table(&text);
        if table.is_none() {
            r.fault_at(&at, format!("{} is not a table's name", repeat(&text)), "write ledger = \"erasure_done\"");
        }
        table
    });
    let (person, reads) = self::reads(r, &mut keys, database);
    let names: Vec<String> = reads.iter().map(|read| read.name.clone()).collect();
    let acts = acts(r, &mut keys, database, &names);
    keys.finish(r);
    let mut file = SqlFile {
        name: name.unwrap_or_default(),
        digest,
        database,
        identifiers,
        watch,
        keep,
        preserved,
        ledger,
        person: person.unwrap_or_else(nobody),
        reads,
        acts,
    };
    // With a part that was not read, the rules would report consequences of the first fault.
    if r.faults.is_empty() {
        refuse::refuse(&file, r);
    }
    if database == Database::Postgresql {
        type_uuids(&mut file);
    }
    file
}

/// A text column would be compared with its case, and rows with another one would count as none.
fn type_uuids(file: &mut SqlFile) {
    let SqlFile { identifiers, person, reads, acts, .. } = file;
    let is_uuid = |name: &str| identifiers.get(name).is_some_and(|of| of.form == IdentifierForm::Uuid);
    person.condition.type_uuids(&is_uuid);
    reads.iter_mut().flat_map(|read| &mut read.counts).for_each(|count| count.condition.type_uuids(&is_uuid));
    let changes = acts.iter_mut().flat_map(|act| &mut act.changes);
    changes.for_each(|change| change.statement.condition_mut().type_uuids(&is_uuid));
}

/// The placeholder for an unreadable select.
fn nobody() -> Select {
    let one = || Operand::Literal(Literal::Number("1".to_owned()));
    Select {
        columns: Vec::new(),
        table: Table { schema: None, name: Name(String::new()) },
        condition: Condition::Compare(one(), erasure_statement::Comparison::Equal, one()),
    }
}

/// A table's name outside a statement, as the database stores it.
fn table(text: &str) -> Option<Table> {
    let name = |text: &str| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| Name(text.to_owned()))
    };
    match text.split_once('.') {
        Some((schema, rest)) => Some(Table { schema: Some(name(schema)?), name: name(rest)? }),
        None => Some(Table { schema: None, name: name(text)? }),
    }
}

fn watch(r: &mut Reader, keys: &mut Keys<'_>) -> BTreeSet<String> {
    let instead =
        "write watch = [\"public.*\"]: the schemas in which `systems check` looks for tables that nobody covers";
    let mut watch = BTreeSet::new();
    let Some(at) = keys.must(r, "watch", instead) else { return watch };
    let list = r.list(&at);
    if list.is_empty() && matches!(at.value, DeValue::Array(_)) {
        r.fault_at(&at, "watches nothing", instead);
    }
    for at in &list {
        let Some(text) = r.text(at) else { continue };
        let schema = text.strip_suffix(".*").and_then(table).filter(|table| table.schema.is_none());
        match schema {
            Some(schema) => drop(watch.insert(schema.name.0)),
            None => r.fault_at(at, format!("{} is not a schema", repeat(&text)), "write \"SCHEMA.*\""),
        }
    }
    watch
}

fn keep(r: &mut Reader, keys: &mut Keys<'_>, database: Database) -> BTreeMap<String, String> {
    let mut keep = BTreeMap::new();
    let Some(mut all) = keys.take(r, "keep").and_then(|at| r.keys(&at, &[])) else { return keep };
    for (name, at) in all.all(r) {
        let why = r.text(&at);
        match table(name) {
            Some(table) => keep.extend(why.map(|why| (table.full(database), why))),
            None => r.fault_at(
                &at,
                format!("{} is not a table's name", repeat(name)),
                "write keep = { \"SCHEMA.TABLE\" = \"the reason\" }",
            ),
        }
    }
    keep
}

fn reads(r: &mut Reader, keys: &mut Keys<'_>, database: Database) -> (Option<Select>, Vec<Counts>) {
    const NO_PERSON: (&str, &str) = (
        "has no person: nobody would be compared before something is destroyed",
        "write [read.person] with select = \"select id as user_id, email from users where id = $user_id\"",
    );
    let (mut person, mut reads) = (None, Vec::new());
    let Some(at) = keys.take(r, "read") else {
        r.fault(1, "read", NO_PERSON.0, NO_PERSON.1);
        return (None, reads);
    };
    let Some(mut table) = r.keys(&at, &[]) else { return (None, reads) };
    let mut has_person = false;
    for (name, at) in table.all(r) {
        let named = r.name(at.line, &at.place, name);
        if name == "person" {
            has_person = true;
            let Some(mut keys) = r.keys(&at, keys::PERSON) else { continue };
            let select = keys.must(r, "select", NO_PERSON.1);
            person = select.and_then(|at| self::select(r, &at, database, false));
            keys.finish(r);
            continue;
        }
        let Some(mut keys) = r.keys(&at, keys::COUNTS) else { continue };
        let list = keys.must(r, "counts", "write counts = [\"select count(*) from TABLE where COLUMN = $NAME\"]");
        let list = list.map(|at| some(r, &at)).unwrap_or_default();
        let counts: Vec<_> = list.iter().filter_map(|at| select(r, at, database, true)).collect();
        keys.finish(r);
        if named {
            reads.push(Counts { name: name.to_owned(), counts });
        }
    }
    if !has_person {
        r.fault(at.line, "read", NO_PERSON.0, NO_PERSON.1);
    }
    (person, reads)
}

/// The elements of a list that is neither empty nor too long.
fn some<'t>(r: &mut Reader, at: &At<'t>) -> Vec<At<'t>> {
    let mut list = r.list(at);
    if list.is_empty() && matches!(at.value, DeValue::Array(_)) {
        r.fault_at(at, "is an empty list", "write at least one statement");
    }
    if list.len() > MOST_STATEMENTS {
        r.fault_at(at, format!("has more than {MOST_STATEMENTS} statements"), "write a file for each part");
        list.truncate(MOST_STATEMENTS);
    }
    list
}

fn statement(r: &mut Reader, at: &At<'_>, database: Database) -> Option<Statement> {
    let text = match at.value {
        // A statement may have several lines, so it is not read as other texts are.
        DeValue::String(text) if !text.trim().is_empty() => text.to_string(),
        _ => r.text(at)?,
    };
    match erasure_statement::statement(&text, database) {
        Ok(statement) => Some(statement),
        Err(flaw) => {
            r.fault_at(at, flaw.problem, flaw.instead);
            None
        }
    }
}

fn select(r: &mut Reader, at: &At<'_>, database: Database, counts: bool) -> Option<Select> {
    match statement(r, at, database)? {
        Statement::Select(select) if select.columns.is_empty() == counts => Some(select),
        _ if counts => {
            r.fault_at(at, "counts nothing", "write select count(*) from TABLE where COLUMN = $NAME");
            None
        }
        _ => {
            r.fault_at(at, "reads no person", "write select COLUMN as NAME from TABLE where COLUMN = $NAME");
            None
        }
    }
}

fn acts(r: &mut Reader, keys: &mut Keys<'_>, database: Database, reads: &[String]) -> Vec<Act> {
    let mut acts: Vec<Act> = Vec::new();
    let Some(at) = keys.must(r, "act", "write [[act]] with name and statements") else { return acts };
    let DeValue::Array(_) = at.value else {
        r.fault_at(&at, "is one table", "write [[act]] with two brackets: acts are a list");
        return acts;
    };
    for at in &r.list(&at) {
        let Some(act) = self::act(r, at, database, reads) else { continue };
        if acts.iter().any(|known| known.name == act.name) {
            r.fault(at.line, &format!("act.{}", act.name), "is there twice", "give each act a name of its own");
        }
        acts.push(act);
    }
    acts
}

fn act(r: &mut Reader, at: &At<'_>, database: Database, reads: &[String]) -> Option<Act> {
    let mut keys = r.keys(at, keys::ACT)?;
    let name = keys.must(r, "name", "write name = \"erase\", for events and logs");
    let name = name.and_then(|name| r.text(&name).filter(|text| r.name(name.line, &name.place, text)));
    if let Some(name) = &name {
        keys.place = format!("act.{name}");
        r.lines.insert(keys.place.clone(), at.line);
    }
    let list = keys.must(r, "statements", "write statements = [{ sql = \"delete from TABLE where …\", most = 100 }]");
    let list = list.map(|at| some(r, &at)).unwrap_or_default();
    let changes: Vec<_> = list.iter().filter_map(|at| change(r, at, database)).collect();
    let lost = keys.must(
        r,
        "lost",
        "write lost = { read = \"NAME\" } (counts decide whether a COMMIT without an answer happened) or { ledger = true }",
    );
    let lost = lost.and_then(|at| self::lost(r, &at, reads));
    let evidence =
        keys.must(r, "evidence", "write evidence = { read = \"NAME\" }: counts on a new connection that must all be 0");
    let evidence = evidence.and_then(|at| {
        let mut keys = r.keys(&at, keys::EVIDENCE)?;
        let read = keys.must(r, "read", "write read = with the name of a read that has counts");
        let read = read.map(|at| named(r, &at, reads));
        keys.finish(r);
        read
    });
    keys.finish(r);
    Some(Act { name: name?, changes, lost: lost?, evidence: evidence? })
}

fn change(r: &mut Reader, at: &At<'_>, database: Database) -> Option<Change> {
    let mut keys = r.keys(at, keys::CHANGE)?;
    let sql = keys.must(r, "sql", "write sql = \"delete from TABLE where COLUMN = $NAME\"");
    let statement = sql.and_then(|at| {
        let statement = statement(r, &at, database)?;
        if matches!(statement, Statement::Select(_)) {
            r.fault_at(&at, "changes nothing", "write a DELETE or an UPDATE");
            return None;
        }
        Some(statement)
    });
    let (most, exactly) = (keys.take(r, "most"), keys.take(r, "exactly"));
    let rows = match (most, exactly) {
        (Some(at), None) => r.number(&at, 1, MOST_ROWS).map(Rows::Most),
        (None, Some(at)) => r.number(&at, 1, MOST_ROWS).map(Rows::Exactly),
        _ => {
            let problem = "does not say how many rows it may change: a wrong condition would empty the table";
            r.fault_at(at, problem, "write most = N or exactly = N; with more rows all is rolled back and refused");
            None
        }
    };
    keys.finish(r);
    Some(Change { statement: statement?, rows: rows? })
}

fn lost(r: &mut Reader, at: &At<'_>, reads: &[String]) -> Option<Lost> {
    let mut keys = r.keys(at, keys::LOST)?;
    let read = keys.take(r, "read");
    let ledger = keys.take(r, "ledger").is_some_and(|at| r.flag(&at));
    keys.finish(r);
    match (read, ledger) {
        (Some(read), false) => Some(Lost::Read(named(r, &read, reads))),
        (None, true) => Some(Lost::Ledger),
        _ => {
            r.fault_at(at, "must say exactly one thing", "write read = \"NAME\" or ledger = true");
            None
        }
    }
}

/// The places of named reads.
fn named(r: &mut Reader, at: &At<'_>, reads: &[String]) -> Vec<usize> {
    let mut found = Vec::new();
    for at in &r.one_or_more(at) {
        let Some(name) = r.text(at) else { continue };
        match reads.iter().position(|known| *known == name) {
            Some(index) if found.contains(&index) => r.fault_at(at, "is there twice", "name each read once"),
            Some(index) => found.push(index),
            None => {
                let instead = match nearest(&name, reads.iter().map(String::as_str)) {
                    Some(near) => format!("write {near:?} instead"),
                    None => "write the name of a read that has counts".to_owned(),
                };
                r.fault_at(at, format!("{} names no read with counts", repeat(&name)), instead);
            }
        }
    }
    found
}
