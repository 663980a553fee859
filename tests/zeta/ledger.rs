//! The ledger of the deletion file: one row a member, batches, settlements.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::job::{FailureKind, MemberKey, RowState};
use erasure_worker::systems::zeta::{ImportLedger, LedgerError, SettleError};

use crate::parts::{at, job_key, keyed, open, secret, settings};

fn exported(ledger: &ImportLedger) -> String {
    let batch = ledger.export(None, at(100)).expect("exported").expect("a batch");
    String::from_utf8(batch.csv.to_vec()).expect("text")
}

#[test]
fn concurrent_jobs_about_one_member_give_one_row() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Arc::new(open(settings(dir.path())));
    let threads: Vec<_> = (0..8u128)
        .map(|thread| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                for n in 0..50u128 {
                    let value = secret(&format!("INT-{}", n % 25));
                    let row = ledger.queue(&job_key(thread * 100 + n), 0, &value, at(0));
                    assert_eq!(row, Ok(RowState::Waiting));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
    drop(Arc::into_inner(ledger).expect("the last"));

    let ledger = open(settings(dir.path()));
    let text = exported(&ledger);
    let mut rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.remove(0), "Integration ID");
    rows.sort_unstable();
    let mut wanted: Vec<String> = (0..25).map(|n| format!("INT-{n}")).collect();
    wanted.sort_unstable();
    assert_eq!(rows, wanted);

    let result: String = std::iter::once("Integration ID,Status\n".to_owned())
        .chain(wanted.iter().map(|id| format!("{id},ok\n")))
        .collect();
    assert_eq!(ledger.settle(result.as_bytes(), at(101)).expect("settled").deleted, 25);
    for thread in 0..8u128 {
        for n in 0..50u128 {
            let value = secret(&format!("INT-{}", n % 25));
            assert_eq!(ledger.state(&job_key(thread * 100 + n), 0, &value), Ok(RowState::Deleted));
        }
    }
}

#[test]
fn a_batch_is_closed_by_size_and_by_age() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut small = settings(dir.path());
    (small.max_rows, small.max_age) = (2, Duration::from_secs(60));
    let ledger = open(small);
    for (n, second) in [(1, 0), (2, 1), (3, 2), (4, 62), (5, 63)] {
        ledger.queue(&job_key(n), 0, &secret(&format!("INT-{n}")), at(second)).expect("queued");
    }
    let rows: Vec<_> = ledger.batches().expect("batches").iter().map(|b| (b.rows, b.closed_at.is_some())).collect();
    assert_eq!(rows, [(2, true), (1, true), (2, true)]);
    ledger.queue(&job_key(6), 0, &secret("INT-6"), at(64)).expect("queued");
    ledger.close_due(at(123)).expect("not due");
    assert!(ledger.batches().expect("batches")[3].closed_at.is_none());
    ledger.close_due(at(124)).expect("due");
    assert!(ledger.batches().expect("batches")[3].closed_at.is_some());
}

#[test]
fn batches_are_exported_once_oldest_first_and_again_only_by_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut small = settings(dir.path());
    small.max_rows = 1;
    let ledger = open(small.clone());
    assert!(ledger.export(None, at(0)).expect("nothing").is_none());
    for n in 1..=2 {
        ledger.queue(&job_key(n), 0, &secret(&format!("INT-{n}")), at(0)).expect("queued");
    }
    let first = ledger.export(None, at(1)).expect("exported").expect("first");
    assert_eq!((first.rows, first.csv.as_slice()), (1, b"Integration ID\nINT-1\n".as_slice()));
    let second = ledger.export(None, at(1)).expect("exported").expect("second");
    assert_eq!(second.csv.as_slice(), b"Integration ID\nINT-2\n");
    assert!(ledger.export(None, at(1)).expect("nothing").is_none());
    drop(ledger);
    let ledger = open(small);
    assert!(ledger.export(None, at(2)).expect("nothing").is_none());
    let again = ledger.export(Some(first.id), at(2)).expect("exported").expect("again");
    assert_eq!(again.csv, first.csv);
    assert_eq!("1".parse(), Ok(first.id));
    assert!(!format!("{again:?}").contains("INT-1"));
}

