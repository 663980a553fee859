//! `batch` and `submit`: the rules for messages that also apply to files.

use std::process::Output;

use erasure_worker::sandbox::Person;
use erasure_worker::seal::jwe::seal_proof;
use erasure_worker::seal::{Keyring, MasterKey};
use serde_json::Value;
use testkit::config::system;
use testkit::rig::Rig;
use testkit::times::a_week_ago;

use crate::bench::{self, KEY, id};

/// A job for a worker with the machine's clock.
fn shop_job(tenant: &str, person: &Person) -> Value {
    let mut job = bench::shop_job(tenant, person);
    job["requested_at"] = a_week_ago().into();
    job
}

async fn rig() -> Rig<()> {
    let rig = Rig::without_broker(|_| String::new()).await;
    configure(&rig, "");
    rig
}

/// A configuration for the shop alone, with additional lines.
fn configure(rig: &Rig<()>, more: &str) {
    let worker = format!("[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nmaster_key = \"{KEY}\"\n");
    let shop = system("shop", "easycms", rig.stand.addr, "verify_interval = \"20ms\"");
    std::fs::write(&rig.config, format!("{worker}{shop}{more}")).unwrap();
}

async fn run(rig: &Rig<()>, arguments: &[&str]) -> Output {
    rig.other_command(arguments).current_dir(rig.folder.path()).output().await.unwrap()
}

/// Runs `batch` on these lines. Returns its exit code and its log.
async fn batch(rig: &Rig<()>, lines: &str) -> (i32, String) {
    std::fs::write(rig.path("jobs.ndjson"), lines).unwrap();
    let output = run(rig, &["batch", "--input", "jobs.ndjson", "--events", "events.ndjson"]).await;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or_else(|| panic!("{log}")), log)
}

