//! What PostgreSQL's catalogue says: the role's rights, the tables, the foreign keys.
//!
//! The rule it keeps: the role can change rows, and nothing else.

use std::collections::BTreeMap;

use erasure_connector::sql::{Catalogue, Reference, TableInfo};
use tokio_postgres::types::ToSql;

use super::super::database::{Checked, ours, unavailable};
use super::{Session, Text, error};
use crate::job::{Failure, Note};

/// True if the role can do more than change rows, for tables in these schemas.
const ROLE: &str = "select (select rolsuper or rolcreaterole or rolcreatedb or rolreplication from pg_roles where \
                    rolname = current_user), has_database_privilege(current_user, current_database(), 'CREATE')";
const TABLE: &str = "select coalesce(pg_has_role(current_user, c.relowner, 'USAGE'), true), coalesce(\
                     has_schema_privilege(current_user, c.relnamespace, 'CREATE'), true) from pg_class c where c.oid = \
                     to_regclass($1)";
const OTHERS: &str = "select count(*) from unnest($1::text[]) as t (name) join pg_class c on c.oid = \
                      to_regclass(t.name) where c.relkind not in ('r', 'p')";
const LEDGER: &str = "select count(*) from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = \
                      i.indkey[0] where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and \
                      i.indnkeyatts = 1 and i.indpred is null and a.attname = 'digest'";
const COLUMNS: &str = "select n.nspname::text, c.relname::text, a.attname::text, t.typcategory = 'N' from pg_class c join \
                       pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid join pg_type \
                       t on t.oid = a.atttypid where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition and \
                       a.attnum > 0 and not a.attisdropped and n.nspname not in ('pg_catalog', 'information_schema') and \
                       n.nspname not like 'pg\\_%' order by 1, 2, a.attnum";
const REFERENCES: &str = "select fn.nspname::text, f.relname::text, fa.attname::text, tn.nspname::text, t.relname::text, \
                          ta.attname::text from pg_constraint k join pg_class f on f.oid = k.conrelid join pg_namespace \
                          fn on fn.oid = f.relnamespace join pg_class t on t.oid = k.confrelid join pg_namespace tn on \
                          tn.oid = t.relnamespace join pg_attribute fa on fa.attrelid = f.oid and fa.attnum = \
                          k.conkey[1] join pg_attribute ta on ta.attrelid = t.oid and ta.attnum = k.confkey[1] where \
                          k.contype = 'f' and not f.relispartition and not t.relispartition order by 1, 2, 3";

/// A table's name, in full and in quotes.
pub(super) fn full((schema, name): &(Option<String>, String)) -> String {
    format!("\"{}\".\"{name}\"", schema.as_deref().unwrap_or("public"))
}

/// Refuses views and tables of other databases: rows that they do not show are neither found nor counted.
pub(super) async fn are_tables(session: &Session, tables: &[String]) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| error::before_commit(&error);
    let row = session.client.query_one(OTHERS, &[&tables]).await.map_err(failed)?;
    match row.try_get::<_, i64>(0).map_err(|_| unavailable("the catalogue cannot be read"))? {
        0 => Ok(()),
        _ => Err(ours("a table of the file is a view or a foreign table: name the tables behind it")),
    }
}

/// See [`super::Database::check`].
pub(super) async fn check(session: &Session, checked: &Checked) -> Result<bool, Failure> {
    const FEWER: &str = ": use a role that owns nothing and has only SELECT, UPDATE and DELETE";
    let failed = |error: tokio_postgres::Error| error::before_commit(&error);
    let unreadable = |_| unavailable("the catalogue cannot be read");
    let role = session.client.query_one(ROLE, &[]).await.map_err(failed)?;
    if role.try_get(0).map_err(unreadable)? {
        return Err(ours(Note::from("the role is a superuser, or may make roles or databases").and(FEWER)));
    }
    if role.try_get(1).map_err(unreadable)? {
        return Err(ours(Note::from("the role may make schemas").and(FEWER)));
    }
    for table in checked.changed.iter().chain(&checked.ledger) {
        let rows = session.client.query(TABLE, &[&full(table)]).await.map_err(failed)?;
        let Some(row) = rows.first() else { return Err(ours("a table of the file is not in the database")) };
        if row.try_get(0).map_err(unreadable)? {
            return Err(ours(Note::from("the role owns a table of the file").and(FEWER)));
        }
        if row.try_get(1).map_err(unreadable)? {
            return Err(ours(Note::from("the role may make tables (revoke create on schema)").and(FEWER)));
        }
    }
    if let Some(ledger) = &checked.ledger {
        let row = session.client.query_one(LEDGER, &[&full(ledger)]).await.map_err(failed)?;
        if row.try_get::<_, i64>(0).map_err(unreadable)? == 0 {
            return Err(ours("the ledger's column digest is not unique: make it the primary key"));
        }
    }
    // The plan of a statement needs its tables, its columns and the rights to it. Nothing is run.
    for bound in &checked.statements {
        let nothing: Vec<Text<'_>> = bound.values.iter().map(|_| Text(None)).collect();
        let nothing: Vec<&(dyn ToSql + Sync)> = nothing.iter().map(|value| value as _).collect();
        let text = format!("explain {}", bound.text);
        session.client.query(&text, &nothing).await.map_err(failed)?;
    }
    let found = session.client.query(&checked.any_person, &[]).await.map_err(failed)?;
    Ok(!found.is_empty())
}

/// See [`super::Database::catalogue`].
pub(super) async fn read(session: &Session) -> Result<Catalogue, Failure> {
    let failed = |error: tokio_postgres::Error| error::before_commit(&error);
    let unreadable = |_| unavailable("the catalogue cannot be read");
    let mut tables: BTreeMap<String, TableInfo> = BTreeMap::new();
    for row in session.client.query(COLUMNS, &[]).await.map_err(failed)? {
        let text = |place: usize| row.try_get::<_, String>(place).map_err(unreadable);
        let name = format!("{}.{}", text(0)?, text(1)?);
        let table = tables.entry(name.clone()).or_insert_with(|| TableInfo { name, columns: Vec::new() });
        table.columns.push((text(2)?, row.try_get(3).map_err(unreadable)?));
    }
    let mut references = Vec::new();
    for row in session.client.query(REFERENCES, &[]).await.map_err(failed)? {
        let text = |place: usize| row.try_get::<_, String>(place).map_err(unreadable);
        references.push(Reference {
            from: format!("{}.{}", text(0)?, text(1)?),
            column: text(2)?,
            to: format!("{}.{}", text(3)?, text(4)?),
            key: text(5)?,
        });
    }
    Ok(Catalogue { home: Some("public".to_owned()), tables: tables.into_values().collect(), references })
}