#[test]
fn a_settlement_gives_every_row_and_every_job_its_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    let ids = ["plain", "quo\"te", "com,ma", "not there", "unnamed", "doubtful", "both"];
    for (n, id) in (0..).zip(ids) {
        ledger.queue(&job_key(n), 0, &secret(id), at(0)).expect("queued");
    }
    ledger.queue(&job_key(50), 3, &secret("plain"), at(0)).expect("queued");
    assert_eq!(
        exported(&ledger),
        "Integration ID\nplain\n\"quo\"\"te\"\n\"com,ma\"\nnot there\nunnamed\ndoubtful\nboth\n"
    );
    let result = "\u{feff}\"Row\",\" integration_id \",\"Import Status\"\r\n1, plain ,Deleted\r\n2,\"quo\"\"te\",SUCCESS\r\n\
                  3,\"com,ma\",\"ok\"\r\n4,not there,Skipped: unknown\r\n5,doubtful,perhaps deleted\r\n\
                  6,both,deleted\r\n7,both,not_found\r\n8,somebody,deleted\r\n\r\n";
    let settled = ledger.settle(result.as_bytes(), at(200)).expect("settled");
    assert_eq!((settled.deleted, settled.skipped, settled.missing, settled.doubtful, settled.unknown), (3, 2, 2, 1, 1));
    let states = [
        RowState::Deleted,
        RowState::Deleted,
        RowState::Deleted,
        RowState::Skipped,
        RowState::Missing,
        RowState::Missing,
        RowState::Skipped,
    ];
    let check = |ledger: &ImportLedger| {
        for (n, (id, state)) in (0..).zip(ids.iter().zip(states)) {
            assert_eq!(ledger.state(&job_key(n), 0, &secret(id)), Ok(state), "{id}");
        }
        assert_eq!(ledger.state(&job_key(50), 3, &secret("plain")), Ok(RowState::Deleted));
        assert_eq!(ledger.state(&job_key(50), 4, &secret("plain")), Ok(RowState::Missing));
        assert_eq!(ledger.state(&job_key(51), 3, &secret("plain")), Ok(RowState::Missing));
    };
    check(&ledger);
    drop(ledger);
    check(&open(settings(dir.path())));
}

#[test]
fn an_email_address_names_one_member_in_any_letter_case() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut by_email = settings(dir.path());
    by_email.key = MemberKey::Email;
    let ledger = open(by_email);
    ledger.queue(&job_key(1), 0, &secret("Ann@example.com"), at(0)).expect("queued");
    ledger.queue(&job_key(2), 0, &secret("ann@example.com"), at(0)).expect("queued");
    assert_eq!(exported(&ledger), "Email\nAnn@example.com\n");
    ledger.settle("Result,Email\nprocessed,ANN@EXAMPLE.COM\n".as_bytes(), at(1)).expect("settled");
    assert_eq!(ledger.state(&job_key(2), 0, &secret("ann@example.com")), Ok(RowState::Deleted));
}

#[test]
fn a_settled_deletion_stays_and_every_other_row_may_be_queued_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    for (n, id) in [(1, "INT-1"), (2, "INT-2")] {
        ledger.queue(&job_key(n), 0, &secret(id), at(0)).expect("queued");
    }
    exported(&ledger);
    ledger.settle("Integration ID,Status\nINT-1,deleted\nINT-2,skipped\n".as_bytes(), at(1)).expect("settled");
    assert_eq!(ledger.queue(&job_key(1), 0, &secret("INT-1"), at(2)), Ok(RowState::Deleted));
    assert_eq!(ledger.queue(&job_key(2), 0, &secret("INT-2"), at(2)), Ok(RowState::Waiting));
    assert_eq!(ledger.queue(&job_key(3), 0, &secret("INT-1"), at(2)), Ok(RowState::Waiting));
    assert_eq!(exported(&ledger), "Integration ID\nINT-2\nINT-1\n");
    drop(ledger);
    let ledger = open(settings(dir.path()));
    assert_eq!(ledger.state(&job_key(1), 0, &secret("INT-1")), Ok(RowState::Deleted));
    assert_eq!(ledger.state(&job_key(2), 0, &secret("INT-2")), Ok(RowState::Waiting));
}

