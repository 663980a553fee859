//! The store in PostgreSQL: one owner, lost answers, a server that ends, freezes, fails over or forgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use erasure_worker::store::postgres::{Address, MAY_FORGET, Options, PostgresStore};
use erasure_worker::store::{Batch, DurableStore as _, Store, StoreError, Table, Wanted};
use testkit::postgres::Postgres;
use testkit::relay::Relay;
use tokio::task::JoinHandle;

use crate::{job, put};

/// The options of a schema for one test. Names are cut: PostgreSQL cuts longer ones too.
pub fn options(test: &str) -> Options {
    let schema: String = test.chars().take(60).collect();
    Options {
        schema,
        connections: 4,
        statement_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(60),
        checks_standbys: true,
    }
}

pub fn at(port: u16) -> Address {
    let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    Address { config: url.parse().unwrap(), tls: None }
}

fn try_open(port: u16, options: Options) -> Result<PostgresStore, StoreError> {
    tokio::task::block_in_place(|| PostgresStore::open(&at(port), options)).map(|opened| opened.store)
}

/// A store in a schema of its own.
pub fn open(test: &str) -> PostgresStore {
    try_open(Postgres::durable().port(), options(test)).unwrap()
}

/// A plain connection beside the store.
async fn sql(port: u16, text: &str) -> Vec<String> {
    let config: tokio_postgres::Config = format!("host=127.0.0.1 port={port} user=postgres").parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let task = tokio::spawn(connection);
    let messages = client.simple_query(text).await.unwrap();
    drop(client);
    let _ = task.await;
    let row = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Adds one to a number, if it still is what was read. A write that is made twice, or lost, shows.
async fn count(store: &PostgresStore, counted: &mut u64) -> Result<(), StoreError> {
    let old = (*counted > 0).then(|| counted.to_be_bytes().to_vec());
    let next = *counted + 1;
    let mut batch = put(b"count", &next.to_be_bytes());
    batch.expect(Table::Job, b"count", old);
    batch.put(Table::Journal, next.to_be_bytes(), b"entry");
    store.submit(batch).await?;
    *counted = next;
    Ok(())
}

/// Counts one further while the database is away, and returns once the store says that it is.
async fn counting_without_database(store: &Arc<PostgresStore>, mut number: u64) -> JoinHandle<u64> {
    let waiting = tokio::spawn({
        let store = Arc::clone(store);
        async move {
            count(&store, &mut number).await.unwrap();
            number
        }
    });
    while store.ailments().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waiting
}

fn counted(store: &PostgresStore) -> (u64, u64) {
    let last = job(store, b"count").map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    (last, store.scan(Table::Journal, b"", None, usize::MAX).unwrap().len() as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_finds_everything_and_need_not_wait_after_a_clean_stop() {
    let name = "the_next_process";
    let store = open(name);
    store.submit(put(b"k", b"v")).await.unwrap();
    store.note(b"start", Some(b"1")).await.unwrap();
    let began = Instant::now();
    store.close();
    assert!(matches!(store.submit(put(b"late", b"v")).await, Err(StoreError::Closed)));
    drop(store);
    let store = open(name);
    assert!(began.elapsed() < options(name).lease / 2, "the lease was given back");
    assert_eq!(job(&store, b"k"), Some(b"v".to_vec()));
    assert_eq!(store.notes().unwrap(), [(b"start".to_vec(), b"1".to_vec())]);
    assert!(store.vouched_for().unwrap() > Duration::from_secs(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_while_the_first_one_lives() {
    let first = open("a_second_process");
    let refused = try_open(Postgres::durable().port(), options("a_second_process"));
    assert!(matches!(refused, Err(StoreError::Held { .. })), "{:?}", refused.err());
    first.submit(put(b"k", b"v")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_lease_a_process_writes_nothing_more_and_stops() {
    let database = Postgres::durable();
    let relay = Relay::start(database.port(), b"").await;
    let options = Options { lease: Duration::from_secs(3), ..options("after_a_lost_lease") };
    let first = try_open(relay.port(), options.clone()).unwrap();
    first.submit(put(b"k", b"first")).await.unwrap();
    relay.refuse(true);
    relay.cut();
    let waits = first.submit(put(b"k", b"too late"));
    let note = first.note(b"start", Some(b"1"));
    // It waits for the end of the lease of a process that shows no sign of life.
    let second = try_open(database.port(), options).unwrap();
    assert_eq!(first.vouched_for(), Some(Duration::ZERO));
    second.submit(put(b"k", b"second")).await.unwrap();
    assert!(matches!(note.await, Err(StoreError::Away { .. })));
    relay.refuse(false);
    let refused = waits.await.unwrap_err();
    assert!(refused.is_fatal() && refused.to_string().contains("taken over"), "{refused}");
    assert!(first.broken().borrow().is_some());
    assert!(first.note(b"start", Some(b"2")).await.is_err());
    assert_eq!(job(&second, b"k"), Some(b"second".to_vec()));
    assert_eq!(second.notes().unwrap(), []);
    second.submit(put(b"k", b"again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let relay = Arc::new(Relay::start(Postgres::durable().port(), b"").await);
    let store = try_open(relay.port(), options("a_commit_whose_answer")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let cutting = tokio::spawn({
        let (relay, done) = (Arc::clone(&relay), Arc::clone(&done));
        async move {
            let mut cuts = 0_u64;
            while !done.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_micros(5_000 + cuts * 7919 % 90_000)).await;
                relay.cut();
                cuts += 1;
            }
            cuts
        }
    });
    let mut number = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        count(&store, &mut number).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let cuts = cutting.await.unwrap();
    println!("{number} commits, {cuts} cuts");
    assert!(number > 10 && cuts > 10);
    assert_eq!(counted(&store), (number, number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_ends_of_the_server_and_nothing_fails_meanwhile() {
    let database = Postgres::with(&["fsync=on"]);
    let store = Arc::new(try_open(database.port(), options("ends")).unwrap());
    let (mut number, mut told) = (0, 0);
    for _ in 0..3 {
        for _ in 0..50 {
            count(&store, &mut number).await.unwrap();
        }
        tokio::task::block_in_place(|| database.crash());
        let waiting = counting_without_database(&store, number).await;
        told += 1;
        assert!(matches!(store.get(Table::Ended, b"not read before"), Err(StoreError::Away { .. })));
        assert!(!waiting.is_finished(), "no ticket resolves while nobody knows");
        tokio::task::block_in_place(|| database.boot(&["fsync=on"]));
        number = waiting.await.unwrap();
        assert_eq!(store.ailments(), []);
        assert_eq!(counted(&store), (number, number));
    }
    assert_eq!(told, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_waited_for_and_a_stop_does_not_wait_for_ever() {
    let database = Postgres::with(&["fsync=on"]);
    let options = Options { statement_timeout: Duration::from_secs(1), ..options("frozen") };
    let store = Arc::new(try_open(database.port(), options).unwrap());
    let mut number = 0;
    count(&store, &mut number).await.unwrap();
    database.freeze(true);
    let waiting = counting_without_database(&store, number).await;
    database.freeze(false);
    number = waiting.await.unwrap();
    assert_eq!(counted(&store), (number, number));
    database.freeze(true);
    let unknown = store.submit(put(b"last", b"v"));
    tokio::task::block_in_place(|| store.close());
    assert!(unknown.await.is_err(), "nobody knows whether it was written");
    database.freeze(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_forgot_acknowledged_commits_stops_the_process() {
    let database = Postgres::with(&["fsync=on"]);
    let standby = tokio::task::block_in_place(|| database.standby("behind"));
    let relay = Relay::start(database.port(), b"").await;
    let short = Options { lease: Duration::from_secs(2), ..options("forgets") };
    let store = try_open(relay.port(), short.clone()).unwrap();
    let mut number = 0;
    for _ in 0..10 {
        count(&store, &mut number).await.unwrap();
    }
    let seen = |port| sql(port, "select max(last_batch) from forgets.slice");
    while seen(standby.port()).await != seen(database.port()).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The primary goes on without its standby, and is lost.
    tokio::task::block_in_place(|| standby.crash());
    for _ in 0..10 {
        count(&store, &mut number).await.unwrap();
    }
    tokio::task::block_in_place(|| {
        database.crash();
        standby.boot(&["fsync=on"]);
        standby.promote();
    });
    relay.turn_to(standby.port());
    let refused = store.submit(put(b"k", b"v")).await.unwrap_err();
    assert!(refused.is_fatal() && refused.to_string().contains("forgotten"), "{refused}");
    assert!(store.broken().borrow().is_some());
    drop(store);
    // The next process reads what is there.
    let store = try_open(standby.port(), short).unwrap();
    assert_eq!(counted(&store), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing_and_ends_nothing() {
    let database = Postgres::with(&["fsync=on"]);
    let standby = tokio::task::block_in_place(|| database.standby("mirror"));
    sql(database.port(), "alter system set synchronous_standby_names = 'mirror'").await;
    sql(database.port(), "select pg_reload_conf()").await;
    let synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    while sql(database.port(), synchronous).await != ["1"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let relay = Relay::start(database.port(), b"").await;
    let store = Arc::new(try_open(relay.port(), options("fails_over")).unwrap());
    let mut number = 0;
    for _ in 0..20 {
        count(&store, &mut number).await.unwrap();
    }
    tokio::task::block_in_place(|| database.crash());
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for _ in 0..20 {
                count(&store, &mut number).await.unwrap();
            }
            number
        }
    });
    // A standby that is not promoted yet is no primary.
    relay.turn_to(standby.port());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    sql(standby.port(), "show transaction_read_only").await;
    tokio::task::block_in_place(|| standby.promote());
    // The standby has the primary's settings, and no standby of its own.
    sql(standby.port(), "alter system reset synchronous_standby_names").await;
    sql(standby.port(), "select pg_reload_conf()").await;
    assert_eq!(waiting.await.unwrap(), 40);
    assert_eq!(counted(&store), (40, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_is_reported_unless_the_operator_vouches_for_it() {
    let database = Postgres::with(&["fsync=on"]);
    let _standby = tokio::task::block_in_place(|| database.standby("copy"));
    let store = try_open(database.port(), options("standbys")).unwrap();
    assert_eq!(store.ailments().iter().map(|(what, _)| *what).collect::<Vec<_>>(), [MAY_FORGET]);
    drop(store);
    let trusted = Options { checks_standbys: false, ..options("standbys") };
    assert_eq!(try_open(database.port(), trusted).unwrap().ailments(), []);
    sql(database.port(), "alter system set synchronous_standby_names = 'copy'").await;
    sql(database.port(), "select pg_reload_conf()").await;
    while sql(database.port(), "show synchronous_standby_names").await != ["copy"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let store = try_open(database.port(), options("standbys")).unwrap();
    assert_eq!(store.ailments(), []);
    store.submit(put(b"k", b"v")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_could_forget_or_cannot_be_written_is_refused_with_the_reason() {
    let why = |opened: Result<PostgresStore, StoreError>| opened.map(drop).unwrap_err().to_string();
    let database = Postgres::durable();
    let loose = Postgres::start();
    assert!(why(try_open(loose.port(), options("loose"))).contains("fsync is off"));
    tokio::task::block_in_place(|| {
        loose.crash();
        loose.boot(&["fsync=on", "full_page_writes=off"]);
    });
    assert!(why(try_open(loose.port(), options("loose"))).contains("full_page_writes"));
    sql(database.port(), "create role poor login").await;
    let poor = Address {
        config: format!("host=127.0.0.1 port={} user=poor dbname=postgres", database.port()).parse().unwrap(),
        tls: None,
    };
    let opened = tokio::task::block_in_place(|| PostgresStore::open(&poor, options("poor")));
    let error = opened.map(|opened| drop(opened.store)).unwrap_err().to_string();
    assert!(error.contains("42501") && error.contains("schema"), "{error}");
    let nobody = why(try_open(testkit::rabbit::free_ports::<1>()[0], options("nobody")));
    assert!(nobody.contains("away"), "{nobody}");
    let store = open("newer");
    drop(store);
    sql(database.port(), "update newer.version set version = 9").await;
    assert!(matches!(try_open(database.port(), options("newer")), Err(StoreError::Newer { found: 9, known: 1, .. })));
    // A role's own setting does not make commits asynchronous.
    sql(database.port(), "create role hasty login; grant create on database postgres to hasty; alter role hasty set synchronous_commit = off").await;
    let hasty = Address {
        config: format!("host=127.0.0.1 port={} user=hasty dbname=postgres", database.port()).parse().unwrap(),
        tls: None,
    };
    drop(tokio::task::block_in_place(|| PostgresStore::open(&hasty, options("hasty"))).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_make_the_tables_at_the_same_time_are_one_owner_and_one_that_is_refused() {
    let port = Postgres::durable().port();
    let openings: Vec<_> = (0..3)
        .map(|_| tokio::task::spawn_blocking(move || PostgresStore::open(&at(port), options("at_the_same_time"))))
        .collect();
    let mut owners = Vec::new();
    let mut held = 0;
    for opening in openings {
        match opening.await.unwrap() {
            Ok(opened) => owners.push(opened.store),
            Err(StoreError::Held { .. }) => held += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((owners.len(), held), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_warmed_or_read_before_need_no_trip_and_are_the_newest() {
    let store = open("warmed");
    let mut batch = put(b"job", b"record");
    for n in 0..700_u32 {
        batch.put(Table::Journal, [b"job", &n.to_be_bytes()[..]].concat(), n.to_be_bytes());
    }
    store.submit(batch).await.unwrap();
    let warm = || Wanted {
        rows: vec![(Table::Job, b"job".to_vec()), (Table::Ended, b"job".to_vec())],
        below: vec![(Table::Journal, b"job".to_vec())],
    };
    store.warm(&warm).unwrap().await.unwrap();
    let trips = store.trips();
    let entries = |store: &PostgresStore| store.scan(Table::Journal, b"job", None, 1_000).unwrap().len();
    assert_eq!((job(&store, b"job"), store.get(Table::Ended, b"job").unwrap()), (Some(b"record".to_vec()), None));
    assert_eq!(entries(&store), 700);
    let mut batch = put(b"job", b"newer");
    batch.remove(Table::Journal, [b"job", &7_u32.to_be_bytes()[..]].concat());
    batch.put(Table::Ended, b"job", b"ended");
    store.submit(batch).await.unwrap();
    assert_eq!(job(&store, b"job"), Some(b"newer".to_vec()));
    assert_eq!(store.get(Table::Ended, b"job").unwrap(), Some(b"ended".to_vec()));
    assert_eq!(entries(&store), 699);
    store.warm(&warm).unwrap().await.unwrap();
    assert_eq!(store.trips(), trips);
    // Everything here is everything there.
    let mut there = BTreeMap::new();
    for table in Table::ALL {
        there.insert(table, store.scan(table, b"", None, usize::MAX).unwrap());
    }
    drop(store);
    let store = open("warmed");
    for (table, rows) in there {
        assert_eq!(store.scan(table, b"", None, usize::MAX).unwrap(), rows, "{table:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn readers_of_one_row_at_the_same_time_all_see_it() {
    let store = open("readers");
    let mut batch = Batch::new();
    for n in 0..400_u32 {
        batch.put(Table::Job, n.to_be_bytes(), b"there");
    }
    store.submit(batch).await.unwrap();
    drop(store);
    // A new process knows no row yet.
    let store = Arc::new(open("readers"));
    for n in 0..400_u32 {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { job(&*store, &n.to_be_bytes()) })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), Some(b"there".to_vec()), "row {n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_is_encrypted_for_the_right_authority_and_name_only() {
    let database = Postgres::with(&["fsync=on"]);
    let authority = tokio::task::block_in_place(|| database.encrypt());
    tokio::task::block_in_place(|| {
        database.crash();
        let folder = authority.parent().unwrap();
        database.boot(&[
            "fsync=on",
            "ssl=on",
            &format!("ssl_key_file={}", folder.join("server.key").display()),
            &format!("ssl_cert_file={}", folder.join("server.crt").display()),
        ]);
    });
    let other = tempfile::tempdir().unwrap();
    testkit::certificates::make(other.path());
    let opened = |host: &str, ca: &std::path::Path| {
        let url = format!("postgresql://postgres@{host}:{}/postgres", database.port());
        let files = erasure_worker::systems::sql::StoreFiles { ca_file: Some(ca.to_owned()), client_cert: None };
        let address = erasure_worker::systems::sql::store_address(&url.into(), &files).unwrap();
        tokio::task::block_in_place(|| PostgresStore::open(&address, options("encrypted"))).map(|opened| opened.store)
    };
    let store = opened("localhost", &authority).unwrap();
    store.submit(put(b"k", b"v")).await.unwrap();
    let connections = "select (count(*) > 1 and bool_and(ssl))::text from pg_stat_ssl join pg_stat_activity using (pid) \
                       where application_name = 'erasure-worker store'";
    assert_eq!(sql(database.port(), connections).await, ["true"]);
    drop(store);
    for (host, ca) in [("127.0.0.1", authority.as_path()), ("localhost", &other.path().join("client.ca"))] {
        let refused = opened(host, ca);
        assert!(matches!(refused, Err(StoreError::Away { .. })), "{host}: {:?}", refused.err());
    }
}
