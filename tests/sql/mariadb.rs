//! The same promises on a real MariaDB, and what is different there: collations, implicit conversions, engines without
//! transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use erasure_worker::job::{Answer, FailureKind, Identity, Means, Reason, Step, StepName, TargetOutcome};
use erasure_worker::systems::System as _;
use erasure_worker::systems::sql::SqlSystem;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use testkit::mariadb::MariaDb;
use tokio::sync::Mutex;

use crate::lost::{Fate, by_ledger, relay_for};
use crate::run::{ann, run};
use crate::shop::{ERASED, WHOLE, system_at, with};

const RESOLVE: Step = Step::one(StepName::Resolve);

/// The other tests' file, for this database.
fn file(database: &str) -> String {
    crate::shop::FILE.replace("postgresql", "mysql").replace("public.", &format!("{database}."))
}

const TABLES: &[&str] = &[
    "create table users (id bigint primary key, email varchar(200), name text)",
    "create table orders (id bigint primary key, user_id bigint, name text, email varchar(200))",
    "create table notes (order_id bigint not null, note text, foreign key (order_id) references orders (id))",
    "create table sessions (user_id bigint)",
    "create table invoices (user_id bigint, total int)",
    "create table erasure_done (digest varchar(64) primary key, done_at timestamp not null default now())",
    "insert into users values (7, 'Ann@example.com', 'Ann'), (8, 'bea@example.com', 'Bea')",
    "insert into orders values (1, 7, 'Ann', 'ann@example.com'), (2, 7, 'Ann', 'ann@example.com'), (3, 8, 'Bea', \
     'bea@example.com')",
    "insert into notes values (1, 'ring twice'), (2, 'ring'), (3, 'bell')",
    "insert into sessions values (7), (7), (7), (8)",
    "insert into invoices values (7, 100), (8, 100)",
];

/// A database of its own, with a role of its own.
struct Shop {
    name: String,
    admin: Mutex<Conn>,
    port: u16,
}

impl Shop {
    async fn open() -> Shop {
        let server = tokio::task::spawn_blocking(MariaDb::shared).await.unwrap();
        Shop::open_on(server.port()).await
    }

    async fn open_on(port: u16) -> Shop {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut admin = Conn::new(opts(&format!("mysql://root@127.0.0.1:{port}/mysql"))).await.unwrap();
        admin.query_drop(format!("create database {name} character set utf8mb4")).await.unwrap();
        admin.query_drop(format!("use {name}")).await.unwrap();
        for statement in TABLES {
            admin.query_drop(*statement).await.unwrap();
        }
        let shop = Shop { name, admin: Mutex::new(admin), port };
        shop.run(&format!("create user {}", shop.role())).await;
        shop.run(&format!("grant select on {}.* to {}", shop.name, shop.role())).await;
        for table in ["users", "orders", "notes", "sessions"] {
            shop.run(&format!("grant update, delete on {table} to {}", shop.role())).await;
        }
        shop.run(&format!("grant insert on erasure_done to {}", shop.role())).await;
        shop
    }

    fn role(&self) -> String {
        format!("'{}'@'%'", self.name)
    }

    fn file(&self) -> String {
        file(&self.name)
    }

    fn url(&self, port: u16) -> String {
        format!("mysql://{}@127.0.0.1:{port}/{}?ssl-mode=disabled", self.name, self.name)
    }

    fn system(&self) -> SqlSystem {
        self.system_with(&self.file(), self.port)
    }

    fn system_with(&self, file: &str, port: u16) -> SqlSystem {
        system_at(file, &self.url(port), None)
    }

