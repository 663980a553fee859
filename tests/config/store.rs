//! `[store]`: every fault is named, and no secret is shown.

use erasure_worker::config::StoreConfig;

use crate::{SMALL, parse};

#[test]
fn the_store_is_in_the_folder_unless_a_database_is_named_and_every_fault_is_told() {
    let read = |store: &str| parse(&format!("{SMALL}\n{store}"), &[]);
    let postgres = "[store]\nkind = \"postgres\"\n[store.postgres]\n";
    let local = "url = \"postgresql://u:s3cret@localhost/d?sslmode=disable\"\n";
    assert!(matches!(read("").unwrap().store, StoreConfig::Sled));
    assert!(matches!(read(&format!("{postgres}{local}")).unwrap().store, StoreConfig::Postgres(_)));
    for (store, fault) in [
        ("[store]\nkind = \"redis\"".to_owned(), "store.kind: expected one of \"sled\", \"postgres\""),
        ("[store.postgres]\nschema = \"a\"".to_owned(), "store.postgres: has no effect"),
        (postgres.to_owned(), "store.postgres.url: is required"),
        (format!("{postgres}url = \"mysql://u:s3cret@h/d\""), "store.postgres.url: must begin with postgresql://"),
        (
            format!("{postgres}url = \"postgresql://u:s3cret@db.example.com/d?sslmode=disable\""),
            "store.postgres.url: must be encrypted",
        ),
        (format!("{postgres}{local}schema = \"Erasure; drop\""), "store.postgres.schema: expected a name"),
        (format!("{postgres}{local}schema = \"pg_erasure\""), "store.postgres.schema: expected a name"),
        (format!("{postgres}{local}connections = 2"), "store.postgres.connections: must lie between"),
        (format!("{postgres}{local}statement_timeout = \"1ms\""), "store.postgres.statement_timeout: must lie between"),
        (format!("{postgres}{local}durability = \"maybe\""), "store.postgres.durability: expected one of"),
        (format!("{postgres}{local}client_key_file = \"k\""), "store.postgres.client_cert_file: is required"),
        (
            format!("{postgres}url = \"postgresql://u:s3cret@db.example.com/d\"\nca_file = \"none.pem\""),
            "ca_file: cannot be",
        ),
        (format!("{postgres}{local}lease = \"1s\""), "store.postgres.lease"),
    ] {
        let found = read(&store).map(drop).unwrap_err().to_string();
        assert!(found.contains(fault), "{fault}: {found}");
        assert!(!found.contains("s3cret"), "{found}");
    }
}
