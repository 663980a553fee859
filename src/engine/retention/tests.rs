//! Due rows while a replay begins, and rows that cannot be read.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::*;
use crate::engine::envelope::Origin;
use crate::engine::journal::{entries_of, record_of};
use crate::engine::stage::{DAY, RETAIN_FAILED, RETAIN_FINISHED, Stage};
use crate::job::event::{Frame, rejected};
use crate::job::{Ended, Entry, Reason};

const UNREADABLE: &[u8] = b"\xff";

impl Stage {
    /// A job that failed, with its checkpoints.
    async fn fail(&self, number: u128) -> JobKey {
        let key = self.job(number).key;
        let journal = self.open(number, Origin::Publisher);
        let engine = &self.engine;
        journal.append(&*self.store, vec![Entry::Continued { at: engine.now() }]).unwrap();
        journal.durable().await.unwrap();
        let frame = Frame { environment: "sandbox", traceparent: None, now: engine.now() };
        let last = rejected(&frame, &key, Reason::Poison, Reason::Poison.sentence(), &"0".repeat(64), true);
        let mut ended = Ended {
            identity: Vec::new(),
            outcome: JobOutcome::Failed,
            run: 1,
            seq: 1,
            park: 0,
            body: Vec::new(),
            at: engine.now(),
            event: last.event,
            published: true,
            dead_letter: None,
            dead_lettered: true,
            systems: vec!["loyalty".into()],
            certified: None,
        };
        let mut rest = Batch::new();
        expire(&mut rest, &key, engine.now(), &engine.settings, JobOutcome::Failed);
        engine.end_unread(&key, &mut ended, &last.data, rest).await.unwrap();
        key
    }

    async fn put(&self, table: Table, key: &JobKey, value: &[u8]) {
        let mut batch = Batch::new();
        batch.put(table, key.to_bytes(), value);
        self.store.submit(batch).await.unwrap();
    }

    /// Runs retention while an earlier write reaches the disk behind its back.
    async fn forget_while_the_disk_is_slow(&self) {
        let looks = TaskTracker::new();
        let engine = Arc::clone(&self.engine);
        looks.spawn(async move { while engine.forget_due().await.unwrap() > 0 {} });
        looks.close();
        while !looks.is_empty() {
            tokio::task::yield_now().await;
            self.store.sync(usize::MAX);
        }
        self.store.release();
    }

    async fn forget_all(&self) {
        while self.engine.forget_due().await.unwrap() > 0 {}
    }

    fn has(&self, table: Table, key: &JobKey) -> bool {
        self.store.get(table, &key.to_bytes()).unwrap().is_some()
    }

    /// The run in the store, and the number of its journal's entries.
    fn kept(&self, key: &JobKey) -> Option<(u32, usize)> {
        let entries = entries_of(&*self.store, key).unwrap();
        let count = entries.iter().map(|(_, appended)| appended.entries.len()).sum();
        record_of(&*self.store, key).unwrap().map(|record| (record.run, count))
    }

    /// The time of a job's next check.
    fn next_look(&self) -> Option<At> {
        let rows = self.store.scan(Table::Expiry, b"", None, 1).unwrap();
        rows.first().and_then(|(row, _)| read(row)).map(|(at, _, _)| at)
    }
}

#[tokio::test]
async fn a_replay_that_has_just_begun_keeps_its_checkpoints() {
    let stage = Stage::new();
    let key = stage.fail(1).await;
    assert_eq!(stage.kept(&key), Some((1, 1)));
    stage.pass(RETAIN_FAILED);
    let lock = stage.engine.job_locks.try_take(&key).unwrap();
    stage.store.hold();
    let journal = stage.replay(1);
    stage.forget_while_the_disk_is_slow().await;
    assert_eq!(stage.kept(&key), Some((2, 2)));
    drop((journal, lock));
    // After the next check it is still no failed job.
    stage.pass(DAY);
    stage.forget_all().await;
    assert_eq!((stage.kept(&key), stage.next_look()), (Some((2, 2)), None));
}

#[tokio::test]
async fn a_replay_that_lost_its_delivery_before_the_disk_had_its_beginning_keeps_its_checkpoints() {
    let stage = Stage::new();
    let key = stage.fail(1).await;
    stage.pass(RETAIN_FAILED);
    stage.store.hold();
    drop(stage.replay(1));
    stage.forget_while_the_disk_is_slow().await;
    assert_eq!(stage.kept(&key), Some((2, 2)));
}

