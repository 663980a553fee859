//! The causes that close a system and open it again, and the log lines.

use uuid::Uuid;

use super::*;

const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(30);

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, Reason::SystemUnavailable)
}

fn job(number: u128) -> JobKey {
    JobKey { tenant: "acme".to_owned(), job_id: Uuid::from_u128(number) }
}

/// The log lines over this time, with their seconds.
fn lines(trouble: &mut Trouble, began: Instant, seconds: u64) -> Vec<(u64, Option<ImpairmentKind>)> {
    let mut lines = Vec::new();
    let mut now = began;
    loop {
        if let Some(line) = trouble.line(now) {
            lines.push(((now - began).as_secs(), line.map(|first| first.what)));
        }
        match trouble.next_look(now) {
            Some(at) if at <= began + Duration::from_secs(seconds) => now = at.max(now + Duration::from_millis(1)),
            _ => return lines,
        }
    }
}

#[test]
fn a_day_of_silence_is_told_at_once_then_less_and_less_often_and_so_is_its_end() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    let mut limited = failure(FailureKind::RateLimited);
    limited.retry_after = Some(Duration::from_secs(86_400));
    trouble.ended(now, Some(&limited), FIRST, now);
    let lines = lines(&mut trouble, now, 90_000);
    let first: Vec<u64> = lines.iter().take(7).map(|(second, _)| *second).collect();
    assert_eq!(first, [0, 60, 180, 420, 900, 1860, 3780]);
    assert!(lines[..lines.len() - 1].iter().all(|(_, what)| *what == Some(ImpairmentKind::Paused)));
    assert_eq!((lines.last(), lines.len()), (Some(&(86_400, None)), 30));
}

#[test]
fn a_short_pause_is_no_trouble() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    let mut limited = failure(FailureKind::RateLimited);
    limited.retry_after = Some(Duration::from_secs(60));
    trouble.ended(now, Some(&limited), FIRST, now);
    assert!(trouble.impairments(now).is_empty());
    assert!(trouble.closed_until(now).unwrap().is_some());
}

#[test]
fn failures_in_a_row_ask_for_a_harmless_read_which_alone_says_that_the_system_is_in_trouble() {
    for kind in [FailureKind::Unavailable, FailureKind::Ambiguous, FailureKind::Unreadable] {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for call in 1..=BREAKER_FAILURES {
            trouble.ended(now, Some(&failure(kind)), FIRST, now);
            assert_eq!((trouble.is_open(), trouble.is_probe_due(now)), (call == 5, call == 5), "{kind:?}");
        }
        assert!(!trouble.is_certain() && trouble.impairments(now).is_empty(), "they may be one job's");
        trouble.probed(now, &Ok(()), (FIRST, EVERY), now);
        assert!(!trouble.is_open() && trouble.closed_until(now).unwrap().is_none());

        trouble.probed(now, &Err(failure(kind)), (FIRST, EVERY), now);
        assert!(trouble.is_open() && trouble.is_certain());
        assert_eq!(trouble.impairments(now)[0].what, ImpairmentKind::Failing);
        assert!(!trouble.is_probe_due(now) && trouble.is_probe_due(now + FIRST), "it is tried again");
        // The pauses grow, up to half a minute.
        let mut at = now;
        for _ in 0..10 {
            at = trouble.next_look(at).unwrap().max(at + FIRST);
            trouble.probed(at, &Err(failure(kind)), (FIRST, EVERY), at);
        }
        assert_eq!(trouble.closed_until(at).unwrap(), Some(at + BREAKER_LONGEST));
    }
}

#[test]
fn calls_that_were_under_way_together_put_off_no_harmless_read() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    for _ in 0..40 {
        trouble.ended(now, Some(&failure(FailureKind::Unreadable)), FIRST, now);
    }
    assert!(trouble.is_probe_due(now));
    assert_eq!(trouble.closed_until(now).unwrap(), Some(now + FIRST));
}

#[test]
fn a_refusal_holds_a_system_only_where_a_harmless_read_is_refused_too() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    let refused = failure(FailureKind::UnauthorisedOurs);
    trouble.ended(now, Some(&refused), FIRST, now);
    assert!(trouble.hold().is_none() && trouble.closed_until(now).unwrap().is_some(), "nobody calls until it is known");
    trouble.probed(now, &Ok(()), (FIRST, EVERY), now);
    assert!(trouble.hold().is_none() && trouble.closed_until(now).unwrap().is_none());
    trouble.ended(now, Some(&refused), FIRST, now);
    trouble.probed(now, &Err(refused.clone()), (FIRST, EVERY), now);
    assert!(trouble.hold().is_some() && trouble.is_certain());
    // A system that does not answer is held as well.
    let later = now + EVERY;
    assert!(trouble.is_probe_due(later));
    trouble.probed(later, &Err(failure(FailureKind::Unavailable)), (FIRST, EVERY), later);
    assert_eq!(trouble.impairments(later)[0].lasts, EVERY);
    trouble.probed(later, &Ok(()), (FIRST, EVERY), later);
    assert!(trouble.hold().is_none() && trouble.impairments(later).is_empty());
}

#[test]
fn a_call_that_began_before_says_nothing_of_the_time_after() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    let later = now + FIRST;
    trouble.ended(now, None, FIRST, later);
    assert_eq!(trouble.works_since(later, later), None);
    trouble.ended(later, None, FIRST, later);
    assert_eq!(trouble.works_since(later, later), Some(true));
    trouble.probed(later + FIRST, &Err(failure(FailureKind::Unavailable)), (FIRST, EVERY), later + FIRST);
    assert_eq!(trouble.works_since(later + FIRST, later + FIRST), Some(false));
    assert_eq!(trouble.works_since(later + EVERY, later + EVERY), None);
}

#[test]
fn a_step_that_fails_for_one_job_after_another_fails_for_all_until_it_goes_well_for_one() {
    let (mut trouble, now) = (Trouble::default(), Instant::now());
    let step = StepName::DeleteMember;
    for number in [1, 1, 1, 2, 2, 1] {
        trouble.step_failed(step, &job(number), &failure(FailureKind::Unavailable), now);
        assert!(!trouble.fails_for_all(step), "two persons are not everybody");
    }
    trouble.step_failed(step, &job(3), &failure(FailureKind::Unavailable), now);
    assert!(trouble.fails_for_all(step) && !trouble.fails_for_all(StepName::Resolve));
    assert_eq!(trouble.impairments(now)[0].what, ImpairmentKind::StepFailing);
    trouble.step_works(step);
    assert!(!trouble.fails_for_all(step) && trouble.impairments(now).is_empty());
}

#[test]
fn what_speaks_of_a_person_is_never_everybodys() {
    let of_a_person = [
        (FailureKind::Rejected, Reason::WrongPassword),
        (FailureKind::Refused, Reason::ActiveEntitlement),
        (FailureKind::UnauthorisedTheirs(crate::job::InputKind::Otp), Reason::InputRefused),
    ];
    for (kind, reason) in of_a_person {
        assert!(!may_be_everybodys(&Failure::new(kind, reason)));
    }
    assert!(may_be_everybodys(&Failure::new(FailureKind::Rejected, Reason::RequestRejected)));
}