    async fn run(&self, statement: &str) {
        self.admin.lock().await.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    async fn another(&self) -> Conn {
        Conn::new(opts(&format!("mysql://root@127.0.0.1:{}/{}", self.port, self.name))).await.unwrap()
    }

    async fn rows(&self) -> String {
        rows(&mut *self.admin.lock().await).await
    }
}

fn opts(url: &str) -> Opts {
    mysql_async::OptsBuilder::from_opts(Opts::from_url(url).unwrap()).prefer_socket(false).into()
}

async fn rows(admin: &mut Conn) -> String {
    let all = "select concat('users ', (select group_concat(id order by id separator ', ') from users), '; orders ', (select \
               group_concat(concat_ws(' ', id, coalesce(name, '-'), email) order by id separator ', ') from orders), '; \
               notes ', (select group_concat(order_id order by order_id separator ', ') from notes), '; sessions ', \
               (select group_concat(user_id order by user_id separator ', ') from sessions), '; invoices ', (select \
               group_concat(user_id order by user_id separator ', ') from invoices))";
    admin.query_first(all).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_person_is_erased_and_nobody_else() {
    let shop = Shop::open().await;
    let system = shop.system();
    let mut other = run(&shop.file(), "7", "nobody@example.com");
    let end = other.end(&system).await.unwrap();
    assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::IdentityMismatch)));
    assert_eq!(shop.rows().await, WHOLE);
    let mut run = ann(&shop.file());
    let end = run.end(&system).await.unwrap();
    assert_eq!(end.outcome, TargetOutcome::Erased, "{:?}", run.calls);
    assert_eq!((shop.rows().await.as_str(), run.acts()), (ERASED, 1));
    assert_eq!(ann(&shop.file()).end(&system).await.unwrap().outcome, TargetOutcome::Absent);
}

#[tokio::test]
async fn an_act_that_breaks_a_rule_is_rolled_back_and_refused() {
    for (statement, note) in [
        ("insert into sessions values (7), (7), (7)", "statement 3 changed more rows than 5: rolled back"),
        (
            "create trigger hold before update on orders for each row set new.name = old.name",
            "statement 2 left rows that it should change (a trigger?): rolled back",
        ),
        (
            "create trigger refuse before delete on users for each row signal sqlstate '45000' set message_text = \
             'keep ann@example.com'",
            "a rule or a trigger of the database refuses (1644)",
        ),
        (
            "alter table invoices add foreign key (user_id) references users (id)",
            "other rows refer to those of the person (1451)",
        ),
    ] {
        let shop = Shop::open().await;
        shop.run(statement).await;
        let before = shop.rows().await;
        let mut run = ann(&shop.file());
        let end = run.end(&shop.system()).await.unwrap();
        assert_eq!((end.outcome, end.reason), (TargetOutcome::Refused, Some(Reason::Precondition)), "{note}");
        assert_eq!(shop.rows().await, before, "{note}");
        assert!(run.failures().contains(note), "{note} is not in {}", run.failures());
        assert!(!run.failures().contains("ann@"), "{}", run.failures());
    }
}

/// A table of such an engine would keep what a rollback takes back elsewhere.
#[tokio::test]
async fn a_table_that_cannot_be_rolled_back_is_not_changed() {
    let shop = Shop::open().await;
    shop.run("alter table sessions engine = MyISAM").await;
    let mut run = ann(&shop.file());
    assert_eq!(run.end(&shop.system()).await, None, "the system is held");
    assert!(run.failures().contains("not of the engine InnoDB"), "{}", run.failures());
    assert_eq!(shop.rows().await, WHOLE);
}

/// A view may hide rows: they would be neither found nor counted.
#[tokio::test]
async fn rows_that_a_view_hides_are_no_absence() {
    let shop = Shop::open().await;
    let system = shop.system();
    system.probe().await.unwrap();
    shop.run("rename table users to behind").await;
    shop.run("create view users as select * from behind where false").await;
    let mut run = ann(&shop.file());
    assert_eq!(run.end(&system).await, None, "the system is held");
    assert!(run.failures().contains("a table is a view"), "{}", run.failures());
    assert!(shop.system().probe().await.unwrap_err().to_string().contains("a table is a view"));
}