#[test]
fn a_result_settles_only_the_batch_that_its_rows_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut small = settings(dir.path());
    small.max_rows = 1;
    let ledger = open(small);
    for n in 1..=3 {
        ledger.queue(&job_key(n), 0, &secret(&format!("INT-{n}")), at(0)).expect("queued");
    }
    exported(&ledger);
    let second = ledger.export(None, at(1)).expect("exported").expect("second").id;
    let settle = |text: &str| ledger.settle(text.as_bytes(), at(2));
    // The third batch was never exported, so no result can name it.
    let nothing = settle("Integration ID,Status\nINT-3,deleted\nINT-9,deleted\n");
    assert!(matches!(nothing, Err(SettleError::NothingMatches { unknown: 2 })));
    assert!(matches!(settle("Integration ID,Status\n"), Err(SettleError::NothingMatches { unknown: 0 })));
    let both = settle("Integration ID,Status\nINT-1,deleted\nINT-2,deleted\n");
    assert!(matches!(both, Err(SettleError::SeveralBatches { .. })));
    assert_eq!(ledger.state(&job_key(1), 0, &secret("INT-1")), Ok(RowState::Waiting));
    assert_eq!(settle("Integration ID,Status\nINT-2,deleted\n").expect("settled").batch, second);
    assert_eq!(ledger.state(&job_key(1), 0, &secret("INT-1")), Ok(RowState::Waiting));
    assert!(matches!(settle("Integration ID,Status\nINT-2,deleted\n"), Err(SettleError::NothingMatches { .. })));
}

#[test]
fn a_forgotten_batch_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    ledger.queue(&job_key(1), 0, &secret("INT-1"), at(0)).expect("queued");
    exported(&ledger);
    ledger.settle("Integration ID,Status\nINT-1,deleted\n".as_bytes(), at(10)).expect("settled");
    let nobody = |_: &str| false;
    assert_eq!(ledger.forget(at(10), nobody).expect("none"), 0);
    assert_eq!(
        ledger.forget(at(11), |job| job == job_key(1).to_string()).expect("none"),
        0,
        "a batch of an open job was forgotten"
    );
    assert_eq!(ledger.state(&job_key(1), 0, &secret("INT-1")), Ok(RowState::Deleted));
    assert_eq!(ledger.forget(at(11), nobody).expect("one"), 1);
    assert_eq!(ledger.state(&job_key(1), 0, &secret("INT-1")), Ok(RowState::Missing));
    let names: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["lock"]);
}

#[test]
fn a_value_that_does_not_fit_one_row_is_rejected() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    for value in ["", "  ", "two\nrows", "a\rb", "nul\0"] {
        let failure = ledger.queue(&job_key(1), 0, &secret(value), at(0)).expect_err("rejected");
        assert_eq!(failure.kind, FailureKind::Rejected);
    }
    assert!(ledger.batches().expect("batches").is_empty());
}

#[test]
fn unusable_settings_and_a_folder_in_use_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for key in [MemberKey::CardId, MemberKey::DatabaseId] {
        let mut wrong = settings(dir.path());
        wrong.key = key;
        assert!(matches!(ImportLedger::open(wrong, keyed()), Err(LedgerError::Setting { .. })));
    }
    let mut none = settings(dir.path());
    none.max_rows = 0;
    assert!(matches!(ImportLedger::open(none, keyed()), Err(LedgerError::Setting { .. })));
    let ledger = open(settings(dir.path()));
    assert!(matches!(ImportLedger::open(settings(dir.path()), keyed()), Err(LedgerError::Locked { .. })));
    ledger.queue(&job_key(1), 0, &secret("INT-1"), at(0)).expect("queued");
    drop(ledger);
    let mut other = settings(dir.path());
    other.key = MemberKey::MemberId;
    assert!(matches!(ImportLedger::open(other, keyed()), Err(LedgerError::OtherKey { .. })));
}

