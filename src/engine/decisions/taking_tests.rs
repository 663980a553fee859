//! Decisions read late, read again, read by new stores, and read after an absence.

use std::time::Duration;

use super::super::{Authenticity, Decided, What};
use crate::broker::Destination;
use crate::engine::pauses::Subject;
use crate::engine::stage::{DAY, Stage};
use crate::job::At;
use crate::store::Batch;

fn shop() -> Subject {
    Subject::System("loyalty".into())
}

fn pause(stage: &Stage) -> Decided {
    let what = What::Pause { subject: shop(), since: stage.engine.now(), again: false };
    stage.engine.decided("operations", "the vendor asked", what)
}

fn resume(stage: &Stage) -> Decided {
    stage.engine.decided("operations", "", What::Resume { subject: shop() })
}

async fn take(stage: &Stage, decided: &Decided) {
    stage.engine.take_decision(decided, Batch::new()).await.unwrap();
}

fn is_paused(stage: &Stage) -> bool {
    stage.engine.pauses().all().contains_key(&shop())
}

/// The messages published for every worker.
fn owed(stage: &Stage) -> Vec<Decided> {
    let published = stage.post.published.lock().unwrap();
    let control = published.iter().filter(|publication| publication.to == Destination::Control);
    control
        .map(|publication| match Decided::read(&publication.body, &stage.engine.keyring) {
            Authenticity::Ours(decided) => *decided,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn later(days: u32) -> Duration {
    DAY * days
}

#[tokio::test]
async fn a_pause_of_long_ago_that_was_resumed_yesterday_ends_as_resumed_in_a_new_store_in_any_number_of_copies() {
    let old = Stage::new();
    let first = pause(&old);
    old.pass(later(80));
    let second = resume(&old);
    for order in [vec![&first, &second], vec![&first, &second, &first], vec![&first, &first, &second, &second, &first]]
    {
        let new = Stage::new();
        new.pass(later(81));
        for decided in order {
            take(&new, decided).await;
        }
        assert!(!is_paused(&new));
    }
    // And the other way round.
    let new = Stage::new();
    new.pass(later(81));
    for decided in [&second, &first, &second] {
        take(&new, decided).await;
    }
    assert!(is_paused(&new), "the last decision wins, and each counts once");
}

#[tokio::test]
async fn a_standing_pause_is_published_again_before_the_stream_forgets_it_and_reaches_a_new_store_as_it_was() {
    let old = Stage::new();
    let first = pause(&old);
    take(&old, &first).await;
    old.engine.publish_pauses_again().await;
    assert_eq!(owed(&old), [], "the stream has it");
    old.pass(later(47));
    old.engine.publish_pauses_again().await;
    let again = owed(&old);
    let [again] = &again[..] else { panic!("{again:?}") };
    assert!(matches!(again.what, What::Pause { again: true, .. }));
    take(&old, again).await;
    old.engine.publish_pauses_again().await;
    assert_eq!(owed(&old).len(), 1, "it was published");

    // The first message is gone by now.
    let new = Stage::new();
    new.pass(later(100));
    take(&new, again).await;
    let all = new.engine.pauses().all();
    let paused = &all[&shop()];
    assert_eq!(
        (At(paused.at), paused.by.as_str(), paused.reason.as_str()),
        (first.at, "operations", "the vendor asked")
    );
}

#[tokio::test]
async fn a_pause_published_again_by_a_worker_that_was_away_does_not_undo_the_resume_that_it_has_not_read() {
    let away = Stage::new();
    let first = pause(&away);
    take(&away, &first).await;
    away.pass(later(47));
    let elsewhere = Stage::new();
    elsewhere.pass(later(46));
    let second = resume(&elsewhere);
    away.engine.publish_pauses_again().await;
    let again = owed(&away).pop().unwrap();
    let new = Stage::new();
    new.pass(later(48));
    for decided in [&first, &second, &again] {
        take(&new, decided).await;
    }
    assert!(!is_paused(&new));
    // A pause after the resume is another one.
    let third = pause(&new);
    take(&new, &third).await;
    assert!(is_paused(&new));
}

#[tokio::test]
async fn a_pause_from_before_the_stream_had_any_is_published_at_once() {
    let stage = Stage::new();
    let row = [b"paused/".as_slice(), shop().to_string().as_bytes()].concat();
    let note = br#"{"at":1787000000000,"by":"operations","reason":"the vendor asked"}"#;
    let mut batch = Batch::new();
    batch.put(crate::store::Table::Meta, row, note.to_vec());
    crate::store::Store::submit(&*stage.store, batch).await.unwrap();
    stage.engine.recall_pauses().unwrap();
    assert!(is_paused(&stage));
    stage.engine.publish_pauses_again().await;
    assert_eq!(owed(&stage).len(), 1);
}

#[tokio::test]
async fn what_is_older_than_the_streams_memory_or_of_another_environment_changes_nothing() {
    let stage = Stage::new();
    let old = pause(&stage);
    stage.pass(later(92));
    take(&stage, &old).await;
    let mut foreign = pause(&stage);
    foreign.environment = "production".into();
    take(&stage, &foreign).await;
    assert!(!is_paused(&stage));
    take(&stage, &pause(&stage)).await;
    assert!(is_paused(&stage));
}