#[tokio::test]
async fn a_lock_of_another_session_is_waited_for_and_nothing_is_changed() {
    let shop = Shop::open().await;
    let mut other = shop.another().await;
    other.query_drop("begin").await.unwrap();
    other.query_drop("select * from sessions where user_id = 7 for update").await.unwrap();
    let other = Arc::new(Mutex::new(other));
    let mut run = ann(&shop.file());
    let end = run
        .finish(&shop.system(), async |step, earlier| {
            if (step, earlier) == (StepName::ConnectorAct, 1) {
                assert_eq!(shop.rows().await, WHOLE);
                other.lock().await.query_drop("rollback").await.unwrap();
            }
        })
        .await
        .unwrap();
    assert_eq!((end.outcome, run.acts()), (TargetOutcome::Erased, 2));
    assert!(run.failures().contains("another session holds a lock (1205)"), "{}", run.failures());
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_counts_or_by_the_ledger() {
    for is_by_ledger in [false, true] {
        for (fate, cuts, acts) in [(Fate::Unanswered, 1, 1), (Fate::Unsent, 1, 2), (Fate::Unsent, 2, 3)] {
            let shop = Shop::open().await;
            let file = if is_by_ledger { by_ledger(&shop.file()) } else { shop.file() };
            let through = relay_for(shop.port, b"\x03commit", fate, cuts, || {}).await;
            let mut run = ann(&file);
            let end = run.end(&shop.system_with(&file, through)).await.unwrap();
            assert_eq!((end.outcome, run.acts()), (TargetOutcome::Erased, acts), "{fate:?}: {:?}", run.calls);
            assert_eq!(shop.rows().await, ERASED);
            let lost = run.calls.iter().filter_map(|(_, said)| said.as_ref().err());
            assert!(lost.clone().count() == cuts && lost.clone().all(|failure| failure.kind == FailureKind::Ambiguous));
        }
    }
}

/// The server is killed when a COMMIT arrives, or when it was made.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_may_end_in_the_middle_of_a_commit() {
    for fate in [Fate::Unsent, Fate::Unanswered] {
        let server = Arc::new(tokio::task::spawn_blocking(MariaDb::start).await.unwrap());
        let shop = Shop::open_on(server.port()).await;
        let again = Arc::clone(&server);
        let kill = move || {
            again.crash();
            again.boot(&[]);
        };
        let through = relay_for(shop.port, b"\x03commit", fate, 1, kill).await;
        let mut run = ann(&shop.file());
        let end = run.end(&shop.system_with(&shop.file(), through)).await.unwrap();
        assert_eq!(end.outcome, TargetOutcome::Erased, "{:?}", run.calls);
        assert!(run.failures().contains("ambiguous"), "{}", run.failures());
        assert_eq!(run.acts(), if fate == Fate::Unsent { 2 } else { 1 }, "{:?}", run.calls);
        assert_eq!(rows(&mut shop.another().await).await, ERASED);
    }
}

/// A collation takes these for equal, and so do conversions between numbers and texts. They are other persons.
#[tokio::test]
async fn only_the_same_characters_are_the_same_person() {
    let shop = Shop::open().await;
    shop.run("create table letters (email varchar(200), number varchar(40), big bigint)").await;
    shop.run(&format!("grant update, delete on letters to {}", shop.role())).await;
    shop.run(
        "insert into letters values ('ann@example.com', '7', 9007199254740993), ('ANN@example.com', '7', \
         9007199254740993), ('änn@example.com', '7abc', 9007199254740992), ('ann@example.com ', '07', 9007199254740994), \
         ('bob@example.com', '7.0', 0)",
    )
    .await;
    let erase = async |condition: &str, user_id: &str| {
        let text = with(&shop.file(), condition);
        let system = shop.system_with(&text, shop.port);
        let mut run = crate::run::run(&text, user_id, "ann@example.com");
        let said = run.ask(&system, Step::of_connector(StepName::ConnectorAct, 0, 0)).await;
        run.calls.clear();
        assert!(matches!(said, Ok(Answer::Connector(_))), "{said:?}");
        let left = "select coalesce(group_concat(concat(email, '/', number, '/', big) order by big, number separator ' '), \
                    '') from letters";
        let left: Option<String> = shop.admin.lock().await.query_first(left).await.unwrap();
        left.unwrap()
    };
    let all = "bob@example.com/7.0/0 änn@example.com/7abc/9007199254740992";
    assert_eq!(erase("lower(email) = lower($email)", "7").await, format!("{all} ann@example.com /07/9007199254740994"));
    shop.run("insert into letters values ('a@example.com', '7', 9007199254740993)").await;
    assert_eq!(
        erase("big = $user_id", "9007199254740993").await,
        format!("{all} ann@example.com /07/9007199254740994")
    );
    shop.run("insert into letters values ('a@example.com', '7', 1)").await;
    assert_eq!(erase("number = $user_id", "7").await, format!("{all} ann@example.com /07/9007199254740994"));
}

/// A number is compared by its characters. One that begins with 0 would be missed, and so it is rejected.
#[tokio::test]
async fn a_number_that_begins_with_0_is_rejected() {
    let shop = Shop::open().await;
    let failure = run(&shop.file(), "007", "ann@example.com").ask(&shop.system(), RESOLVE).await.unwrap_err();
    assert_eq!((failure.kind, failure.reason), (FailureKind::Rejected, Reason::RequestRejected));
}

