//! The store's records: read back as written, and no panic on other bytes.

use std::time::Duration;

use erasure_worker::job::event::Deadline;
use erasure_worker::job::record::{Appended, Certified, DeadLetterNote, Event, Undecodable};
use erasure_worker::job::wait::REPORT_AFTER;
use erasure_worker::job::wait::Waiting;
use erasure_worker::job::{
    Absence, Answer, At, Carried, CodeState, Codes, Ended, Entitlement, Entry, FailureKind, Field, Identity, InputKind,
    JobKey, JobOutcome, JobRecord, Lasting, Reason, RowState, Seen, Standstill, Step, StepName, TargetEnd,
    TargetOutcome,
};
use proptest::prelude::*;
use proptest::sample::select;

fn at() -> impl Strategy<Value = At> {
    any::<i64>().prop_map(At)
}

fn step() -> impl Strategy<Value = Step> {
    (select(StepName::ALL.to_vec()), any::<u32>()).prop_map(|(name, item)| Step::item(name, item))
}

fn reason() -> impl Strategy<Value = Reason> {
    select(Reason::ALL.to_vec())
}

fn identity() -> impl Strategy<Value = Identity> {
    select(vec![Identity::Same, Identity::Other, Identity::Unreadable, Identity::Blank])
}

fn entitlement() -> impl Strategy<Value = Entitlement> {
    (".{0,9}", ".{0,9}", any::<[bool; 3]>(), proptest::option::of(".{0,9}")).prop_map(
        |(offer_id, status, [gives_access, externally_managed, is_pass], id)| Entitlement {
            offer_id,
            status,
            gives_access,
            externally_managed,
            is_pass,
            id,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let states = select(vec![CodeState::Active, CodeState::Cancelled, CodeState::Unknown]);
    let rows = select(vec![RowState::Waiting, RowState::Deleted, RowState::Skipped, RowState::Missing]);
    let fields = proptest::sample::subsequence(Field::ALL.to_vec(), 0..=5);
    let left = fields.clone().prop_map(|fields| Answer::Left { fields });
    prop_oneof![
        Just(Answer::Done),
        Just(Answer::AlreadyDone),
        reason().prop_map(Answer::Unclear),
        identity().prop_map(Answer::Found),
        Just(Answer::Missing(Absence::vouched())),
        proptest::collection::vec(entitlement(), 0..3).prop_map(Answer::Entitlements),
        (identity(), ".{0,9}", proptest::option::of(".{0,9}"), fields)
            .prop_map(|(identity, guid, email, fields)| Answer::User { identity, guid, email, fields }),
        (states, identity()).prop_map(|(state, owner)| Answer::Code { state, owner }),
        any::<u32>().prop_map(|unexpired| Answer::Licenses { unexpired }),
        rows.prop_map(Answer::Row),
        any::<bool>().prop_map(|stand| Answer::Values { stand }),
        left,
    ]
}

fn kind() -> impl Strategy<Value = FailureKind> {
    prop_oneof![
        select(vec![
            FailureKind::Unavailable,
            FailureKind::RateLimited,
            FailureKind::Ambiguous,
            FailureKind::UnauthorisedOurs,
            FailureKind::Refused,
            FailureKind::Rejected,
            FailureKind::Unreadable,
        ]),
        select(InputKind::ALL.to_vec()).prop_map(FailureKind::UnauthorisedTheirs),
    ]
}

fn end() -> impl Strategy<Value = TargetEnd> {
    let steps = proptest::option::of(select(StepName::ALL.to_vec()));
    (select(TargetOutcome::ALL.to_vec()), proptest::option::of(reason()), steps)
        .prop_map(|(outcome, reason, step)| TargetEnd { outcome, reason, step })
}

fn entry() -> impl Strategy<Value = Entry> {
    let target = any::<u16>();
    prop_oneof![
        (target, step(), at()).prop_map(|(target, step, at)| Entry::Intent { target, step, at }),
        (target, step(), proptest::option::of(answer()), at()).prop_map(|(target, step, answer, at)| Entry::Answered {
            target,
            step,
            answer,
            at
        }),
        (target, step(), kind(), reason(), at(), at()).prop_map(|(target, step, kind, reason, at, not_before)| {
            Entry::Failed { target, step, kind, reason, at, not_before }
        }),
        (target, step(), any::<bool>(), at()).prop_map(|(target, step, done, at)| Entry::Settled {
            target,
            step,
            done,
            at
        }),
        (target, select(InputKind::ALL.to_vec()), at()).prop_map(|(target, kind, at)| Entry::Asked {
            target,
            kind,
            at
        }),
        at().prop_map(|at| Entry::Continued { at }),
        at().prop_map(|at| Entry::OfferedAgain { at }),
        (any::<bool>(), at()).prop_map(|(counted, at)| Entry::LetThrough { counted, at }),
        (target, end(), at()).prop_map(|(target, end, at)| Entry::Ended { target, end, at }),
        at().prop_map(|at| Entry::NewRun { at }),
        (target, step(), any::<bool>(), at(), at()).prop_map(|(target, step, works, at, not_before)| {
            Entry::Excused { target, step, works, at, not_before }
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (".{0,9}", ".{0,9}", proptest::collection::vec(any::<u8>(), 0..40), at()).prop_map(|(id, what, body, at)| Event {
        id,
        what,
        body,
        at,
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn systems() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-z]{1,9}", 0..4)
}

fn lasting() -> impl Strategy<Value = Lasting> {
    let targets = || proptest::collection::btree_set(any::<u16>(), 0..4);
    let by = proptest::option::of("[0-9a-f-]{36}");
    let codes = (any::<u32>(), at(), by).prop_map(|(count, at, by)| Codes { count, at, by });
    let codes = proptest::collection::btree_map(any::<u16>(), codes, 0..3);
    let times = (proptest::option::of(at()), proptest::option::of(at()));
    let reported = proptest::option::of((any::<u32>(), select(Deadline::ALL.to_vec())));
    (targets(), targets(), codes, times, reported).prop_map(
        |(touched, changed, codes, (cancel_refused, counted), reported)| Lasting {
            touched,
            changed,
            codes,
            cancel_refused,
            counted,
            reported,
        },
    )
}

fn standstill() -> impl Strategy<Value = Standstill> {
    (any::<[u32; 3]>(), at(), any::<u8>()).prop_map(|([run, turn, score], since, reported)| Standstill {
        run,
        turn,
        score,
        since,
        reported,
    })
}

fn record() -> impl Strategy<Value = JobRecord> {
    let numbers = (any::<[u32; 2]>(), any::<[u64; 3]>(), at(), at(), proptest::option::of(at()));
    let words = (bytes(), bytes(), proptest::option::of(".{0,9}"), systems(), ".{0,9}");
    let announced = proptest::collection::vec((any::<u16>(), select(InputKind::ALL.to_vec())), 0..3);
    let rest = (proptest::option::of((select(Waiting::ALL.to_vec()), at())), announced, proptest::option::of(event()));
    let stands = (standstill(), proptest::option::of(any::<u16>()));
    (numbers, words, rest, (lasting(), any::<u64>(), at(), any::<bool>()), stands).prop_map(
        |(
            ([run, seq], [copy, park_written, park_confirmed], opened_at, requested_at, due_at),
            (identity, body, regulation, systems, subject_ref),
            (waiting, announced, owed),
            (lasting, term, seen_at, elsewhere),
            (stands, waits_at),
        )| JobRecord {
            identity,
            run,
            seq,
            body,
            copy,
            park_written,
            park_confirmed,
            opened_at,
            requested_at,
            due_at,
            regulation,
            systems,
            subject_ref,
            waiting,
            announced,
            owed,
            lasting,
            seen: Seen { term, at: seen_at, elsewhere },
            stands,
            waits_at,
        },
    )
}

fn ended() -> impl Strategy<Value = Ended> {
    let steps = proptest::option::of(select(StepName::ALL.to_vec()));
    let note = (reason(), proptest::option::of("[a-z]{1,9}"), steps, any::<u32>())
        .prop_map(|(reason, system, step, attempts)| DeadLetterNote { reason, system, step, attempts });
    let numbers = (any::<[u32; 2]>(), any::<u64>(), at(), any::<[bool; 2]>());
    let digests = (bytes(), bytes());
    // If the event is kept with its receipt, only its time is kept here.
    let certified = proptest::option::of((any::<u64>(), "[a-z0-9-]{0,40}"));
    let certified = certified.prop_map(|kept| kept.map(|(number, subject_ref)| Certified { number, subject_ref }));
    let reported = (event(), certified).prop_map(|(event, certified)| match certified {
        Some(_) => (Event { id: String::new(), what: String::new(), body: Vec::new(), at: event.at }, certified),
        None => (Event { body: [b"{", &event.body[..]].concat(), ..event }, None),
    });
    (digests, select(JobOutcome::ALL.to_vec()), numbers, reported, proptest::option::of(note), systems()).prop_map(
        |(
            (identity, body),
            outcome,
            ([run, seq], park, at, [published, dead_lettered]),
            (event, certified),
            dead_letter,
            systems,
        )| Ended {
            identity,
            body,
            outcome,
            run,
            seq,
            park,
            at,
            event,
            published,
            dead_letter,
            dead_lettered,
            systems,
            certified,
        },
    )
}

/// Reads the value back; refuses every other version, every shorter and every longer form.
fn check<T: PartialEq + std::fmt::Debug>(
    value: &T,
    (bytes, version): (&[u8], u8),
    read: impl Fn(&[u8]) -> Result<T, Undecodable>,
    cut: &prop::sample::Index,
    flip: (prop::sample::Index, u8),
) -> Result<(), TestCaseError> {
    let back = read(bytes);
    prop_assert_eq!(back.as_ref(), Ok(value));
    prop_assert_eq!(bytes[0], version);
    for version in [0, 4, 255] {
        let mut other = bytes.to_vec();
        other[0] = version;
        prop_assert_eq!(read(&other).map_err(|error| error.version), Err(Some(version)));
    }
    prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
    let mut longer = bytes.to_vec();
    longer.push(0);
    prop_assert!(read(&longer).is_err());
    let mut flipped = bytes.to_vec();
    let position = flip.0.index(flipped.len());
    flipped[position] ^= flip.1;
    let _ = read(&flipped);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_record_reads_back_as_written_and_other_versions_and_lengths_are_refused(
        record in record(),
        ended in ended(),
        entries in proptest::collection::vec(entry(), 0..6),
        sealed in proptest::collection::vec((any::<u32>(), bytes()), 0..3),
        (event, answer) in (event(), answer()),
        cut in any::<prop::sample::Index>(),
        flip in (any::<prop::sample::Index>(), 1_u8..),
    ) {
        let appended = Appended { entries, sealed };
        check(&record, (&record.to_bytes(), 3), JobRecord::from_bytes, &cut, flip)?;
        check(&ended, (&ended.to_bytes(), 1), Ended::from_bytes, &cut, flip)?;
        check(&appended, (&appended.to_bytes(), 1), Appended::from_bytes, &cut, flip)?;
        check(&event, (&event.to_bytes(), 1), Event::from_bytes, &cut, flip)?;
        check(&answer, (&answer.to_bytes(), 1), Answer::from_bytes, &cut, flip)?;
    }

    #[test]
    fn a_record_of_an_earlier_release_is_read_with_default_new_fields(record in record()) {
        let bare = JobRecord { stands: Standstill::default(), waits_at: None, ..record };
        let mut bytes = bare.to_bytes();
        bytes[0] = 2;
        // Five bytes of an empty standstill, one of an empty `waits_at`.
        bytes.truncate(bytes.len() - 6);
        prop_assert_eq!(JobRecord::from_bytes(&bytes), Ok(bare.clone()));
        let bare = JobRecord { lasting: Lasting::default(), seen: Seen::default(), ..bare };
        let mut bytes = bare.to_bytes();
        bytes[0] = 1;
        // Six more bytes of empty lasting facts, three of an empty `seen`.
        bytes.truncate(bytes.len() - 15);
        prop_assert_eq!(JobRecord::from_bytes(&bytes), Ok(bare));
    }

    #[test]
    fn a_standstill_takes_the_newest_of_all_copies_in_any_order_of_adoption(
        accounts in proptest::collection::vec((1..3_u32, 1..3_u32, 0..3_u32, -3..3_i64, 0..3_u8), 1..4),
    ) {
        let all = || accounts.iter().map(|(run, turn, score, since, reported)| Standstill {
            run: *run, turn: *turn, score: *score, since: At(*since), reported: *reported,
        });
        let adopted = |order: &mut dyn Iterator<Item = Standstill>| order.fold(Standstill::default(), |mut known, other| {
            known.adopt(&other);
            known
        });
        let both = adopted(&mut all());
        prop_assert_eq!(adopted(&mut all().rev()), both);
        for account in all() {
            prop_assert!((both.run, both.turn) >= (account.run, account.turn));
            let is_same = (both.run, both.turn) == (account.run, account.turn);
            prop_assert!(!is_same || (both.reported >= account.reported && both.since <= account.since));
            let mut again = both;
            again.adopt(&account);
            prop_assert_eq!(again, both, "adopting a known fact again changes the state");
        }
    }

    #[test]
    fn with_any_clock_a_standstill_reports_each_step_of_the_table_at_most_once(
        times in proptest::collection::vec((any::<i64>(), select(Waiting::ALL.to_vec())), 0..40),
    ) {
        let (mut stands, mut reported) = (Standstill::default(), Vec::new());
        for (now, why) in times {
            stands.begin(1, 0, At(now));
            if stands.report_due(why, At(now)) {
                reported.push(stands.reported);
            }
        }
        prop_assert!(reported.is_sorted_by(|one, next| one < next), "{:?}", reported);
        prop_assert!(reported.len() <= REPORT_AFTER.len());
    }

    #[test]
    fn lasting_facts_take_the_newest_of_all_copies_in_any_order_of_adoption(
        accounts in proptest::collection::vec(lasting(), 1..4),
    ) {
        let adopted = |order: &mut dyn Iterator<Item = &Lasting>| {
            order.fold(Lasting::default(), |mut known, account| {
                known.adopt(account);
                known
            })
        };
        let all = adopted(&mut accounts.iter());
        let mut again = all.clone();
        for account in &accounts {
            again.adopt(account);
            prop_assert!(all.touched.is_superset(&account.touched) && all.changed.is_superset(&account.changed));
            prop_assert!(all.cancel_refused >= account.cancel_refused && all.reported >= account.reported);
            for (target, codes) in &account.codes {
                prop_assert!(all.codes[target].count >= codes.count);
            }
        }
        prop_assert_eq!(&again, &all, "adopting a known fact again changes the state");
        let back = adopted(&mut accounts.iter().rev());
        prop_assert_eq!((back.touched, back.changed, back.reported), (all.touched, all.changed, all.reported));
        prop_assert_eq!((back.cancel_refused, back.counted), (all.cancel_refused, all.counted));
    }

    #[test]
    fn random_bytes_never_panic_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut first = bytes.clone();
        if let Some(version) = first.first_mut() {
            *version = 1;
        }
        for bytes in [&bytes, &first] {
            let _ = JobRecord::from_bytes(bytes);
            let _ = Ended::from_bytes(bytes);
            let _ = Appended::from_bytes(bytes);
            let _ = Event::from_bytes(bytes);
            let _ = Answer::from_bytes(bytes);
            let _ = JobKey::from_bytes(bytes);
        }
    }

    #[test]
    fn a_jobs_key_reads_back_as_written(tenant in "[a-z0-9][a-z0-9_-]{0,62}", id in any::<u128>()) {
        let key = JobKey { tenant, job_id: uuid::Uuid::from_u128(id) };
        let bytes = key.to_bytes();
        prop_assert_eq!(JobKey::from_bytes(&bytes), Some(key));
        prop_assert_eq!(JobKey::from_bytes(&bytes[..16]), None);
    }
}

#[test]
fn an_empty_record_cannot_be_decoded_and_the_error_shows_no_content() {
    assert_eq!(JobRecord::from_bytes(&[]), Err(Undecodable { what: "job", version: None }));
    let error = Answer::from_bytes(b"\x07planted").unwrap_err().to_string();
    assert_eq!(error, "a answer record cannot be decoded (version byte Some(7))");
}

#[test]
fn a_time_is_formatted_as_rfc_3339_in_utc_with_milliseconds() {
    assert_eq!(At(1_795_341_600_007).to_rfc3339(), "2026-11-22T10:00:00.007Z");
    assert_eq!(At(i64::MAX).to_rfc3339(), "9999-12-30T22:00:00.999Z", "never empty");
    assert_eq!(At(i64::MAX).plus(Duration::MAX), At(i64::MAX));
    assert_eq!((At(5).since(At(9)), At(9).since(At(5))), (Duration::ZERO, Duration::from_millis(4)));
    assert_eq!(At(i64::MIN).since(At(i64::MAX)), Duration::ZERO);
}

#[test]
fn an_unproven_absence_of_an_earlier_release_is_read_and_proves_nothing() {
    let vouched = Answer::Missing(Absence::vouched());
    let bytes = vouched.to_bytes();
    let mut unvouched = bytes.clone();
    *unvouched.last_mut().unwrap() = 0;
    let read = Answer::from_bytes(&unvouched).unwrap();
    assert_eq!((read.to_bytes(), read.believed()), (unvouched, Answer::Unclear(Reason::Unproven)));
    assert_eq!(Answer::from_bytes(&bytes).unwrap().believed(), vouched);
}

#[test]
fn a_copy_of_an_earlier_release_is_read_without_a_standstill() {
    let carried: Carried = serde_json::from_str(r#"{"seq":3,"lasting":{"touched":[1],"told":[2,"overdue"]}}"#).unwrap();
    let lasting = Lasting { touched: [1].into(), reported: Some((2, Deadline::Overdue)), ..Lasting::default() };
    assert_eq!(carried, Carried { seq: 3, lasting, stands: Standstill::default() });
}
