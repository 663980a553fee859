//! The files on disk: modes, contents, and truncations at any byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use erasure_worker::job::RowState;
use erasure_worker::systems::zeta::ImportLedger;

use crate::parts::{at, job_key, keyed_by, open, secret, settings};

const IDS: [&str; 4] = ["INT-1", "quo\"te", "INT", "INT-12"];

fn fill(dir: &Path) {
    let ledger = open(settings(dir));
    for (n, id) in (0..).zip(IDS) {
        ledger.queue(&job_key(n), 0, &secret(id), at(0)).expect("queued");
    }
    ledger.queue(&job_key(9), 1, &secret(IDS[1]), at(0)).expect("queued");
}

fn names(dir: &Path) -> BTreeSet<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name");
    fs::read_dir(dir).expect("a folder").flatten().map(name).filter(|name| name != "lock").collect()
}

fn copy(from: &Path, to: &Path) {
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).expect("copied");
    }
}

/// After any crash: a row is whole in both file and log, or in neither. A lost row can be queued again without a
/// duplicate.
fn is_sound(dir: &Path) {
    let ledger = open(settings(dir));
    let kept: Vec<bool> =
        (0..).zip(IDS).map(|(n, id)| ledger.state(&job_key(n), 0, &secret(id)) == Ok(RowState::Waiting)).collect();
    let whole = kept.iter().filter(|kept| **kept).count();
    assert!(kept[..whole].iter().all(|kept| *kept), "a row before the end is lost: {kept:?}");
    let stood: usize = ledger.batches().expect("batches").iter().map(|batch| batch.rows).sum();
    assert_eq!(stood, whole);
    for (n, id) in (0..).zip(IDS) {
        assert_eq!(ledger.queue(&job_key(n), 0, &secret(id), at(1)), Ok(RowState::Waiting));
    }
    drop(ledger);
    let ledger = open(settings(dir));
    let mut text = String::new();
    while let Some(batch) = ledger.export(None, at(2)).expect("exported") {
        text.push_str(std::str::from_utf8(&batch.csv).expect("text"));
    }
    let mut rows: Vec<&str> = text.lines().filter(|row| *row != "Integration ID").collect();
    rows.sort_unstable();
    assert_eq!(rows, ["\"quo\"\"te\"", "INT", "INT-1", "INT-12"]);
}

#[test]
fn after_a_truncation_at_any_byte_of_either_file_every_row_is_whole_or_absent() {
    let full = tempfile::tempdir().expect("a folder");
    fill(full.path());
    for name in ["batch-000001.csv", "batch-000001.rows"] {
        let length = fs::metadata(full.path().join(name)).expect("a file").len();
        for cut in 0..=length {
            let dir = tempfile::tempdir().expect("a folder");
            copy(full.path(), dir.path());
            let file = fs::OpenOptions::new().write(true).open(dir.path().join(name)).expect("a file");
            file.set_len(cut).expect("cut");
            is_sound(dir.path());
        }
    }
}

#[test]
fn zeros_or_a_partial_row_after_a_truncation_do_no_harm() {
    let full = tempfile::tempdir().expect("a folder");
    fill(full.path());
    for name in ["batch-000001.csv", "batch-000001.rows"] {
        let whole = fs::read(full.path().join(name)).expect("a file");
        for cut in (0..=whole.len()).filter(|cut| name.ends_with("csv") || *cut == 0 || whole[cut - 1] == b'\n') {
            for tail in [&[0; 40][..], b"INT-1", b"\"half", b"{\"row\":"] {
                if cut == 0 && name.ends_with("rows") {
                    continue; // A log is created with its whole first line.
                }
                let dir = tempfile::tempdir().expect("a folder");
                copy(full.path(), dir.path());
                fs::write(dir.path().join(name), [&whole[..cut], tail].concat()).expect("written");
                is_sound(dir.path());
            }
        }
    }
}

#[test]
fn a_row_with_a_changed_byte_never_names_another_member() {
    let full = tempfile::tempdir().expect("a folder");
    fill(full.path());
    let whole = fs::read(full.path().join("batch-000001.csv")).expect("a file");
    for changed in 0..whole.len() {
        let dir = tempfile::tempdir().expect("a folder");
        copy(full.path(), dir.path());
        let mut bytes = whole.clone();
        bytes[changed] = b'X';
        fs::write(dir.path().join("batch-000001.csv"), bytes).expect("written");
        is_sound(dir.path());
    }
}