#[tokio::test]
async fn a_role_that_can_do_more_than_change_rows_is_refused() {
    let shop = Shop::open().await;
    let file = by_ledger(&shop.file());
    let probe = async || shop.system_with(&file, shop.port).probe().await;
    assert_eq!(probe().await, Ok(()));
    let (role, name) = (shop.role(), &shop.name);
    for (statement, undone, note) in [
        (
            format!("grant create on {name}.* to {role}"),
            format!("revoke create on {name}.* from {role}"),
            "can do more",
        ),
        (format!("grant drop on users to {role}"), format!("revoke drop on users from {role}"), "can do more"),
        (format!("grant super on *.* to {role}"), format!("revoke super on *.* from {role}"), "can do more"),
        (
            format!("revoke delete on sessions from {role}"),
            format!("grant delete on sessions to {role}"),
            "no right to a statement",
        ),
        (
            format!("revoke select on {name}.* from {role}"),
            format!("grant select on {name}.* to {role}"),
            "may not read a watched schema",
        ),
        (
            "alter table erasure_done drop primary key".to_owned(),
            "alter table erasure_done add primary key (digest)".to_owned(),
            "digest is not unique",
        ),
        (
            "alter table orders change name label text".to_owned(),
            "alter table orders change label name text".to_owned(),
            "column is wrong",
        ),
    ] {
        shop.run(&statement).await;
        let failure = probe().await.expect_err(&statement);
        assert_eq!(failure.kind, FailureKind::UnauthorisedOurs, "{statement}");
        assert!(failure.to_string().contains(note), "{statement}: {failure}");
        shop.run(&undone).await;
    }
    assert_eq!(probe().await, Ok(()));
}

#[tokio::test]
async fn tables_that_nobody_covers_are_told() {
    let shop = Shop::open().await;
    let survey = async || shop.system().survey().await.unwrap();
    assert_eq!(survey().await, Vec::<String>::new());
    shop.run("create table letters (Email text)").await;
    shop.run("create table calls (about bigint, foreign key (about) references users (id))").await;
    let name = &shop.name;
    assert_eq!(
        survey().await,
        [
            format!("{name}.calls refers to {name}.users by about; cover it, or write it in keep"),
            format!("{name}.letters has the column email; cover it, or write it in keep"),
        ]
    );
}

/// Nobody there is an absence only in a database in which somebody was found.
#[tokio::test]
async fn an_absence_needs_a_database_with_persons() {
    let shop = Shop::open().await;
    let system = shop.system();
    let nobody = run(&shop.file(), "9", "ann@example.com");
    assert_eq!(nobody.ask(&system, RESOLVE).await, Ok(Answer::Unclear(Reason::Unproven)));
    system.probe().await.unwrap();
    let answer = nobody.ask(&system, RESOLVE).await.unwrap();
    assert!(matches!(answer.means(), Some(Means::Gone(_))), "{answer:?}");
    let answer = ann(&shop.file()).ask(&system, RESOLVE).await.unwrap();
    assert_eq!(answer.means(), Some(Means::Found(Identity::Same)));
}

/// Without `ssl-mode=disabled` a connection is encrypted, and the server's name is checked.
#[tokio::test]
async fn a_connection_is_encrypted_to_the_named_server() {
    let server = tokio::task::spawn_blocking(MariaDb::start).await.unwrap();
    let shop = Shop::open_on(server.port()).await;
    let url = |host: &str, port: u16| format!("mysql://{}@{host}:{port}/{}", shop.name, shop.name);
    let at = |host: &str, ca| system_at(&shop.file(), &url(host, shop.port), ca);
    assert_eq!(at("localhost", None).probe().await.unwrap_err().kind, FailureKind::Unavailable, "without encryption");
    let (_server, ca) = tokio::task::spawn_blocking(move || {
        let ca = server.encrypt();
        (server, ca)
    })
    .await
    .unwrap();
    assert_eq!(at("localhost", Some(ca.clone())).probe().await, Ok(()));
    for (host, ca, why) in [("127.0.0.1", Some(ca), "another name"), ("localhost", None, "another authority")] {
        assert_eq!(at(host, ca).probe().await.unwrap_err().kind, FailureKind::Unavailable, "{why}");
    }
}
