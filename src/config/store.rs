//! `[store]`: where progress is kept.
//!
//! The rule it keeps: a database in production is reached through an encrypted connection, or on the same machine.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::cursor::Cursor;
use super::setting::Choice;
use crate::systems::sql::{StoreFiles, store_address};

const SECOND: Duration = Duration::from_secs(1);

/// Where progress is kept.
#[derive(Debug, Default)]
pub enum StoreConfig {
    /// In the folder `worker.state_dir`.
    #[default]
    Sled,
    /// In a database: the worker needs no disk.
    Postgres(PostgresConfig),
}

/// `[store.postgres]`
#[derive(Debug)]
pub struct PostgresConfig {
    /// The address, with user and password.
    pub url: SecretString,
    /// The certificates.
    pub files: StoreFiles,
    /// The schema with the store's tables.
    pub schema: String,
    /// The connections of this process.
    pub connections: u32,
    /// The time limit of a statement.
    pub statement_timeout: Duration,
    /// Whether a standby that streams asynchronously is reported.
    pub durability: Durability,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreKind {
    Sled,
    Postgres,
}

impl Choice for StoreKind {
    const WORDS: &'static [(&'static str, Self)] = &[("sled", Self::Sled), ("postgres", Self::Postgres)];
}

/// What a failover of the database may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing; a standby that streams asynchronously is reported.
    Synchronous,
    /// The operator vouches that a failover loses nothing.
    Trusted,
}

impl Choice for Durability {
    const WORDS: &'static [(&'static str, Self)] = &[("synchronous", Self::Synchronous), ("trusted", Self::Trusted)];
}

/// Reads the section. `None` only if a fault was recorded.
pub(super) fn read(mut at: Cursor<'_>) -> Option<StoreConfig> {
    let kind = at.or("kind", StoreKind::Sled);
    let has_section = at.has("postgres");
    let section = at.section("postgres");
    let read = match kind {
        StoreKind::Sled => {
            if has_section {
                at.fault("postgres", "has no effect: store.kind is not \"postgres\"");
            }
            section.abandon();
            Some(StoreConfig::Sled)
        }
        StoreKind::Postgres => postgres(section).map(StoreConfig::Postgres),
    };
    at.finish();
    read
}

fn postgres(mut at: Cursor<'_>) -> Option<PostgresConfig> {
    let url = at.required_secret("url");
    let ca_file = at.optional::<PathBuf>("ca_file");
    let client_cert_file = at.optional::<PathBuf>("client_cert_file");
    let client_key_file = at.optional::<PathBuf>("client_key_file");
    let schema: String = at.or("schema", "erasure".to_owned());
    if !is_schema(&schema) {
        at.fault("schema", "expected a name of the form [a-z_][a-z0-9_]{0,62} that does not begin with pg_");
    }
    let connections = at.or_within("connections", 8, 3..=64);
    let statement_timeout = at.or_within("statement_timeout", 5 * SECOND, SECOND..=60 * SECOND);
    let durability = at.or("durability", Durability::Synchronous);
    let client_cert = match (client_cert_file, client_key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            at.fault("client_key_file", "is required together with client_cert_file");
            None
        }
        (None, Some(_)) => {
            at.fault("client_cert_file", "is required together with client_key_file");
            None
        }
    };
    let files = StoreFiles { ca_file, client_cert };
    if let Some(url) = &url
        && let Err((key, problem)) = store_address(url, &files)
    {
        at.fault(key, problem);
    }
    at.finish();
    Some(PostgresConfig { url: url?, files, schema, connections, statement_timeout, durability })
}

fn is_schema(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    text.len() <= 63
        && text.starts_with(first)
        && !text.starts_with("pg_")
        && text.chars().all(|c| first(c) || c.is_ascii_digit())
}