#[test]
fn a_crash_between_the_two_files_leaves_no_row() {
    let full = tempfile::tempdir().expect("a folder");
    fill(full.path());
    for gone in ["batch-000001.csv", "batch-000001.rows"] {
        let dir = tempfile::tempdir().expect("a folder");
        copy(full.path(), dir.path());
        fs::remove_file(dir.path().join(gone)).expect("removed");
        drop(open(settings(dir.path())));
        assert!(names(dir.path()).is_empty());
        is_sound(dir.path());
    }
}

#[test]
fn a_settlement_truncated_at_any_byte_counts_wholly_or_not_at_all() {
    let full = tempfile::tempdir().expect("a folder");
    fill(full.path());
    let ledger = open(settings(full.path()));
    ledger.export(None, at(1)).expect("exported").expect("a batch");
    let log = full.path().join("batch-000001.rows");
    let csv = fs::read(full.path().join("batch-000001.csv")).expect("a file");
    let before = fs::metadata(&log).expect("a file").len();
    let result = "Integration ID,Status\nINT-1,deleted\nINT,deleted\nINT-12,deleted\n\"quo\"\"te\",deleted\n";
    ledger.settle(result.as_bytes(), at(2)).expect("settled");
    drop(ledger);
    assert_eq!(names(full.path()), BTreeSet::from(["batch-000001.rows".to_owned()]));
    let after = fs::metadata(&log).expect("a file").len();
    for cut in before..=after {
        let dir = tempfile::tempdir().expect("a folder");
        copy(full.path(), dir.path());
        fs::write(dir.path().join("batch-000001.csv"), &csv).expect("written");
        let file = fs::OpenOptions::new().write(true).open(dir.path().join("batch-000001.rows")).expect("a file");
        file.set_len(cut).expect("cut");
        let ledger = open(settings(dir.path()));
        let wanted = if cut == after { RowState::Deleted } else { RowState::Waiting };
        for (n, id) in (0..).zip(IDS) {
            assert_eq!(ledger.state(&job_key(n), 0, &secret(id)), Ok(wanted));
        }
        assert_eq!(
            names(dir.path()).contains("batch-000001.csv"),
            cut != after,
            "the file must be gone exactly if settled"
        );
        if cut != after {
            assert_eq!(ledger.settle(result.as_bytes(), at(3)).expect("settled").deleted, 4);
        }
    }
}

#[test]
fn files_are_private_and_only_the_deletion_file_names_members() {
    let dir = tempfile::tempdir().expect("a folder");
    let inner = dir.path().join("import");
    fs::create_dir(&inner).expect("a folder");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).expect("a mode");
    fill(&inner);
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for name in names(&inner) {
        assert_eq!(mode(&inner.join(&name)), 0o600, "{name}");
    }
    assert_eq!(mode(&inner.join("lock")), 0o600);
    let csv = fs::read_to_string(inner.join("batch-000001.csv")).expect("a file");
    assert_eq!(csv, "Integration ID\nINT-1\n\"quo\"\"te\"\nINT\nINT-12\n");
    let ledger = open(settings(&inner));
    ledger.export(None, at(1)).expect("exported").expect("a batch");
    let log = || fs::read_to_string(inner.join("batch-000001.rows")).expect("a file");
    let is_silent = |text: String| assert!(!text.contains("INT") && !text.contains("quo"), "{text}");
    is_silent(log());
    ledger.settle("Integration ID,Status\nINT-1,deleted\n".as_bytes(), at(2)).expect("settled");
    is_silent(log());
    assert_eq!(names(&inner), BTreeSet::from(["batch-000001.rows".to_owned()]));
}

#[test]
fn rows_without_a_result_survive_a_change_of_the_digest_key() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path());
    for key in [b"another key".as_slice(), b"a third key"] {
        let ledger = ImportLedger::open(settings(dir.path()), keyed_by(key)).expect("a ledger");
        for (n, id) in (0..).zip(IDS) {
            assert_eq!(ledger.state(&job_key(n), 0, &secret(id)), Ok(RowState::Waiting));
            assert_eq!(ledger.queue(&job_key(n), 0, &secret(id), at(1)), Ok(RowState::Waiting));
        }
        assert_eq!(ledger.state(&job_key(9), 1, &secret(IDS[1])), Ok(RowState::Waiting));
        assert_eq!(ledger.batches().expect("batches")[0].rows, IDS.len());
    }
}
