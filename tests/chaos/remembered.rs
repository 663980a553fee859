//! What the worker remembers taken away: parked copies, the broker's disk, the state directory, the time.
//!
//! The rule it keeps: a difference between what is remembered and what is there is said, and nothing is lost
//! or ended by it.

use std::path::PathBuf;

use lapin::options::QueuePurgeOptions;
use lapin::types::ShortString;
use testkit::forms::{Case, Form};
use testkit::rabbit::Rabbit;
use testkit::rig::{Rig, WAITING};
use testkit::soon;
use testkit::worker::Worker;

/// A job that waits for a person, parked.
async fn waiting(rig: &Rig, worker: &Worker, number: u64) -> Case {
    let case = Case::new(rig.sandbox(), Form::Unconfirmed, number);
    rig.publish(std::slice::from_ref(&case.body)).await;
    rig.events.until("the question", |heard| !heard.of(&case.id).is_empty()).await;
    worker.says("job parked").await;
    case
}

/// The person answers, and the job is done.
async fn completes(rig: &Rig, case: &Case) {
    rig.publish(&[case.answered(None)]).await;
    let heard = rig.events.all_end([case.id.as_str()]).await;
    assert_eq!(heard.finals(&case.id).values().collect::<Vec<_>>(), ["completed"], "{:?}", heard.of(&case.id));
    assert_eq!(case.remains(rig.sandbox()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_copy_that_was_purged_is_missed_by_name_and_its_job_goes_on_when_it_is_sent_again() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let worker = rig.worker("state", &[]);
    let case = waiting(&rig, &worker, 1).await;
    let connection = rig.connect().await;
    let channel = connection.create_channel().await.unwrap();
    // It may just be in hand: until it was met on a wait queue.
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
    assert!(worker.log().contains(&case.id), "the job is named: {}", worker.log());
    assert!((worker.metric("erasure_parked_copies_missing").await - 1.0).abs() < f64::EPSILON);
    completes(&rig, &case).await;
    assert!(worker.metric("erasure_parked_copies_missing").await.abs() < f64::EPSILON);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_restored_from_a_copy_of_its_disk_keeps_the_older_copy_of_a_job() {
    let rabbit = tokio::task::block_in_place(Rabbit::start);
    let rig = Rig::start(rabbit.url()).await;
    let worker = rig.worker("state", &[]);
    let case = waiting(&rig, &worker, 1).await;
    worker.ask_to_stop();
    let mut worker = worker;
    worker.ended().await;
    // The copy of the disk has the first parked copy; then the job is parked again.
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
    // It lies on a wait queue again, and would be worked on were the newest not to come within an hour.
    assert!(lies_somewhere(&rig).await >= 1, "the only copy of an open job is gone");
    completes(&rig, &case).await;
    worker.stop().await;
}

/// How many copies of jobs lie on the broker; counted again for a moment, as one may just be moved.
async fn lies_somewhere(rig: &Rig) -> u32 {
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
async fn a_worker_whose_state_directory_is_removed_stops_and_says_so_and_the_next_one_says_that_its_store_is_new() {
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

/// A worker whose clock is moved by what a file says, while time itself passes as it does.
struct Moved(PathBuf);

impl Moved {
    fn new(rig: &Rig, by: &str) -> Moved {
        let moved = Moved(rig.folder.path().join("faketime"));
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
async fn a_worker_that_starts_in_1970_waits_for_the_time_and_ends_nothing() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let first = rig.worker("state", &[]);
    let case = waiting(&rig, &first, 1).await;
    first.stop().await;
    let moved = Moved::new(&rig, "-20000d");
    let worker = moved.worker(&rig);
    worker.says("the clock is wrong").await;
    assert!(!worker.log().contains("\"working\""), "{}", worker.log());
    moved.set("+0");
    worker.says("\"working\"").await;
    completes(&rig, &case).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_ahead_ends_no_job_that_waits() {
    let rig = Rig::start(Rabbit::shared().url()).await;
    let moved = Moved::new(&rig, "+0");
    let worker = moved.worker(&rig);
    let case = waiting(&rig, &worker, 1).await;
    // Longer than a person may take to answer.
    moved.set("+60d");
    worker.says("the clock jumped").await;
    let parked = worker.log().matches("job parked").count();
    soon("the job to be looked at again", async {
        while worker.log().matches("job parked").count() < parked + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(rig.events.heard().finals(&case.id).is_empty(), "it ended by the clock");
    completes(&rig, &case).await;
    assert!(worker.log().contains("contradicts the clock"), "the systems' answers have another time");
    let heard = rig.events.heard();
    let told = heard.of(&case.id).last().and_then(|event| event["time"].as_str()?.parse::<jiff::Timestamp>().ok());
    let off = told.unwrap().duration_since(jiff::Timestamp::now()).abs();
    assert!(off < jiff::SignedDuration::from_hours(1), "{told:?}");
    worker.stop().await;
}
