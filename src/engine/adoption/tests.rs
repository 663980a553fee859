//! A copy's knowledge, adopted by a store that has less.

use super::*;
use crate::engine::stage::Stage;
use crate::job::event::Deadline;
use crate::job::{At, Standstill};

/// Carried knowledge about a job, one fact each.
fn accounts() -> Vec<Lasting> {
    let at = At(1_788_775_000_000);
    let codes = Codes { count: 1, at, by: None };
    let nothing = Lasting::default;
    let all = vec![
        Lasting { touched: [0].into(), ..nothing() },
        Lasting { changed: [0].into(), ..nothing() },
        Lasting { codes: [(0, codes)].into(), ..nothing() },
        Lasting { cancel_refused: Some(at), ..nothing() },
        Lasting { counted: Some(at), ..nothing() },
        Lasting { reported: Some((1, Deadline::AtRisk)), ..nothing() },
    ];
    let adopted = all.iter().fold(nothing(), |mut adopted, account| {
        adopted.adopt(account);
        adopted
    });
    // A new field belongs in the list.
    let Lasting { touched, changed, codes, cancel_refused, counted, reported } = adopted;
    assert!(!touched.is_empty() && !changed.is_empty() && !codes.is_empty());
    assert!(cancel_refused.is_some() && counted.is_some() && reported.is_some());
    all
}

#[tokio::test]
async fn what_a_copy_carries_is_adopted_by_a_store_that_is_behind_and_by_one_that_lost_the_job() {
    for (lasting, is_lost) in accounts().into_iter().flat_map(|account| [(account.clone(), false), (account, true)]) {
        let stage = Stage::new();
        let key = stage.job(1).key;
        if !is_lost {
            stage.open(1, Origin::Publisher).durable().await.unwrap();
        }
        let stands = Standstill { run: 1, turn: 2, score: 3, since: At(1_788_775_000_000), reported: 4 };
        let carried = Box::new(Carried { seq: 7, lasting: lasting.clone(), stands });
        let journal = stage.open(1, Origin::Ours { key: key.clone(), run: 1, park: 3, carried });
        journal.durable().await.unwrap();
        let record = record_of(&*stage.store, &key).unwrap().unwrap();
        let known = (record.seq, record.park_written, record.park_confirmed, record.lasting);
        assert_eq!(known, (7, 3, 3, lasting), "the job was lost: {is_lost}");
        assert_eq!(record.stands, stands, "the job was lost: {is_lost}");
    }
}