fn lines(jobs: &[Value]) -> String {
    jobs.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn events(rig: &Rig<()>) -> Vec<Value> {
    let text = std::fs::read_to_string(rig.path("events.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The number of these persons in the shop.
fn left(rig: &Rig<()>, people: &[Person]) -> usize {
    people.iter().filter(|person| !rig.left(person, "easycms").is_empty()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_needs_no_signature_but_obeys_tenants_and_ceilings() {
    let rig = rig().await;
    let people = rig.people(3);
    let tenant = "[tenants.acme]\namqp_users = [\"acme-publisher\"]\nrequire_signature = true\n";
    let keys =
        "[tenants.acme.signature_keys.k]\nkind = \"hmac-sha256\"\nsecret = \"0123456789012345678901234567890123\"\n";
    configure(&rig, &format!("{tenant}max_jobs_per_hour = 1\n{keys}"));
    let jobs = [shop_job("acme", &people[0]), shop_job("acme", &people[1])];
    assert_eq!(batch(&rig, &lines(&jobs)).await.0, 3, "one job is held for an operator");
    let held: Vec<_> =
        events(&rig).into_iter().filter(|event| event["type"] == "erasure.job.held_by_guard.v1").collect();
    assert_eq!((held.len(), left(&rig, &people)), (1, 2));
    assert_eq!(batch(&rig, &lines(&jobs)).await.0, 3, "a second run releases no job");
    assert_eq!(left(&rig, &people), 2);
    configure(&rig, &format!("{tenant}{keys}"));
    assert_eq!(batch(&rig, &lines(&jobs)).await.0, 0);
    assert_eq!(left(&rig, &people), 1);

    let stranger = shop_job("nobody", &people[2]);
    assert_eq!(batch(&rig, &stranger.to_string()).await.0, 1);
    assert!(
        events(&rig)
            .iter()
            .any(|event| event["subject"] == id(&stranger) && event["data"]["error"]["reason"] == "unauthorised")
    );
    assert_eq!(left(&rig, &people), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_checks_sealed_proofs_before_it_publishes_and_names_one_that_does_not_open() {
    let rig = rig().await;
    let people = rig.people(1);
    let ring = |key: &str| Keyring::new(MasterKey::parse(key).unwrap(), vec![]).unwrap();
    let submit = async |ring: &Keyring| {
        let mut job = shop_job("acme", &people[0]);
        job["targets"][0]["customer_password"] = seal_proof(&ring.sealing_key(), "p", Some(id(&job))).unwrap().into();
        std::fs::write(rig.path("job.json"), job.to_string()).unwrap();
        run(&rig, &["submit", "job.json"]).await
    };
    let refused = submit(&ring(crate::bench::NEXT_KEY)).await;
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("targets[0].customer_password: is sealed for a key"), "{errors}");
    // The valid proof passes the check: now only the broker is missing.
    let read = submit(&ring(KEY)).await;
    let errors = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(errors.contains("amqp") && !errors.contains("targets"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_line_is_reported_by_its_number_with_an_event_and_a_job_may_have_several_lines() {
    let rig = rig().await;
    let people = rig.people(9);
    let jobs: Vec<Value> = people.iter().map(|person| shop_job("acme", person)).collect();
    let mut lines: Vec<String> = jobs.iter().map(Value::to_string).collect();
    // The seventh job is incomplete, the ninth has several lines, and the file begins with a byte order mark.
    let whole = lines[6].clone();
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        lines[6] = whole[..cut].to_owned();
        lines[8] = format!("{:#}", jobs[8]);
        let file = format!("\u{feff}{}\n", lines.join("\n"));
        std::fs::write(rig.path("jobs.ndjson"), &file).unwrap();
        let submitted = run(&rig, &["submit", "jobs.ndjson"]).await;
        let errors = String::from_utf8(submitted.stderr).unwrap();
        assert_eq!((submitted.status.code(), errors.matches("line ").count()), (Some(2), 1), "{errors}");
        assert!(errors.starts_with("line 7: body: is not JSON: "), "{errors}");
        assert!(errors.contains("nothing was published: 1 of 9 jobs are not valid"), "{errors}");

        for _ in 0..2 {
            let (code, log) = batch(&rig, &file).await;
            assert_eq!(code, 1, "{log}");
            assert!(log.contains("line 7: body: is not JSON"), "{log}");
        }
        let rejected: Vec<Value> = events(&rig)
            .into_iter()
            .filter(|event| event["type"] == "erasure.job.rejected.v1" && event["data"]["error"]["reason"] == "invalid")
            .collect();
        // One event for any number of runs. Here it is about another line each time.
        let last = rejected.last().unwrap()["data"]["error"]["detail"].as_str().unwrap();
        assert!(last.starts_with("line 7: body: is not JSON: "), "{last}");
        let ids: std::collections::BTreeSet<_> = rejected.iter().map(|event| event["subject"].to_string()).collect();
        assert_eq!(ids.len(), rejected.len());
    }
    let completed = events(&rig).iter().filter(|event| event["type"] == "erasure.job.completed.v1").count();
    assert_eq!(completed, 8);
    assert_eq!(left(&rig, &people), 1, "the person of the incomplete line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_made_a_preview_is_not_published_as_an_erasure() {
    let rig = rig().await;
    let people = rig.people(1);
    let body = shop_job("acme", &people[0]).to_string().replacen('{', "{\"extensions\":{\"a\":1e999},", 1);
    std::fs::write(rig.path("job.json"), body).unwrap();
    for more in [&["--preview"][..], &["--preview", "--requested-by", "ann"]] {
        let refused = run(&rig, &[&["submit", "job.json"], more].concat()).await;
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{errors}");
        assert!(errors.starts_with("line 1: extensions: is not valid for every JSON parser"), "{errors}");
    }
    // Unchanged it is a valid job: now only the broker is missing.
    let read = run(&rig, &["submit", "job.json"]).await;
    assert!(String::from_utf8_lossy(&read.stderr).contains("amqp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_with_an_impossible_time_is_refused() {
    let rig = rig().await;
    let file = rig.path("members.csv");
    std::fs::write(&file, "mail\nann@example.com\n").unwrap();
    let submit = async |more: &[&str]| {
        let order = ["submit-csv", "--system", "shop", "--key", "email", "--column", "mail", "--dry-run"];
        let output = run(&rig, &[&order[..], more, &["members.csv"]].concat()).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for argument in ["--requested-at", "--confirmed-at"] {
        for (time, why) in [
            ("2999-01-01", "is more than 24 hours ahead of this worker's clock"),
            ("1999-12-31T23:59:59Z", "is before the year 2000"),
        ] {
            let (code, errors) = submit(&[argument, time]).await;
            assert_eq!(code, Some(2), "{errors}");
            assert!(errors.starts_with(&format!("{argument}: {why}")), "{errors}");
        }
    }
    let changed_in_the_future = std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(changed_in_the_future).unwrap();
    let (code, errors) = submit(&[]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.starts_with("--requested-at: the time at which the file was changed is more than 24"), "{errors}");
    let (_, errors) = submit(&["--requested-at", &a_week_ago()]).await;
    assert!(!errors.contains("ahead"), "{errors}");
}