#[test]
fn a_files_result_counts_only_for_jobs_queued_before_its_export() {
    // All orders: the act before which the second job is queued, and the acts after which the worker restarts.
    const ACTS: usize = 3;
    let mut cases = 0;
    for comes_at in 0..=ACTS {
        for restarts in 0..1_u32 << (ACTS + 1) {
            let dir = tempfile::tempdir().expect("a folder");
            let mut ledger = Some(open(settings(dir.path())));
            for act in 0..=ACTS {
                let now = ledger.as_ref().expect("open");
                if act == comes_at {
                    assert_eq!(now.queue(&job_key(2), 0, &secret("INT-1"), at(50)), Ok(RowState::Waiting));
                }
                match act {
                    0 => assert_eq!(now.queue(&job_key(1), 0, &secret("INT-1"), at(0)), Ok(RowState::Waiting)),
                    1 => now.close_due(at(100_000_000)).expect("closed"),
                    2 => assert_eq!(exported(now), "Integration ID\nINT-1\n"),
                    _ => {
                        now.settle(b"Integration ID,Status\nINT-1,deleted\n".as_slice(), at(101)).expect("settled");
                    }
                }
                if restarts & (1 << act) != 0 {
                    drop(ledger.take());
                    ledger = Some(open(settings(dir.path())));
                }
            }
            let ledger = ledger.expect("open");
            let states = [1, 2].map(|job| ledger.state(&job_key(job), 0, &secret("INT-1")));
            let second = if comes_at <= 2 { RowState::Deleted } else { RowState::Waiting };
            assert_eq!(states, [Ok(RowState::Deleted), Ok(second)], "{comes_at} {restarts:b}");
            if comes_at > 2 {
                assert_eq!(exported(&ledger), "Integration ID\nINT-1\n", "the later job has no row in the next file");
            }
            cases += 1;
        }
    }
    eprintln!("a job that joins a file: {cases} cases");
}

#[test]
fn a_member_in_two_exported_files_is_settled_by_each_files_own_result() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    let queue = |job, id: &str| ledger.queue(&job_key(job), 0, &secret(id), at(0)).expect("queued");
    let state = |job, id: &str| ledger.state(&job_key(job), 0, &secret(id)).expect("a state");
    queue(1, "INT-1");
    queue(2, "INT-2");
    exported(&ledger);
    queue(3, "INT-1");
    queue(4, "INT-4");
    exported(&ledger);
    // The result names both members: only the second file has both.
    ledger.settle(b"Integration ID,Status\nINT-1,skipped\nINT-4,ok\n".as_slice(), at(1)).expect("settled");
    assert_eq!(
        [state(1, "INT-1"), state(3, "INT-1"), state(4, "INT-4")],
        [RowState::Waiting, RowState::Skipped, RowState::Deleted]
    );
    // Both remaining files have the named member: the older one is settled.
    queue(5, "INT-1");
    exported(&ledger);
    ledger.settle(b"Integration ID,Status\nINT-1,ok\n".as_slice(), at(2)).expect("settled");
    assert_eq!([state(1, "INT-1"), state(5, "INT-1")], [RowState::Deleted, RowState::Waiting]);
}

#[test]
fn a_job_that_an_earlier_release_added_to_an_exported_file_is_not_settled_by_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    ledger.queue(&job_key(1), 0, &secret("INT-1"), at(0)).expect("queued");
    exported(&ledger);
    drop(ledger);
    let log = dir.path().join("batch-000001.rows");
    let shared = format!("{{\"shared\":{{\"row\":0,\"job\":\"{}\",\"target\":0}}}}\n", job_key(2));
    let before = std::fs::read_to_string(&log).expect("a log");
    std::fs::write(&log, before + &shared).expect("written");
    let ledger = open(settings(dir.path()));
    ledger.settle(b"Integration ID,Status\nINT-1,deleted\n".as_slice(), at(101)).expect("settled");
    let state = |job| ledger.state(&job_key(job), 0, &secret("INT-1"));
    assert_eq!([state(1), state(2)], [Ok(RowState::Deleted), Ok(RowState::Missing)]);
}