#[tokio::test]
async fn a_replay_that_begins_as_its_receipt_is_forgotten_keeps_its_checkpoints() {
    for is_in_hand in [true, false] {
        let stage = Stage::new();
        let key = stage.fail(1).await;
        let mut batch = Batch::new();
        batch.remove(Table::Expiry, row(stage.engine.now().plus(RETAIN_FAILED), CHECKPOINTS, &key.to_bytes()));
        stage.store.submit(batch).await.unwrap();
        stage.pass(RETAIN_FINISHED);
        let lock = is_in_hand.then(|| stage.engine.job_locks.try_take(&key).unwrap());
        stage.store.hold();
        let journal = stage.replay(1);
        stage.forget_while_the_disk_is_slow().await;
        assert_eq!(stage.kept(&key), Some((2, 2)), "in hand: {is_in_hand}");
        drop((journal, lock));
        stage.forget_all().await;
        assert_eq!(stage.kept(&key), Some((2, 2)));
        assert_eq!(stage.store.scan(Table::Receipt, b"", None, 9).unwrap(), vec![], "it goes when it can");
    }
}

#[tokio::test]
async fn a_failed_jobs_checkpoints_and_then_the_job_are_forgotten_when_nobody_has_it_in_hand() {
    let stage = Stage::new();
    let key = stage.fail(1).await;
    stage.pass(RETAIN_FAILED);
    let lock = stage.engine.job_locks.try_take(&key).unwrap();
    stage.forget_all().await;
    assert_eq!(stage.kept(&key), Some((1, 1)));
    drop(lock);
    stage.pass(Duration::from_secs(60));
    stage.forget_all().await;
    assert_eq!(stage.kept(&key), None);
    assert!(stage.has(Table::Ended, &key));
    stage.pass(RETAIN_FINISHED);
    stage.forget_all().await;
    assert!(!stage.has(Table::Ended, &key));
    assert_eq!(stage.engine.job_locks.count(), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_no_other_and_is_looked_at_again_in_a_day() {
    let stage = Stage::new();
    let (bad, good) = (stage.fail(1).await, stage.fail(2).await);
    let readable = stage.store.get(Table::Ended, &bad.to_bytes()).unwrap().unwrap();
    stage.put(Table::Ended, &bad, UNREADABLE).await;
    stage.pass(RETAIN_FAILED);
    stage.forget_all().await;
    assert_eq!(stage.kept(&good), None);
    assert_eq!(stage.kept(&bad), Some((1, 1)), "nobody knows whether it is due");
    assert_eq!(stage.next_look(), Some(stage.engine.now().plus(DAY)));
    // A release that can read it.
    stage.put(Table::Ended, &bad, &readable).await;
    stage.pass(DAY);
    stage.forget_all().await;
    assert_eq!(stage.kept(&bad), None);
}

#[tokio::test]
async fn receipts_are_forgotten_beside_a_job_that_cannot_be_read_which_stays_until_it_can() {
    let stage = Stage::new();
    let (bad, good) = (stage.fail(1).await, stage.fail(2).await);
    let readable = stage.store.get(Table::Ended, &bad.to_bytes()).unwrap().unwrap();
    stage.put(Table::Ended, &bad, UNREADABLE).await;
    stage.pass(RETAIN_FINISHED);
    stage.forget_all().await;
    assert_eq!(stage.store.scan(Table::Receipt, b"", None, 9).unwrap(), vec![]);
    assert!(!stage.has(Table::Ended, &good) && stage.kept(&good).is_none());
    assert!(stage.has(Table::Ended, &bad));
    stage.put(Table::Ended, &bad, &readable).await;
    stage.pass(DAY);
    stage.forget_all().await;
    assert_eq!(stage.kept(&bad), None);
    stage.pass(IN_HAND_PAUSE);
    stage.forget_all().await;
    assert!(!stage.has(Table::Ended, &bad));
    assert_eq!(stage.next_look(), None);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_goes_with_its_job() {
    let stage = Stage::new();
    let key = stage.fail(1).await;
    stage.put(Table::Job, &key, UNREADABLE).await;
    stage.pass(RETAIN_FINISHED);
    stage.forget_all().await;
    assert!(!stage.has(Table::Job, &key) && !stage.has(Table::Ended, &key));
}
