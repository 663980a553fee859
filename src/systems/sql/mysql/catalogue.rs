//! What MySQL's catalogue says: the role's rights, the tables, the foreign keys.
//!
//! The rule it keeps: the role can change rows, and nothing else. A table that the role may not read is not in the
//! catalogue, so it must be able to read every watched schema.

use std::collections::BTreeMap;

use erasure_connector::sql::{Catalogue, Reference, TableInfo};
use mysql_async::{Row, Value};

use super::super::database::{Checked, ours, unavailable};
use super::Session;
use crate::job::{Failure, Note};

/// The role as the catalogue writes it.
const GRANTEE: &str = "concat('''', substring_index(current_user(), '@', 1), '''@''', substring_index(current_user(), \
                       '@', -1), '''')";
/// The rights that a role may have.
const PERMITTED: &str = "('USAGE', 'SELECT', 'INSERT', 'UPDATE', 'DELETE')";
const COLUMNS: &str = "select table_schema, table_name, column_name, data_type in ('tinyint', 'smallint', 'mediumint', \
                       'int', 'bigint', 'decimal') from information_schema.columns where table_schema not in \
                       ('mysql', 'information_schema', 'performance_schema', 'sys') order by 1, 2, ordinal_position";
const REFERENCES: &str = "select table_schema, table_name, column_name, referenced_table_schema, \
                          referenced_table_name, referenced_column_name from information_schema.key_column_usage where \
                          referenced_table_name is not null and ordinal_position = 1 order by 1, 2, 3";

/// Refuses tables whose changes cannot be rolled back.
pub(super) async fn can_roll_back(session: &mut Session, tables: &[(String, String)]) -> Result<(), Failure> {
    for (schema, name) in tables {
        let text =
            "select coalesce(engine, '') from information_schema.tables where table_schema = ? and table_name = ?";
        let rows = session.query(text, vec![schema.as_str().into(), name.as_str().into()]).await?;
        match rows.first().map(|row| cell(row, 0)).transpose()?.as_deref() {
            None => return Err(ours("a table of the file is not in the database, or the role may not see it")),
            Some("InnoDB") => {}
            Some(_) => {
                return Err(ours(
                    "a table is a view, or not of the engine InnoDB: a rollback would not undo its changes",
                ));
            }
        }
    }
    Ok(())
}

/// See [`super::Database::check`].
pub(super) async fn check(
    session: &mut Session,
    checked: &Checked,
    schema: &str,
    tables: &[(String, String)],
) -> Result<bool, Failure> {
    can_roll_back(session, tables).await?;
    for table in ["user_privileges", "schema_privileges", "table_privileges"] {
        let text = format!(
            "select count(*) from information_schema.{table} where grantee = {GRANTEE} and (privilege_type not in \
             {PERMITTED} or is_grantable = 'YES')"
        );
        if number(session, &text, Vec::new()).await? > 0 {
            let note =
                Note::from("the role can do more than change rows: use one with only SELECT, INSERT, UPDATE and ");
            return Err(ours(note.and("DELETE, and without the right to grant them")));
        }
    }
    for watched in &checked.watch {
        let text = format!(
            "select (select count(*) from information_schema.user_privileges where grantee = {GRANTEE} and \
             privilege_type = 'SELECT') + (select count(*) from information_schema.schema_privileges where grantee = \
             {GRANTEE} and privilege_type = 'SELECT' and ? like table_schema)"
        );
        if number(session, &text, vec![watched.as_str().into()]).await? == 0 {
            return Err(ours(
                "the role may not read a watched schema as a whole: tables that it cannot see are not told",
            ));
        }
    }
    if let Some((of, name)) = &checked.ledger {
        let text = "select count(*) from information_schema.statistics s where table_schema = ? and table_name = ? and \
                    column_name = 'digest' and non_unique = 0 and seq_in_index = 1 and not exists (select 1 from \
                    information_schema.statistics o where o.table_schema = s.table_schema and o.table_name = \
                    s.table_name and o.index_name = s.index_name and o.seq_in_index > 1)";
        let of = of.as_deref().unwrap_or(schema);
        if number(session, text, vec![of.into(), name.as_str().into()]).await? == 0 {
            return Err(ours("the ledger's column digest is not unique: make it the primary key"));
        }
    }
    // The plan of a statement needs its tables, its columns and the rights to it. Nothing is run.
    for bound in &checked.statements {
        let nothing = bound.values.iter().map(|_| Value::NULL).collect();
        session.query(&format!("explain {}", bound.text), nothing).await?;
    }
    Ok(!session.query(&checked.any_person, Vec::new()).await?.is_empty())
}

/// See [`super::Database::catalogue`].
pub(super) async fn read(session: &mut Session, schema: &str) -> Result<Catalogue, Failure> {
    let mut tables: BTreeMap<String, TableInfo> = BTreeMap::new();
    for row in session.query(COLUMNS, Vec::new()).await? {
        let name = format!("{}.{}", cell(&row, 0)?, cell(&row, 1)?);
        let table = tables.entry(name.clone()).or_insert_with(|| TableInfo { name, columns: Vec::new() });
        let is_number = matches!(row.as_ref(3), Some(Value::Int(1) | Value::UInt(1)));
        table.columns.push((cell(&row, 2)?.to_ascii_lowercase(), is_number));
    }
    let mut references = Vec::new();
    for row in session.query(REFERENCES, Vec::new()).await? {
        references.push(Reference {
            from: format!("{}.{}", cell(&row, 0)?, cell(&row, 1)?),
            column: cell(&row, 2)?.to_ascii_lowercase(),
            to: format!("{}.{}", cell(&row, 3)?, cell(&row, 4)?),
            key: cell(&row, 5)?.to_ascii_lowercase(),
        });
    }
    Ok(Catalogue { home: Some(schema.to_owned()), tables: tables.into_values().collect(), references })
}

async fn number(session: &mut Session, text: &str, values: Vec<Value>) -> Result<i64, Failure> {
    let rows = session.query(text, values).await?;
    match rows.first().and_then(|row| row.as_ref(0)) {
        Some(Value::Int(number)) => Ok(*number),
        Some(Value::UInt(number)) => Ok(i64::try_from(*number).unwrap_or(i64::MAX)),
        _ => Err(unavailable("the catalogue cannot be read")),
    }
}

fn cell(row: &Row, place: usize) -> Result<String, Failure> {
    match row.as_ref(place) {
        Some(Value::Bytes(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        _ => Err(unavailable("the catalogue cannot be read")),
    }
}
