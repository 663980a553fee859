//! Missing, altered, forged and moved receipts: both verifiers name each by its number.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use erasure_worker::receipt::RECEIPT;
use erasure_worker::seal::{Keyring, MasterKey};
use serde_json::Value;

use crate::batch::{Batch, claims, faults, receipt};

/// The receipt with a changed payload and the old signature.
fn altered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(token);
    change(&mut claims);
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], BASE64.encode(claims.to_string()), parts[2])
}

/// The receipt with a changed payload and a new signature. This needs the key.
fn signed_anew(keyring: &Keyring, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(token);
    change(&mut claims);
    keyring.signer().compact(RECEIPT, claims.to_string().as_bytes())
}

fn event(line: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut event: Value = serde_json::from_str(line).unwrap();
    change(&mut event);
    event.to_string()
}

fn with_receipt(line: &str, token: &str) -> String {
    event(line, |event| event["data"]["receipt"] = token.into())
}

fn named(wanted: &[(&str, u64)]) -> Vec<(String, Option<u64>)> {
    wanted.iter().map(|(kind, number)| ((*kind).to_owned(), Some(*number))).collect()
}

/// The change of the receipts, the lines after it, and the expected faults.
type Case = (&'static str, Vec<String>, Vec<(String, Option<u64>)>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_altered_events_are_named_by_number() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(0..8)).await;
    let lines = batch.final_events();
    let fourth = lines.iter().position(|line| line.contains("easycms")).unwrap();
    let number = fourth as u64 + 1;
    let at = |index: usize, line: String| {
        let mut lines = lines.clone();
        lines[index] = line;
        lines
    };
    let without = |indices: &[usize]| -> Vec<String> {
        lines.iter().enumerate().filter(|(index, _)| !indices.contains(index)).map(|(_, line)| line.clone()).collect()
    };
    let graft = |to: usize, from: usize| {
        let (to, from) = (receipt(&lines[to]), receipt(&lines[from]));
        format!("{}.{}", to.rsplit_once('.').unwrap().0, from.rsplit_once('.').unwrap().1)
    };
    let stranger = Keyring::new(MasterKey::parse(&MasterKey::generate()).unwrap(), Vec::new()).unwrap();
    let forged = signed_anew(&stranger, &receipt(&lines[2]), |_| {});
    let cases: Vec<Case> = vec![
        ("untouched", lines.clone(), named(&[])),
        ("in another order, and twice", [lines.clone(), lines.iter().rev().cloned().collect()].concat(), named(&[])),
        ("one is missing", without(&[4]), named(&[("missing", 5)])),
        ("the first is missing", without(&[0]), named(&[("missing", 1)])),
        ("several are missing", without(&[1, 2, 5]), named(&[("missing", 2), ("missing", 6)])),
        (
            "the receipt's outcome is altered",
            at(
                2,
                with_receipt(
                    &lines[2],
                    &altered(&receipt(&lines[2]), |claims| claims["outcome"] = "completed ".into()),
                ),
            ),
            named(&[("altered", 3)]),
        ),
        (
            "the receipt's number is altered",
            at(2, with_receipt(&lines[2], &altered(&receipt(&lines[2]), |claims| claims["number"] = 103.into()))),
            named(&[("altered", 103), ("missing", 3)]),
        ),
        ("another's signature", at(2, with_receipt(&lines[2], &graft(2, 3))), named(&[("altered", 3)])),
        ("another's key", at(2, with_receipt(&lines[2], &forged)), named(&[("unknown_key", 3)])),
        (
            "the event's outcome is altered",
            at(2, event(&lines[2], |event| event["data"]["outcome"] = "altered".into())),
            named(&[("contradicted", 3)]),
        ),
        (
            "the event's type is altered",
            at(2, event(&lines[2], |event| event["type"] = "erasure.job.altered.v1".into())),
            named(&[("contradicted", 3)]),
        ),
        (
            "a step's time is altered",
            at(fourth, {
                let time: Value = "2026-01-01T00:00:00.000Z".into();
                event(&lines[fourth], |event| event["data"]["targets"][0]["steps"][0]["at"] = time)
            }),
            named(&[("contradicted", number)]),
        ),
        (
            "another's receipt",
            at(2, with_receipt(&lines[2], &receipt(&lines[4]))),
            named(&[("contradicted", 5), ("missing", 3)]),
        ),
    ];
    for (change, lines, expected) in cases {
        let report = batch.verify_texts(&[lines.join("\n")], &[]).await;
        assert_eq!(faults(&report), expected, "{change}: {report:#}");
    }
    let without_receipt = at(2, event(&lines[2], |event| event["data"]["receipt"] = Value::Null));
    let report = batch.verify_texts(&[without_receipt.join("\n")], &[]).await;
    assert_eq!(faults(&report), [("missing".to_owned(), Some(3)), ("no_receipt".to_owned(), None)]);
    let report = batch.verify_texts(&[at(2, "no event".to_owned()).join("\n")], &[]).await;
    assert_eq!(faults(&report), [("missing".to_owned(), Some(3)), ("unreadable".to_owned(), None)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_replaced_or_moved_with_the_workers_key_are_named_by_number() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(20..26)).await;
    let keyring = batch.keyring();
    let receipts: Vec<String> = batch.final_events().iter().map(|line| receipt(line)).collect();
    let at = |index: usize, token: String| {
        let mut receipts = receipts.clone();
        receipts[index] = token;
        receipts
    };
    // Number 4 has another outcome and a valid signature: number 5 does not name it.
    let replaced = at(3, signed_anew(&keyring, &receipts[3], |claims| claims["outcome"] = "failed ".into()));
    let report = batch.verify_texts(&[replaced.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("broken_link", 5)]));
    // Number 3 is missing, and the later ones are renumbered.
    let renumbered: Vec<String> = receipts
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != 2)
        .map(|(index, token)| match index {
            3.. => signed_anew(&keyring, token, |claims| claims["number"] = (index as u64).into()),
            _ => token.clone(),
        })
        .collect();
    let report = batch.verify_texts(&[renumbered.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("broken_link", 3), ("broken_link", 4), ("broken_link", 5)]));
    // Two receipts with one number, as after a store's restore from a copy.
    let other = signed_anew(&keyring, &receipts[4], |claims| claims["run"] = 9.into());
    let report = batch.verify_texts(&[receipts.join("\n"), other], &[]).await;
    assert_eq!(faults(&report), named(&[("forked", 5)]));
    // Two complete branches: every number from the fork on is named, with the reason.
    let fourth = signed_anew(&keyring, &receipts[3], |claims| claims["run"] = 9.into());
    let previous = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&fourth));
    let fifth = signed_anew(&keyring, &receipts[4], |claims| claims["previous"] = previous.as_str().into());
    let branch = [&receipts[..3], &[fourth, fifth]].concat();
    let whole = batch.verify_texts(&[branch.join("\n")], &[]).await;
    assert_eq!(faults(&whole), named(&[]));
    let report = batch.verify_texts(&[receipts.join("\n"), branch.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("forked", 4), ("forked", 5)]));
    assert!(report.to_string().contains("as where a state folder was put back from a copy"), "{report}");
    // A chain without a first receipt.
    let beheaded =
        at(0, signed_anew(&keyring, &receipts[0], |claims| drop(claims.as_object_mut().unwrap().remove("started"))));
    let report = batch.verify_texts(&[beheaded.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("broken_link", 1), ("broken_link", 2)]));
    // A list in chain order with moved lines.
    let mut moved = receipts.clone();
    moved.swap(1, 3);
    let report = batch.verify_texts(&[moved.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("out_of_order", 2), ("out_of_order", 3)]));
    // The same key's signature for another kind of statement is not valid for a receipt.
    let parts: Vec<&str> = receipts[2].split('.').collect();
    let payload = BASE64.decode(parts[1]).unwrap();
    let other = at(2, keyring.signer().compact("another+jws", &payload));
    let report = batch.verify_texts(&[other.join("\n")], &[]).await;
    assert_eq!(faults(&report), named(&[("unreadable", 3)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_chain_is_valid_if_only_a_part_is_claimed() {
    let batch = Batch::start().await;
    batch.run(&batch.jobs(40..46)).await;
    let lines = batch.final_events();
    let some = [lines[1].clone(), lines[2].clone(), lines[4].clone()];
    let report = batch.verify_texts(&some, &["--partial"]).await;
    assert_eq!((&report["valid"], report["receipts"].as_u64()), (&true.into(), Some(3)), "{report:#}");
    assert_eq!(faults(&batch.verify_texts(&some, &[]).await), named(&[("missing", 1), ("missing", 4)]));
    let wrong = with_receipt(&lines[2], &altered(&receipt(&lines[2]), |claims| claims["run"] = 2.into()));
    assert_eq!(faults(&batch.verify_texts(&[wrong], &["--partial"]).await), named(&[("altered", 3)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_input_is_a_usage_error() {
    let batch = Batch::start().await;
    let (keys, empty) = (batch.path("jwks.json"), batch.path("empty"));
    std::fs::write(&empty, "").unwrap();
    let (keys, empty, absent) = (keys.to_str().unwrap(), empty.to_str().unwrap(), "/nowhere/at/all");
    for arguments in
        [["--keys", keys, empty], ["--keys", keys, absent], ["--keys", empty, empty], ["--keys", absent, empty]]
    {
        let output = crate::batch::program(&["receipt", "verify"]).args(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
