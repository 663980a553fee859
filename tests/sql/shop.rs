//! A shop's database, with Ann, who is erased, and Bea, whose rows must stay.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use erasure_connector::sql::SqlFile;
use erasure_connector::{File, load_file};
use erasure_worker::systems::sql::{SqlSettings, SqlSystem, Timeouts};
use testkit::postgres::Postgres;
use tokio_postgres::{Client, NoTls};

pub const FILE: &str = include_str!("shop.toml");

const TABLES: &str = "
create table users (id bigint primary key, email text, name text);
create table orders (id bigint primary key, user_id bigint, name text, email text);
create table notes (order_id bigint not null references orders, note text);
create table sessions (user_id bigint, at timestamptz default now());
create table invoices (user_id bigint, total int);
create table erasure_done (digest text primary key, done_at timestamptz not null default now());
insert into users values (7, 'Ann@example.com', 'Ann'), (8, 'bea@example.com', 'Bea');
insert into orders values (1, 7, 'Ann', 'ann@example.com'), (2, 7, 'Ann', 'ann@example.com'), (3, 8, 'Bea', 'bea@example.com');
insert into notes values (1, 'ring twice'), (2, 'ring'), (3, 'bell');
insert into sessions values (7), (7), (7), (8);
insert into invoices values (7, 100), (8, 100);
grant select, delete, update on users, orders, notes, sessions to worker;
grant select, insert on erasure_done to worker;
";

/// The rows that an erasure of Ann leaves.
pub const ERASED: &str =
    "users 8; orders 1 - erased-1, 2 - erased-2, 3 Bea bea@example.com; notes 3; sessions 8; invoices 7, 8";
/// The rows at the beginning.
pub const WHOLE: &str = "users 7, 8; orders 1 Ann ann@example.com, 2 Ann ann@example.com, 3 Bea bea@example.com; notes 1, 2, 3; sessions 7, 7, 7, 8; invoices 7, 8";

/// A file that loads.
pub fn loaded(text: &str) -> SqlFile {
    match load_file(text.as_bytes()) {
        Ok(File::Sql(file)) => *file,
        Ok(File::Calls(_)) => panic!("a file of calls"),
        Err(faults) => panic!("{faults}"),
    }
}

/// A client.
pub fn system_at(file: &str, url: &str, ca_file: Option<PathBuf>) -> SqlSystem {
    let lock_timeout = Duration::from_secs(2);
    // Whatever is between, it is the database of the runs' rules.
    let plan = SqlSettings::new(loaded(file), "".into(), lock_timeout).plan;
    let settings = SqlSettings { plan, ca_file, ..SqlSettings::new(loaded(file), url.into(), lock_timeout) };
    let timeouts = Timeouts { call: Duration::from_secs(60), connect: Duration::from_secs(60), lock: lock_timeout };
    let digest = Arc::new(|bytes: &[u8]| {
        let mut digest = [0; 16];
        bytes.iter().enumerate().for_each(|(at, byte)| digest[at % 16] ^= byte.rotate_left((at / 16) as u32));
        digest
    });
    SqlSystem::new("shop", &settings, &timeouts, digest).unwrap()
}

/// A file whose first act deletes the letters of this condition.
pub fn with(file: &str, condition: &str) -> String {
    let act = file.find("[[act]]").unwrap();
    let file = format!(
        "{}[[act]]\nname = \"letters\"\nstatements = [{{ sql = \"delete from letters where {condition}\", most = 10 \
         }}]\nlost = {{ read = \"letters\" }}\nevidence = {{ read = \"letters\" }}\n{}",
        &file[..act],
        &file[act..]
    );
    let read = format!("[read.letters]\ncounts = [\"select count(*) from letters where {condition}\"]\n\n[read.rest]");
    file.replace("[read.rest]", &read)
}

/// A database of its own.
pub struct Shop {
    pub name: String,
    pub admin: Client,
    port: u16,
}

impl Shop {
    pub async fn open() -> Shop {
        let server = tokio::task::spawn_blocking(Postgres::shared).await.unwrap();
        Shop::open_on(server).await
    }

    pub async fn open_on(server: &Postgres) -> Shop {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let first = connect(&server.url("postgres", "postgres")).await;
        // Roles belong to the server; another test may make this one at the same time.
        let role =
            "do $$ begin create role worker login; exception when duplicate_object or unique_violation then end $$";
        first.batch_execute(role).await.unwrap();
        first.batch_execute(&format!("create database {name}")).await.unwrap();
        let admin = connect(&server.url("postgres", &name)).await;
        admin.batch_execute(TABLES).await.unwrap();
        Shop { name, admin, port: server.port() }
    }

    /// Another connection of the administrator.
    pub async fn another(&self) -> Client {
        connect(&self.url("postgres", self.port)).await
    }

    pub fn url(&self, role: &str, port: u16) -> String {
        format!("postgresql://{role}@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    pub fn system(&self) -> SqlSystem {
        self.system_with(FILE, "worker", self.port)
    }

    pub fn system_with(&self, file: &str, role: &str, port: u16) -> SqlSystem {
        system_at(file, &self.url(role, port), None)
    }

    /// Every row.
    pub async fn rows(&self) -> String {
        rows(&self.admin).await
    }

    /// A setting, as a new connection has it.
    pub async fn setting(&self, name: &str) -> String {
        self.another().await.query_one(&format!("show {name}"), &[]).await.unwrap().get(0)
    }

    pub async fn run(&self, statements: &str) {
        self.admin.batch_execute(statements).await.unwrap();
    }
}

pub async fn rows(admin: &Client) -> String {
    let all = "select concat('users ', (select string_agg(id::text, ', ' order by id) from users), '; orders ', (select \
               string_agg(concat_ws(' ', id, coalesce(name, '-'), email), ', ' order by id) from orders), '; notes ', \
               (select string_agg(order_id::text, ', ' order by order_id) from notes), '; sessions ', (select \
               string_agg(user_id::text, ', ' order by user_id) from sessions), '; invoices ', (select \
               string_agg(user_id::text, ', ' order by user_id) from invoices))";
    admin.query_one(all, &[]).await.unwrap().get(0)
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// The shared server's port.
pub fn port() -> u16 {
    Postgres::shared().port()
}
