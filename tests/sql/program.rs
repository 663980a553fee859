//! The program with a database: `systems check`, and a job from a file of jobs.

use std::process::{Command, Output};

use serde_json::{Value, json};
use testkit::times::a_week_ago;

use crate::shop::{ERASED, FILE, Shop, WHOLE, port};

const KEY: &str = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";

struct Program {
    folder: tempfile::TempDir,
    url: String,
}

impl Program {
    fn new(shop: &Shop, environment: &str) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[worker]\nenvironment = \"{environment}\"\nid = \"w\"\nmaster_key_env = \"KEY\"\nstate_dir = \"state\"\n\
             [systems.shop]\nkind = \"sql\"\nfile = \"shop.toml\"\nurl_env = \"SHOP_URL\"\nverify_interval = \"20ms\"\n"
        );
        std::fs::write(folder.path().join("worker.toml"), config).unwrap();
        std::fs::write(folder.path().join("shop.toml"), FILE).unwrap();
        Program { folder, url: shop.url("worker", port()) }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(testkit::program());
        command.args(["--config", "worker.toml"]).args(arguments).current_dir(self.folder.path());
        // The libraries' own lines, too.
        command
            .env("SHOP_URL", &self.url)
            .env("KEY", KEY)
            .env("ERASURE_LOG", "trace,tokio_postgres=trace,log=trace")
            .output()
            .unwrap()
    }

    /// A job with this e-mail address; its events, and everything that was written.
    fn erase(&self, number: u8, email: &str) -> (Vec<Value>, String) {
        let job = json!({
            "schema": "erasure.job/v1",
            "job_id": format!("6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f{number:02}"),
            "environment": "sandbox",
            "tenant": "acme",
            "requested_at": a_week_ago(),
            "targets": [{ "system": "shop", "subject": { "user_id": "7", "email": email } }],
        });
        let events = format!("events{number}.ndjson");
        std::fs::write(self.folder.path().join("jobs.ndjson"), job.to_string()).unwrap();
        let output = self.run(&["batch", "--input", "jobs.ndjson", "--events", &events]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = std::fs::read_to_string(self.folder.path().join(events)).unwrap_or_else(|_| panic!("{log}"));
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events, format!("{log}\n{text}"))
    }
}

fn last(events: &[Value]) -> &Value {
    &events.last().expect("an event")["data"]
}

#[tokio::test]
async fn a_job_erases_a_person_and_says_what_stays() {
    let shop = Shop::open().await;
    let program = Program::new(&shop, "sandbox");
    let (events, written) = program.erase(1, "nobody@example.com");
    assert_eq!(last(&events)["targets"][0]["outcome"], "refused", "{written}");
    assert_eq!(shop.rows().await, WHOLE);
    // The server's notices repeat rows.
    shop.run(
        "create function tell() returns trigger language plpgsql as $$ begin raise notice 'gone: %', old.email; return \
         old; end $$; create trigger tell before delete on users for each row execute function tell()",
    )
    .await;
    let (events, written) = program.erase(2, "ann@example.com");
    let target = &last(&events)["targets"][0];
    assert_eq!((&target["outcome"], &target["kind"]), (&json!("erased"), &json!("sql")), "{written}");
    assert!(target["connector"].as_str().unwrap().starts_with("shop@"), "{target}");
    assert_eq!(target["preserved"], json!(["public.invoices: tax law"]));
    assert_eq!(shop.rows().await, ERASED);
    let (events, written_then) = program.erase(3, "ann@example.com");
    assert_eq!(last(&events)["targets"][0]["outcome"], "absent", "{written_then}");
    for written in [written, written_then] {
        for private in ["ann@example.com", "Ann", "127.0.0.1", "postgresql://"] {
            assert!(!written.contains(private), "{private} is in {written}");
        }
    }
}

#[tokio::test]
async fn a_check_tells_what_is_wrong() {
    let shop = Shop::open().await;
    let program = Program::new(&shop, "sandbox");
    let check = || {
        let output = program.run(&["systems", "check", "--json"]);
        let rows: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), rows[0]["problem"].as_str().map(str::to_owned))
    };
    assert_eq!(check(), (Some(0), None));
    shop.run("create table letters (email text)").await;
    let told = "public.letters has the column email; cover it, or write it in keep";
    assert_eq!(check(), (Some(1), Some(told.to_owned())));
    shop.run("alter table users owner to worker").await;
    let (code, problem) = check();
    assert!(code == Some(1) && problem.clone().unwrap().contains("the role owns a table of the file"), "{problem:?}");
}

#[tokio::test]
async fn a_configuration_that_could_not_work_is_refused() {
    let shop = Shop::open().await;
    let mut program = Program::new(&shop, "production");
    let faults = |program: &Program| {
        let output = program.run(&["systems", "check"]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (url, says) in [
        ("postgresql://worker@db.example.com/shop?sslmode=disable", "must be encrypted in production"),
        (
            "postgresql://worker@localhost/shop?sslmode=disable&hostaddr=203.0.113.9",
            "must not have hostaddr: write the address as the host",
        ),
        ("postgresql://worker@localhost/shop?sslmode=disable&host%61ddr=203.0.113.9", "must not have hostaddr"),
        ("postgresql://worker@localhost/shop?sslmode=disable&host=203.0.113.9", "must be encrypted in production"),
        ("postgresql://worker@db.example.com/shop?sslmode=prefer", "sslmode must be verify-full or disable"),
        ("postgresql://db.example.com/shop", "must name user, host and database"),
        ("https://db.example.com/shop", "must begin with postgresql://"),
    ] {
        program.url = url.to_owned();
        let faults = faults(&program);
        assert!(faults.contains(says) && !faults.contains("db.example.com"), "{faults}");
    }
    program.url = shop.url("worker", port());
    std::fs::write(program.folder.path().join("shop.toml"), FILE.replace("exactly = 1", "exactly = 0")).unwrap();
    let faults = faults(&program);
    assert!(faults.contains("shop.toml:") && faults.contains("from 1 to 1000000"), "{faults}");
}
