//! Losses of state: parked copies, the broker's disk, the state directory, the time.
//!
//! The rule it keeps: a difference between the worker's memory and reality is reported, and no job is lost or ended by
//! it.

use std::path::PathBuf;

use lapin::options::QueuePurgeOptions;
use lapin::types::ShortString;
use testkit::forms::{Case, Form};
use testkit::rabbit::Rabbit;
use testkit::rig::{Rig, WAITING};
use testkit::soon;
use testkit::worker::Worker;

/// A parked job that waits for a person.
async fn waiting(rig: &Rig, worker: &Worker, number: u64) -> Case {
    let case = Case::new(rig.sandbox(), Form::Unconfirmed, number);
    rig.publish(std::slice::from_ref(&case.body)).await;
    rig.events.until("the question", |heard| !heard.of(&case.id).is_empty()).await;
    worker.says("job parked").await;
    case
}

/// The person answers, and the job completes.
async fn completes(rig: &Rig, case: &Case) {
    rig.publish(&[case.answered(None)]).await;
    let heard = rig.events.all_end([case.id.as_str()]).await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
    assert_eq!(case.remains(rig.sandbox()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_parked_copy_is_reported_with_its_job_and_a_repeated_job_goes_on() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let worker = rig.worker("state", &[]);
    let case = waiting(&rig, &worker, 1).await;
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    // The copy may be in hand at the moment, so purge until it was on a wait queue.
    soon("the copy on a wait queue", async {
        let mut purged = 0;
        while purged == 0 {
            for tier in ["5s", "30s"] {
                let name = ShortString::from(format!("{}.wait.{tier}", rig.prefix));
                purged += channel.queue_purge(name, QueuePurgeOptions::default()).await.unwrap();
            }
        }
    })
    .await;
    worker.says("a parked copy was not redelivered").await;
    assert!(worker.log().contains(&case.id), "the job is not named: {}", worker.log());
    assert!((worker.metric("erasure_parked_copies_missing").await - 1.0).abs() < f64::EPSILON);
    completes(&rig, &case).await;
    assert!(worker.metric("erasure_parked_copies_missing").await.abs() < f64::EPSILON);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_broker_is_restored_from_a_backup_the_older_copy_of_a_job_is_kept() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(rabbit.url()).await;
    let worker = rig.worker("state", &[]);
    let case = waiting(&rig, &worker, 1).await;
    worker.ask_to_stop();
    let mut worker = worker;
    worker.ended().await;
    // The disk's backup has the first parked copy; then the job is parked again.
    tokio::task::block_in_place(|| {
        rabbit.stop();
        rabbit.keep_copy();
        rabbit.boot();
    });
    let worker = rig.worker("state", &[]);
    soon("a later park", async {
        while worker.log().matches("job parked").count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    worker.kill().await;
    tokio::task::block_in_place(|| {
        rabbit.stop();
        rabbit.restore_copy();
        rabbit.boot();
    });
    let worker = rig.worker("state", &[]);
    worker.says("an older copy waits until").await;
    // The older copy is on a wait queue again. After an hour without the newest copy it would be worked on.
    assert!(copies_on_broker(&rig).await >= 1, "the only copy of an open job is gone");
    completes(&rig, &case).await;
    worker.stop().await;
}

/// The number of copies on the broker: the highest of five counts, as a copy may be on its way between queues.
async fn copies_on_broker(rig: &Rig) -> u32 {
    let mut most = 0;
    for _ in 0..5 {
        let mut count = 0;
        for queue in WAITING {
            count += rig.depth(queue).await;
        }
        most = most.max(count);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_state_directory_stops_the_worker_and_the_next_one_reports_a_new_store() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let mut worker = rig.worker("state", &[]);
    let case = waiting(&rig, &worker, 1).await;
    std::fs::remove_dir_all(rig.state_dir("state")).unwrap();
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    assert!(worker.log().contains("is not the one that was opened"), "{}", worker.log());
    let worker = rig.worker("state", &[]);
    worker.says("there was no store here").await;
    completes(&rig, &case).await;
    worker.stop().await;
}

/// Moves a worker's clock by the offset in a file. The monotonic clock stays right.
struct MovedClock(PathBuf);

impl MovedClock {
    fn new(rig: &Rig, by: &str) -> MovedClock {
        let moved = MovedClock(rig.folder.path().join("faketime"));
        moved.set(by);
        moved
    }

    fn set(&self, by: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{by}\n")).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }

    fn worker(&self, rig: &Rig) -> Worker {
        let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
        let library = PathBuf::from(library.replace("x86_64", std::env::consts::ARCH));
        assert!(library.exists(), "faketime (Debian package of that name)");
        let settings = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        rig.worker("state", &settings)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_starts_in_the_year_1970_waits_for_the_right_time_and_ends_no_job() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let first = rig.worker("state", &[]);
    let case = waiting(&rig, &first, 1).await;
    first.stop().await;
    let moved = MovedClock::new(&rig, "-20000d");
    let worker = moved.worker(&rig);
    worker.says("the clock is wrong").await;
    assert!(!worker.log().contains("\"working\""), "{}", worker.log());
    moved.set("+0");
    worker.says("\"working\"").await;
    completes(&rig, &case).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_jump_ends_no_waiting_job() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let moved = MovedClock::new(&rig, "+0");
    let worker = moved.worker(&rig);
    let case = waiting(&rig, &worker, 1).await;
    // Longer than the limit of the wait for a person.
    moved.set("+60d");
    worker.says("the clock jumped").await;
    let parked = worker.log().matches("job parked").count();
    soon("the job to be parked again", async {
        while worker.log().matches("job parked").count() < parked + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(rig.events.heard().finals(&case.id).is_empty(), "the clock jump ended the job");
    completes(&rig, &case).await;
    assert!(worker.log().contains("contradicts the clock"), "the systems' times were not compared");
    let heard = rig.events.heard();
    let time = heard.of(&case.id).last().and_then(|event| event["time"].as_str()?.parse::<jiff::Timestamp>().ok());
    let off = time.unwrap().duration_since(jiff::Timestamp::now()).abs();
    assert!(off < jiff::SignedDuration::from_hours(1), "{time:?}");
    worker.stop().await;
}
