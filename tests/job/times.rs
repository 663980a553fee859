//! Times: every form of RFC 3339 is read, every other form and every impossible time is refused.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::jobs::{self, bad, bare, good, one, with};

const NOW: &str = "2026-11-22T10:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn requested(text: &str) -> Value {
    with(&one(jobs::easycms()), "/requested_at", Some(text.into()))
}

#[test]
fn every_rfc_3339_form_of_a_time_is_read_as_the_same_moment() {
    let seconds = [
        ("2026-11-22T10:00:00", "2026-11-22T10:00:00Z"),
        ("2026-11-22t10:00:00", "2026-11-22T10:00:00Z"),
        ("2026-11-22T10:00:00.5", "2026-11-22T10:00:00.5Z"),
        ("2026-11-22T10:00:00.123456789", "2026-11-22T10:00:00.123456789Z"),
        ("2026-11-22T10:00:00.1234567899", "2026-11-22T10:00:00.123456789Z"),
        ("2026-11-22T10:00:00.99999999999999999999", "2026-11-22T10:00:00.999999999Z"),
    ];
    let offsets =
        [("Z", 0), ("z", 0), ("+00:00", 0), ("-00:00", 0), ("+23:59", 1439), ("-23:59", -1439), ("+05:45", 345)];
    for (text, moment) in seconds {
        for (offset, minutes) in offsets {
            let expected = at(moment) - SignedDuration::from_mins(minutes);
            assert_eq!(good(&requested(&format!("{text}{offset}"))).requested_at, expected, "{text}{offset}");
        }
    }
}

#[test]
fn a_leap_second_is_accepted_only_at_a_possible_place() {
    for (text, before) in [
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999999Z"),
        ("2015-07-01T01:59:60.25+02:00", "2015-06-30T23:59:59.999999999Z"),
        ("2016-12-31T15:59:60-08:00", "2016-12-31T23:59:59.999999999Z"),
    ] {
        assert_eq!(good(&requested(text)).requested_at, at(before), "{text}");
    }
    let form = "requested_at: expected an RFC 3339 time with an offset, such as 2026-11-22T10:00:00Z";
    for hour in 0..24 {
        for minute in 0..60 {
            let text = format!("2026-11-22T{hour:02}:{minute:02}:60Z");
            assert_eq!(bad(&requested(&text)), form, "{text}");
        }
    }
    for text in ["2016-12-31T23:59:60+01:00", "2016-11-30T23:59:60Z", "2016-12-31T23:59:61Z"] {
        assert_eq!(bad(&requested(text)), form, "{text}");
    }
    for hours in 24..100 {
        for sign in ["+", "-"] {
            let text = format!("2026-11-22T10:00:00{sign}{hours}:00");
            assert_eq!(bad(&requested(&text)), form, "{text}");
        }
    }
    for minutes in 60..100 {
        assert_eq!(bad(&requested(&format!("2026-11-22T10:00:00+01:{minutes}"))), form, "{minutes}");
    }
}

/// A job's fields of times, and their names in an error.
fn places() -> [(&'static str, &'static str); 5] {
    [
        ("/requested_at", "requested_at"),
        ("/due_at", "due_at"),
        ("/confirmation/confirmed_at", "confirmation.confirmed_at"),
        ("/targets/1/confirmation/confirmed_at", "targets[1].confirmation.confirmed_at"),
        ("/targets/1/codes/0/redeemed_at", "targets[1].codes[0].redeemed_at"),
    ]
}

#[test]
fn a_time_before_2000_or_too_far_ahead_of_the_clock_is_refused_in_every_field() {
    let mut job = bare(json!([jobs::cleeng(), jobs::vitalsource()]));
    job["due_at"] = NOW.into();
    job["confirmation"] = json!({ "confirmed_at": NOW });
    job["targets"][1]["confirmation"] = json!({ "confirmed_at": NOW });
    let nanosecond = SignedDuration::from_nanos(1);
    let day = SignedDuration::from_hours(24);
    let first = at("2000-01-01T00:00:00Z");
    let mut cases = 0;
    for now in [at(NOW), at("2031-02-28T23:59:59Z"), at("2026-11-21T10:00:00Z")] {
        for (pointer, path) in places() {
            let says = |time: Timestamp| {
                let job = good(&with(&job, pointer, Some(time.to_string().into())));
                job.check_times(now).err().map(|invalid| (invalid.path, invalid.expected))
            };
            let most = if path == "due_at" { day * 3653 } else { day };
            for time in [first, now, now + most] {
                assert_eq!(says(time), None, "{path} {time} at {now}");
            }
            for (time, word) in [(first - nanosecond, "2000"), (now + most + nanosecond, "ahead")] {
                let (field, expected) = says(time).unwrap();
                assert!(field == path && expected.contains(word), "{path} {time} at {now}: {field}: {expected}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 30);
}
