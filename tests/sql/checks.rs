//! What `systems check` refuses, and what it tells.

use std::process::Command;

use erasure_connector::load_file;
use erasure_worker::job::FailureKind;
use erasure_worker::systems::System as _;

use testkit::postgres::Postgres;

use crate::run::ann;
use crate::shop::{ERASED, FILE, Shop, port, system_at};

#[tokio::test]
async fn a_role_that_can_do_more_than_change_rows_is_refused() {
    let shop = Shop::open().await;
    assert_eq!(shop.system().probe().await, Ok(()));
    let superuser = shop.system_with(FILE, "postgres", port()).probe().await.unwrap_err();
    assert!(superuser.to_string().contains("superuser"), "{superuser}");
    for (statements, undone, note) in [
        (
            "alter table sessions owner to worker",
            "alter table sessions owner to postgres; grant select, delete, update on sessions to worker",
            "owns a table",
        ),
        ("grant create on schema public to worker", "revoke create on schema public from worker", "make tables"),
        (
            &format!("grant create on database {} to worker", shop.name)[..],
            &format!("revoke create on database {} from worker", shop.name)[..],
            "make schemas",
        ),
        ("revoke delete on sessions from worker", "grant delete on sessions to worker", "no right to a statement"),
        (
            "alter table sessions rename to meetings",
            "alter table meetings rename to sessions",
            "is not in the database",
        ),
        ("alter table orders rename name to label", "alter table orders rename label to name", "column is wrong"),
    ] {
        shop.run(statements).await;
        let failure = shop.system().probe().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::UnauthorisedOurs, "{statements}");
        assert!(failure.to_string().contains(note), "{statements}: {failure}");
        shop.run(undone).await;
    }
    assert_eq!(shop.system().probe().await, Ok(()));
}

#[tokio::test]
async fn a_ledger_must_be_unique_and_writable() {
    let shop = Shop::open().await;
    let file = FILE
        .replace("watch =", "ledger = \"erasure_done\"\nwatch =")
        .replace("lost = { read = \"rest\" }", "lost = { ledger = true }");
    let probe = async || shop.system_with(&file, "worker", port()).probe().await;
    assert_eq!(probe().await, Ok(()));
    shop.run("revoke insert on erasure_done from worker").await;
    assert!(probe().await.unwrap_err().to_string().contains("no right"));
    shop.run("grant insert on erasure_done to worker; alter table erasure_done drop constraint erasure_done_pkey")
        .await;
    assert!(probe().await.unwrap_err().to_string().contains("digest is not unique"));
}

/// Without `sslmode=disable` a connection is encrypted, and the server's name is checked.
#[tokio::test]
async fn a_connection_is_encrypted_to_the_named_server() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let shop = Shop::open_on(&server).await;
    let url = |host: &str, port: u16| format!("postgresql://worker@{host}:{port}/{}", shop.name);
    let plain = system_at(FILE, &url("localhost", server.port()), None);
    assert_eq!(plain.probe().await.unwrap_err().kind, FailureKind::Unavailable, "without encryption");
    let (server, ca) = tokio::task::spawn_blocking(move || {
        let ca = server.encrypt();
        (server, ca)
    })
    .await
    .unwrap();
    let at = |host: &str, ca| system_at(FILE, &url(host, server.port()), ca);
    assert_eq!(at("localhost", Some(ca.clone())).probe().await, Ok(()));
    for (host, ca, why) in [("127.0.0.1", Some(ca), "another name"), ("localhost", None, "another authority")] {
        assert_eq!(at(host, ca).probe().await.unwrap_err().kind, FailureKind::Unavailable, "{why}");
    }
}

#[tokio::test]
async fn tables_that_nobody_covers_are_told() {
    let shop = Shop::open().await;
    let survey = async || shop.system().survey().await.unwrap();
    assert_eq!(survey().await, Vec::<String>::new());
    shop.run(
        "create schema crm; create table letters (email text); create table crm.letters (email text); create table \
         crm.calls (about bigint references public.users)",
    )
    .await;
    assert_eq!(
        survey().await,
        [
            "crm.calls refers to public.users by about; cover it, or write it in keep",
            "public.letters has the column email; cover it, or write it in keep",
        ]
    );
}

#[tokio::test]
async fn a_draft_of_a_real_database_erases_after_its_gaps_are_filled() {
    let shop = Shop::open().await;
    shop.run(
        "alter table orders add foreign key (user_id) references users; alter table sessions add foreign key (user_id) \
         references users",
    )
    .await;
    let draft = |url: String, table: &str| {
        let arguments = ["connector", "draft", "--url-env", "SHOP_URL", "--table", table, "--key", "id"];
        Command::new(testkit::program()).args(arguments).env("SHOP_URL", url).output().unwrap()
    };
    let made = draft(shop.url("worker", port()), "users");
    let text = String::from_utf8(made.stdout).unwrap();
    assert!(text.contains("#   public.invoices"), "{text}");
    assert!(load_file(text.as_bytes()).is_err(), "a gap loads");
    let filled = text.replace("\"FILL: a name for events\"", "\"shop\"").replace("\"FILL\"", "100");
    ann(&filled).end(&shop.system_with(&filled, "worker", port())).await.unwrap();
    assert_eq!(shop.rows().await, ERASED.replace("orders 1 - erased-1, 2 - erased-2, ", "orders "));
    for (url, table, code, says) in [
        (shop.url("worker", port()), "people", 2, "no table public.people"),
        (shop.url("nobody", port()), "users", 1, "role, database, table or column is wrong (28000)"),
        ("https://a@b/c".to_owned(), "users", 1, "must begin with postgresql:// or mysql://"),
    ] {
        let refused = draft(url, table);
        assert_eq!(refused.status.code(), Some(code), "{says}");
        assert!(String::from_utf8(refused.stderr).unwrap().contains(says), "{says}");
    }
}
