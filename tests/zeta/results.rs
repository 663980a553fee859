//! The platform's result file: headers, truncations, and random content.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use erasure_worker::job::RowState;
use erasure_worker::systems::zeta::{ImportLedger, SettleError};
use proptest::prelude::*;

use crate::parts::{at, job_key, open, secret, settings};

const IDS: [&str; 5] = ["INT-1", "INT-12", "a,b", "c\"d", "e5"];

fn exported() -> (tempfile::TempDir, ImportLedger) {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = open(settings(dir.path()));
    for (n, id) in (0..).zip(IDS) {
        ledger.queue(&job_key(n), 0, &secret(id), at(0)).expect("queued");
    }
    ledger.export(None, at(1)).expect("exported").expect("a batch");
    (dir, ledger)
}

fn deleted(ledger: &ImportLedger) -> BTreeSet<&'static str> {
    let is_deleted = |n, id: &str| ledger.state(&job_key(n), 0, &secret(id)) == Ok(RowState::Deleted);
    (0..).zip(IDS).filter(|(n, id)| is_deleted(*n, id)).map(|(_, id)| id).collect()
}

#[test]
fn missing_headers_are_reported_without_members_data() {
    let (_dir, ledger) = exported();
    for (text, shown) in [
        ("", "nothing"),
        ("INT-1,deleted\n", "column 1 (not shown), column 2 (not shown)"),
        ("Ann,ann@example.com\n", "column 1 (not shown), column 2 (not shown)"),
        ("Integration ID,Name\nINT-1,deleted\n", "integrationid, column 2 (not shown)"),
        ("Member ID,Status\nINT-1,deleted\n", "memberid, status"),
        ("Integration ID;Status\nINT-1;deleted\n", "column 1 (not shown)"),
    ] {
        let error = ledger.settle(text.as_bytes(), at(2)).expect_err("no headers");
        assert!(matches!(error, SettleError::MissingHeaders { .. }));
        let wanted = format!("missing headers in file: needed \"Integration ID\" and a status column, found {shown}");
        assert_eq!(error.to_string(), wanted);
    }
    for text in ["Integration ID,Status,Result\n", "Integration ID,IntegrationID,Status\n"] {
        let error = ledger.settle(text.as_bytes(), at(2)).expect_err("ambiguous");
        assert!(matches!(error, SettleError::AmbiguousHeaders { .. }));
    }
    assert!(deleted(&ledger).is_empty());
}

#[test]
fn a_result_truncated_at_any_byte_never_deletes_another_member() {
    for whole in [
        "Status,Integration ID\nskipped,e5\ndeleted,INT-12",
        "Integration ID,Status\ne5,skipped\nINT-12,deleted\n",
        "Status,Integration ID\r\nskipped,e5\r\ndeleted,\"INT-12\"\r\n",
    ] {
        for cut in 0..=whole.len() {
            let (_dir, ledger) = exported();
            let _ = ledger.settle(&whole.as_bytes()[..cut], at(2));
            assert!(deleted(&ledger).is_subset(&BTreeSet::from(["INT-12"])), "{:?}", &whole[..cut]);
        }
    }
}

#[test]
fn an_unclosed_quote_does_not_fill_the_memory() {
    let (_dir, ledger) = exported();
    let endless = "Integration ID,Status\nINT-1,\"".as_bytes().chain(std::io::repeat(b'x'));
    assert!(matches!(ledger.settle(endless, at(2)), Err(SettleError::RecordTooLong)));
    assert!(deleted(&ledger).is_empty());
}

#[test]
fn a_long_result_is_read_to_its_end() {
    let (_dir, ledger) = exported();
    let lines = (0..200_000).map(|n| format!("X-{n},deleted\n")).chain(["e5,deleted\n".to_owned()]);
    let text: String = std::iter::once("Integration ID,Status\n".to_owned()).chain(lines).collect();
    let settled = ledger.settle(text.as_bytes(), at(2)).expect("settled");
    assert_eq!((settled.deleted, settled.missing, settled.unknown), (1, 4, 200_000));
}

fn rows() -> impl Strategy<Value = Vec<(String, String)>> {
    let id = prop_oneof![
        6 => prop::sample::select(&IDS[..]).prop_map(str::to_owned),
        1 => "[A-Z0-9,\"\r\n -]{0,6}",
    ];
    let status = prop_oneof![
        3 => prop::sample::select(&["deleted", "Success", " OK ", "processed"][..]).prop_map(str::to_owned),
        2 => prop::sample::select(&["skipped", "not found", "failed", "Error: x", "", "un-deleted"][..]).prop_map(str::to_owned),
        1 => "[a-z,\"\r\n ]{0,8}",
    ];
    prop::collection::vec((id, status), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_is_deleted_exactly_if_every_record_of_it_says_so(
        rows in rows(), crlf in any::<bool>(), bom in any::<bool>(), status_first in any::<bool>(), last in any::<bool>(),
    ) {
        let mut writer = csv::WriterBuilder::new();
        if crlf {
            writer.terminator(csv::Terminator::CRLF);
        }
        let mut writer = writer.from_writer(if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() });
        let mut write = |id: &str, status: &str| {
            let pair = if status_first { [status, id] } else { [id, status] };
            writer.write_record(pair).expect("written");
        };
        write("integration id", "RESULT");
        let mut named: BTreeMap<&str, bool> = BTreeMap::new();
        for (id, status) in &rows {
            write(id, status);
            let says = ["deleted", "success", "ok", "processed"]
                .contains(&status.to_lowercase().trim_matches(|c: char| !c.is_alphanumeric()));
            *named.entry(id.trim()).or_insert(true) &= says;
        }
        if last {
            write("nobody", "nothing");
        }
        let text = writer.into_inner().expect("text");
        let (_dir, ledger) = exported();
        let settled = ledger.settle(text.as_slice(), at(2));
        let wanted: BTreeSet<&str> =
            IDS.into_iter().filter(|id| named.get(id).copied().unwrap_or(false)).collect();
        prop_assert_eq!(settled.is_ok(), IDS.iter().any(|id| named.contains_key(id)));
        prop_assert_eq!(deleted(&ledger), wanted);
    }

    #[test]
    fn no_random_result_panics_or_deletes_a_row_that_it_does_not_name(
        tail in prop::collection::vec(any::<u8>(), 0..200), headed in any::<bool>(),
    ) {
        let head: &[u8] = if headed { b"Integration ID,Status\n" } else { b"" };
        let text = [head, &tail].concat();
        let (_dir, ledger) = exported();
        let _ = ledger.settle(text.as_slice(), at(2));
        let shown = String::from_utf8_lossy(&text);
        for id in deleted(&ledger) {
            prop_assert!(shown.contains(id.split('"').next().expect("a part")));
            prop_assert!(["deleted", "success", "ok", "processed"].iter().any(|word| shown.to_lowercase().contains(word)));
        }
    }
}
